"""Where buckets begin: days, hours, weeks and months in time zones whose clocks are set."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_money import month_of

from datamanager import DataManager, InvalidDataError, windows

ALL_ZONES = sorted(available_timezones())
HOUR = 3600.0


def moment(zone: str, *local: int) -> float:
    return datetime(*local, tzinfo=ZoneInfo(zone)).timestamp()  # type: ignore[misc, arg-type]


def edges(by: Any, zone: str | tzinfo, start: float, end: float) -> list[float]:
    return windows.edges(by, None, zone, start, end, lambda: (None, None))


def hours(edges: list[float]) -> list[float]:
    return [(high - low) / HOUR for low, high in pairwise(edges)]


@pytest.mark.parametrize(
    ("zone", "first", "lengths"),
    [
        ("Europe/Berlin", (2024, 3, 30), [24, 23, 24]),
        ("Europe/Berlin", (2024, 10, 26), [24, 25, 24]),
        ("America/New_York", (2024, 3, 9), [24, 23, 24]),
        ("America/New_York", (2024, 11, 2), [24, 25, 24]),
        ("Australia/Lord_Howe", (2024, 10, 5), [24, 23.5, 24]),
        ("Australia/Lord_Howe", (2024, 4, 6), [24, 24.5, 24]),
        ("America/Sao_Paulo", (2018, 11, 3), [24, 23, 24]),  # from 0:00 to 1:00
        ("America/Sao_Paulo", (2018, 2, 16), [24, 25, 24]),  # from 24:00 back to 23:00
        ("Asia/Kolkata", (2024, 3, 30), [24, 24, 24]),
        ("UTC", (2024, 3, 30), [24, 24, 24]),
        ("Pacific/Apia", (2011, 12, 28), [24, 24, 24]),  # 29, then 31: there was no 30th
    ],
)
def test_lengths_of_days(zone: str, first: tuple[int, ...], lengths: list[float]) -> None:
    start = moment(zone, *first)
    seen = edges("day", zone, start, start + sum(lengths) * HOUR)
    assert hours(seen) == lengths
    assert edges("day", zone, start + 1, seen[-1] - 1) == [start + 1, *seen[1:-1], seen[-1] - 1]


@pytest.mark.parametrize(
    ("zone", "first", "lengths"),
    [
        ("Europe/Berlin", (2024, 3, 31), [1] * 23),
        ("Europe/Berlin", (2024, 10, 27), [1] * 25),
        ("Australia/Lord_Howe", (2024, 10, 6), [1, 1, 0.5, *[1] * 21]),  # 2:00 becomes 2:30
        ("Australia/Lord_Howe", (2024, 4, 7), [1, 1.5, *[1] * 22]),  # 2:00 becomes 1:30
        ("America/Caracas", (2016, 5, 1), [1, 1, 0.5, *[1] * 21]),  # 2:30 becomes 3:00
        ("Asia/Kathmandu", (1986, 1, 1), [0.75, *[1] * 23]),  # 0:00 becomes 0:15
        ("America/Sao_Paulo", (2018, 11, 4), [1] * 23),
        ("Asia/Kolkata", (2024, 3, 31), [1] * 24),
    ],
)
def test_lengths_of_hours(zone: str, first: tuple[int, ...], lengths: list[float]) -> None:
    start = moment(zone, *first)
    assert hours(edges("hour", zone, start, start + sum(lengths) * HOUR)) == lengths


def label(by: str, zone: ZoneInfo, moment: float) -> tuple[int, ...]:
    local = datetime.fromtimestamp(moment, zone)
    if by == "week":
        return tuple(local.isocalendar())[:2]
    return (local.year, local.month, local.day, local.hour)[: {"month": 2, "day": 3, "hour": 4}[by]]


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(ALL_ZONES),
    st.sampled_from(["hour", "day", "week", "month"]),
    st.integers(0, 2**31 - 2**23),
    st.integers(1, 300),
)
def test_a_bucket_has_one_label(name: str, by: str, start: int, length: int) -> None:
    """The clock shows the same hour, day, week or month all through a bucket, and then another."""
    zone, step = ZoneInfo(name), {"hour": 600, "day": 3600, "week": 8 * 3600, "month": 86400}[by]
    end = start + length * step
    seen = edges(by, zone, start, end)
    assert (seen[0], seen[-1]) == (start, end)
    shown = [label(by, zone, edge) for edge in seen[:-1]]
    for (low, high), inside in zip(pairwise(seen), shown, strict=True):
        assert low < high
        for moment in [*range(math.ceil(low), math.ceil(high), step), math.ceil(high) - 1]:
            at = label(by, zone, moment)
            # Where midnight comes twice, what is between belongs to the new day.
            assert at == inside or (by != "hour" and at < inside)
    for edge, (before, after) in zip(seen[1:], pairwise(shown), strict=False):
        full = datetime.fromtimestamp(edge, zone).strftime("%M%S") == "0000"
        assert before < after or (by == "hour" and (full or before > after))


class Asked(tzinfo):
    """UTC, and how often it was asked."""

    times = 0

    def utcoffset(self, at: datetime | None) -> timedelta:
        self.times += 1
        return timedelta(0)

    def dst(self, at: datetime | None) -> timedelta:
        return timedelta(0)


@pytest.mark.parametrize("by", ["hour", "day"])
def test_one_odd_time_is_refused_at_once(by: str) -> None:
    """Milliseconds that were taken for seconds, among the data."""
    zone = Asked()
    with pytest.raises(InvalidDataError, match="more than 1000000 buckets"):
        windows.edges(by, None, zone, None, None, lambda: (1.7e9, 1.7e12))
    assert zone.times < 100


def test_half_a_century_of_hours_is_counted() -> None:
    zone = Asked()
    assert len(edges("hour", zone, 1.0, 18_000 * 86400.0)) == 18_000 * 24 + 1
    assert zone.times < 5 * 18_000


def test_as_many_buckets_as_there_may_be() -> None:
    for by, step, most in (("hour", 3600, 1_000_000), (10, 10, 1_000_000)):
        assert len(edges(by, "Europe/Berlin", 0.0, float(most * step))) == most + 1
        with pytest.raises(InvalidDataError, match="more than 1000000 buckets"):
            edges(by, "Europe/Berlin", 0.0, float((most + 2) * step))


def test_the_hour_in_which_the_data_begin() -> None:
    """Without a start the first bucket begins where its hour does, set clocks or not."""

    def first(zone: str, at: float) -> float:
        return windows.edges("hour", None, zone, None, None, lambda: (at, at))[0]

    howe = "Australia/Lord_Howe"
    back, ahead = moment(howe, 2024, 4, 7, 2), moment(howe, 2024, 10, 6, 2)
    assert first(howe, back - 1800 + 600) == back - 5400  # 1:40, for the second time
    assert first(howe, ahead + 60) == ahead  # 2:31, a minute after 1:59
    assert first("Asia/Kolkata", 1_700_000_000.5) == 1_699_997_400.0
    assert first("UTC", math.nextafter(7200, 0)) == 3600.0


@pytest.mark.parametrize("by", ["hour", "day", "week", "month", 0.1, 0.7, 3.0])
def test_the_first_record_is_in_the_first_bucket(by: Any) -> None:
    """Also where rounding would put it behind the edge that is nearest to it."""
    for edge in (17 * 0.1, 5 * 0.7, 7200.0, 86400.0 * 31, 0.7 * 3e9, 1_711_929_600.0):
        for at in (math.nextafter(edge, 0), edge, math.nextafter(edge, math.inf)):
            seen = windows.edges(by, None, "UTC", None, None, lambda at=at: (at, at))
            assert seen[0] <= at < seen[-1]
            assert len(seen) <= 3


def test_months_and_weeks() -> None:
    start, end = moment("Europe/Berlin", 2023, 12, 15), moment("Europe/Berlin", 2024, 4, 2)
    months = [moment("Europe/Berlin", 2024, month, 1) for month in (1, 2, 3, 4)]
    assert edges("month", "Europe/Berlin", start, end) == [start, *months, end]
    weeks = edges("week", "Europe/Berlin", start, end)
    days = [datetime.fromtimestamp(edge, ZoneInfo("Europe/Berlin")) for edge in weeks[1:-1]]
    assert {(day.weekday(), day.hour) for day in days} == {(0, 0)}
    assert len(days) == 16


def test_kinds_of_zones() -> None:
    start = moment("Asia/Kolkata", 2024, 5, 1)
    wanted = edges("day", "Asia/Kolkata", start, start + 86400 * 3)
    fixed = timezone(timedelta(hours=5, minutes=30))
    for zone in (ZoneInfo("Asia/Kolkata"), fixed):
        assert edges("day", zone, start, start + 86400 * 3) == wanted


@pytest.mark.parametrize("anchor", [None, 1, 15, 29, 30, 31])
@pytest.mark.parametrize("zone", ["UTC", "America/Sao_Paulo", "Pacific/Apia"])
def test_billing_periods(zone: str, anchor: int | None) -> None:
    first, last = moment(zone, 2011, 11, 3), moment(zone, 2012, 3, 30)
    day = None if anchor is None else date(2000, 1, anchor)
    begins = windows.billing_periods(zone, day, first, last)
    assert begins[0] <= first and begins[-1] <= last
    for at in [*begins[1:], *(begin - 1 for begin in begins[1:]), first, last]:
        number = sum(begin <= at for begin in begins)
        assert month_of(at, ZoneInfo(zone), anchor or 1) == number + month_of(
            begins[0] - 1, ZoneInfo(zone), anchor or 1
        )


def test_seconds_and_parts() -> None:
    assert edges(7, "UTC", 0.0, 20.0) == [0.0, 7.0, 14.0, 20.0]
    assert windows.edges(7, None, "UTC", None, 20.0, lambda: (8.0, 30.0)) == [7.0, 14.0, 20.0]
    assert windows.edges(None, 4, "UTC", 0.0, 2.0, lambda: (None, None)) == [0, 0.5, 1, 1.5, 2]
    assert windows.edges(None, 2, "UTC", None, None, lambda: (5.0, 5.0)) == [5.0, 5.5, 6.0]
    for number in (numpy.int64, numpy.uint8):
        assert edges(number(7), "UTC", 0.0, 20.0) == [0.0, 7.0, 14.0, 20.0]
        parts = windows.edges(None, number(2), "UTC", 0.0, 1.0, lambda: (None, None))  # type: ignore[arg-type]
        assert parts == [0.0, 0.5, 1.0] and {type(edge) for edge in parts} == {float}
    assert windows.edges(None, None, "UTC", None, None, lambda: (5.0, 5.0)) == [
        -math.inf,
        math.inf,
    ]


def test_a_window_before_all_data(dm: DataManager) -> None:
    dm.add_model_request("m", [1000.0, 1, 1, 0, 1])
    for question in ({"by": "day"}, {"by": 10}, {"buckets": 3}, {}):
        table = dm.usage("m", end=500, tz="UTC", **question)  # type: ignore[arg-type]
        assert table.total.requests == 0 and table.total.end == 500.0


NOT_A_STEP = "by must be 'hour', 'day', 'week', 'month' or seconds above 0, not "
NOT_A_MOMENT = "must be seconds since 1970 or a datetime, not "


@pytest.mark.parametrize(
    ("question", "message"),
    [
        *(
            ({"by": value}, NOT_A_STEP + str(value))
            for value in (0, -1, math.nan, math.inf, True, {})
        ),
        ({"by": "year"}, NOT_A_STEP + "'year'"),
        ({"by": 10**400}, NOT_A_STEP + "1000"),
        ({"by": 1e-5, "start": 0, "end": 11}, "more than 1000000 buckets"),
        ({"by": 1e-9, "start": 1e9, "end": 1e9 + 1}, "more than 1000000 buckets"),
        (
            {"by": "hour", "tz": "UTC", "start": 0, "end": 1e15},
            "buckets .* to 1000000000000000.0: a",
        ),
        ({"by": 1, "buckets": 2}, "by and buckets exclude each other"),
        *(
            ({"buckets": value}, f"buckets must be a whole number from 1 to 1000000, not {value}")
            for value in (0, -1, 1.0, True, 1_000_001)
        ),
        ({"buckets": 9, "start": 1e9, "end": 1e9 + 2**-22}, "9 buckets are too many for"),
        ({"minutes": "60"}, "minutes must be a finite number of at least 0, not '60'"),
        ({"minutes": -1}, "minutes must be .* not -1"),
        ({"minutes": math.nan}, "minutes must be .* not nan"),
        ({"minutes": True}, "minutes must be .* not True"),
        ({"minutes": 1, "start": 5}, "minutes and start or end exclude each other"),
        ({"minutes": 1e12, "by": "day"}, "there is no date at -"),
        ({"start": 1e18, "by": "day"}, r"there is no date at 1e\+18 seconds since 1970"),
        *(({"start": value}, f"start {NOT_A_MOMENT}{value}") for value in (-1, math.nan, True)),
        ({"end": "now"}, f"end {NOT_A_MOMENT}'now'"),
        ({"end": 10**400}, f"end {NOT_A_MOMENT}1000"),
        ({"start": 6, "end": 5}, "end 5.0 must be after start 6.0"),
        ({"start": 5, "end": 5}, "end 5.0 must be after start 5.0"),
        *(
            ({"tz": value}, f"tz must be the name of a time zone, not '{value}'")
            for value in ("Europe/Nowhere", "", "Europe")
        ),
        ({"tz": 2}, "tz must be a name, a tzinfo or None, not 2"),
        ({"strategy": "free"}, "strategy must be 'graduated', 'volume' or .*, not 'free'"),
        ({"strategy": 5}, "strategy must be .*, not 5"),
        ({"prices": "old"}, "prices must be 'historical' or 'current', not 'old'"),
        ({"billing_anchor": 31}, "billing_anchor must be a date or None, not 31"),
        ({"models": 5}, "models must be a name, several names or None, not 5"),
        ({"models": [5]}, r"model_name must be a str, not 5$"),
        ({"models": ["m", "m"]}, "models must not name a model twice: 'm'"),
    ],
)
def test_refused(dm: DataManager, question: dict[str, Any], message: str) -> None:
    dm.add_model_request("m", [1000.0, 1, 1, 0, 1])
    with pytest.raises(InvalidDataError, match=message):
        dm.usage(**({"models": "m"} | question))


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"at": -1}, f"at {NOT_A_MOMENT}-1"),
        ({"at": "now"}, f"at {NOT_A_MOMENT}'now'"),
        ({"strategy": ""}, "strategy must be .*, not ''"),
        ({"strategy": "cumulative", "at": 1e300}, r"there is no date at 1e\+300 seconds"),
        ({"billing_anchor": "31"}, "billing_anchor must be a date or None, not '31'"),
        ({"input_tokens": -5}, "input_tokens must be a whole number .*, not -5"),
    ],
)
def test_cost_refuses(dm: DataManager, question: dict[str, Any], message: str) -> None:
    dm.set_pricing("m", hourly_price=1.0)
    asked: dict[str, Any] = {"input_tokens": 1, "output_tokens": 1} | question
    with pytest.raises(InvalidDataError, match=message):
        dm.cost("m", **asked)


@pytest.mark.parametrize("days", [-1, "7", None, math.inf, True])
def test_analyze_refuses(dm: DataManager, days: Any) -> None:
    dm.set_pricing("m", hourly_price=1.0)
    with pytest.raises(InvalidDataError, match=f"days must be a finite number .*, not {days!r}"):
        dm.analyze("m", days)


def test_times_that_no_calendar_has(dm: DataManager) -> None:
    """Of another program: they are counted, billed and printed; but they have no date."""
    dm.set_pricing("m", tiers=[[1, 0, 0, 1e6, 0, False, 0]], strategy="cumulative")
    dm.add_model_requests("m", [[1000.0, 1, 0, 0, 1], [1e9, 1, 0, 0, 1]])
    with closing(sqlite3.connect(dm.db_path)) as other, other:
        other.execute(
            f"UPDATE {dm.get_safe_model_name('m')}_requests SET timestamp = 1e300 WHERE id = 2"
        )
    assert dm.usage("m")[0].cost == 2.0
    assert "e+299" in str(dm.usage("m", buckets=3))
    with pytest.raises(InvalidDataError, match="more than 1000000 buckets"):
        dm.usage("m", by="day")


EDGES = [
    (datetime.min, r"datetime\.datetime\(1, 1, 1, 0, 0\)"),
    (datetime.max.replace(fold=1), r"datetime\.datetime\(9999, 12, 31, .*\)"),
]


@pytest.mark.parametrize(("edge", "shown"), EDGES)
@pytest.mark.parametrize("field", ["start", "end"])
def test_where_the_calendar_ends(
    dm: DataManager, tmp_path: Path, edge: datetime, shown: str, field: str
) -> None:
    dm.add_model_request("m", [1000, 1, 2, 3, 4])
    asked: Any = {field: edge}
    for call in (
        lambda: dm.usage(**asked),
        lambda: dm.invoice(**asked),
        lambda: dm.performance(**asked),
        lambda: dm.get_status(**asked),
        lambda: dm.export(tmp_path / "a.csv", **asked),
        lambda: dm.get_model_requests("m", **asked),
        lambda: dm.get_model_runtime("m", **asked),
    ):
        with pytest.raises(InvalidDataError, match=f"^{field} is too near an end of .*: {shown}$"):
            call()


def test_before_the_first_day_of_all(dm: DataManager) -> None:
    dm.add_model_request("m", [1000, 1, 2, 3, 4])
    for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
        assert dm.prune(date.min, tz=zone).total.requests == 0
    with pytest.raises(InvalidDataError, match=r"^before is too near .*: datetime"):
        dm.prune(date.min)


@pytest.mark.parametrize("at", [datetime(1, 1, 5), datetime(9999, 12, 30)])
def test_billing_periods_where_the_calendar_ends(dm: DataManager, at: datetime) -> None:
    dm.add_model_request("m", [1000, 1, 2, 3, 4])
    dm.set_billing_strategy("m", "cumulative")
    assert dm.usage(start=datetime(1, 1, 5)).total.requests == 1
    assert dm.cost("m", 1, 1, at=at).cost == 0


def test_utc_text() -> None:
    assert windows.utc_text(datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC).timestamp()) == (
        "2024-02-29T23:59:59Z"
    )
