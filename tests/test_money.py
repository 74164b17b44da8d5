"""Money through a store: worked cases, and everything at once against the oracle."""

from __future__ import annotations

from array import array
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, Inexact, Rounded, localcontext
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_money import (
    HIGH,
    LOW,
    STRATEGIES,
    Bill,
    Prices,
    Request,
    by_slices,
    exact,
    month_of,
    nearest,
    oracle,
    price,
    prices_at,
    tariffs,
)

from datamanager import DataManager, TierPricing, UsageRow

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2024, 5, 15, 12, tzinfo=UTC).timestamp()

# ---- worked cases ----

DESIGN = [LOW, HIGH]
NO_CACHE = [LOW.__replace__(support_cache=False), HIGH]
GAP = [TierPricing(1, 0, 100, 2, 8, True, 0.4), TierPricing(2, 200, 300, 4, 16, True, 0.8)]
LATE = [TierPricing(1, 100, 0, 2, 8, True, 0.4)]
UNBOUNDED = [TierPricing(1, 0, 0, 2, 8, False, 0.4)]
FREE = [TierPricing(1, 0, 1000, 0, 0, False, 0), TierPricing(2, 1000, -1, 2, 8, False, 0)]
UNSORTED = [
    TierPricing(1, 32768, 131072, 4, 16, True, 0.8),
    TierPricing(9, 0, 32768, 2, 8, True, 0.4),
]

# tiers, strategy, (input, output, hits), cost in currency units
CASES: list[tuple[str, list[TierPricing], str, tuple[int, int, int], str]] = [
    # 10,000 x 0.4 + 22,768 x 2 + 7,232 x 4 in, 1,000 x 8 out
    ("design graduated", DESIGN, "graduated", (40_000, 1000, 10_000), "0.086464"),
    # 10,000 x 0.8 + 30,000 x 4 in, 1,000 x 16 out
    ("design volume", DESIGN, "volume", (40_000, 1000, 10_000), "0.144"),
    ("nothing used", DESIGN, "graduated", (0, 0, 0), "0"),
    ("one token", DESIGN, "graduated", (1, 0, 0), "0.000002"),
    ("first tier but one", DESIGN, "graduated", (32_767, 0, 0), "0.065534"),
    ("first tier full", DESIGN, "graduated", (32_768, 0, 0), "0.065536"),
    ("second tier begins", DESIGN, "graduated", (32_769, 0, 0), "0.06554"),
    ("last tier but one", DESIGN, "graduated", (131_071, 0, 0), "0.458748"),
    ("last tier full", DESIGN, "graduated", (131_072, 0, 0), "0.458752"),
    ("above the last tier", DESIGN, "graduated", (131_073, 0, 0), "0.458756"),
    ("output first tier full", DESIGN, "graduated", (0, 32_768, 0), "0.262144"),
    ("output second tier begins", DESIGN, "graduated", (0, 32_769, 0), "0.26216"),
    ("output last tier full", DESIGN, "graduated", (0, 131_072, 0), "1.835008"),
    ("output above the last tier", DESIGN, "graduated", (0, 131_073, 0), "1.835024"),
    ("volume first tier full", DESIGN, "volume", (32_768, 10, 0), "0.065616"),
    ("volume second tier begins", DESIGN, "volume", (32_769, 10, 0), "0.131236"),
    ("volume last tier full", DESIGN, "volume", (131_072, 0, 0), "0.524288"),
    ("volume above the last tier", DESIGN, "volume", (131_073, 0, 0), "0.524292"),
    ("volume without input", DESIGN, "volume", (0, 1000, 0), "0.008"),
    ("hits above the input", DESIGN, "graduated", (10, 0, 50), "0.000004"),
    ("volume hits above the input", DESIGN, "volume", (10, 0, 50), "0.000004"),
    ("all hits across an edge", DESIGN, "graduated", (32_778, 0, 32_778), "0.0131152"),
    # the first tier has no price for hits: 2 of the 5 find room in the second, 3 pay as input
    ("hits of one tier", NO_CACHE, "graduated", (32_770, 0, 5), "0.0655376"),
    ("hits of no tier", UNBOUNDED, "graduated", (10, 0, 10), "0.00002"),
    ("volume hits of no tier", NO_CACHE, "volume", (10, 0, 10), "0.00002"),
    ("before the gap", GAP, "graduated", (100, 0, 0), "0.0002"),
    ("in the gap", GAP, "graduated", (150, 0, 0), "0.0002"),
    ("behind the gap", GAP, "graduated", (250, 0, 0), "0.0004"),
    ("output behind the gap", GAP, "graduated", (0, 201, 0), "0.000816"),
    ("hits pass over the gap", GAP, "graduated", (250, 0, 120), "0.000176"),
    ("volume in the gap", GAP, "volume", (200, 9, 0), "0"),
    ("volume behind the gap", GAP, "volume", (201, 0, 0), "0.000804"),
    ("below the first tier", LATE, "graduated", (100, 100, 0), "0"),
    ("into the first tier", LATE, "graduated", (150, 0, 0), "0.0001"),
    ("volume below the first tier", LATE, "volume", (100, 7, 0), "0"),
    ("volume without input, late tier", LATE, "volume", (0, 10, 0), "0.00008"),
    ("one unbounded tier", UNBOUNDED, "graduated", (2**53, 2**53, 0), "90071992547.40992"),
    ("one unbounded tier, volume", UNBOUNDED, "volume", (10**9, 0, 0), "2000"),
    ("in the free tier", FREE, "graduated", (1000, 1000, 0), "0"),
    ("above the free tier", FREE, "graduated", (1500, 1001, 0), "0.001008"),
    ("volume above the free tier", FREE, "volume", (1500, 1000, 0), "0.011"),
    ("inserted out of order", UNSORTED, "graduated", (40_000, 1000, 10_000), "0.086464"),
    ("no tiers", [], "graduated", (40_000, 1000, 10_000), "0"),
    ("no tiers, volume", [], "volume", (40_000, 1000, 10_000), "0"),
]


def told(row: Any) -> tuple[str, float]:
    return str(row.cost_exact), row.cost


@pytest.mark.parametrize(
    ("tiers", "strategy", "tokens", "wanted"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_a_request(
    dm: DataManager,
    tiers: list[TierPricing],
    strategy: Any,
    tokens: tuple[int, int, int],
    wanted: str,
) -> None:
    dm.set_billing_strategy("m", strategy)
    for tier in tiers:
        dm.add_tier_pricing("m", tier)
    dm.add_model_request("m", Request(NOON, *tokens).row)
    assert told(dm.usage("m")[0]) == (wanted, float(wanted))
    assert told(dm.usage("m")[0]) == told(dm.usage("m").total)
    assert told(dm.cost("m", *tokens)) == (wanted, float(wanted))
    assert nearest(oracle(tiers, tokens, strategy, (0, 0))) == float(wanted)
    other = next(name for name in STRATEGIES if name != strategy)
    dm.set_billing_strategy("m", other, effective_from=0)
    assert told(dm.usage("m", strategy=strategy)[0])[0] == wanted  # a question's own
    assert told(dm.cost("m", *tokens, strategy=strategy))[0] == wanted


def record(dm: DataManager, *requests: tuple[datetime, int, int, int]) -> None:
    dm.add_model_requests("m", [Request(at.timestamp(), *tokens).row for at, *tokens in requests])


def run(dm: DataManager, begin: datetime, end: datetime) -> None:
    dm.add_model_runtime_start("m", begin.timestamp())
    dm.update_model_runtime_end("m", end.timestamp())


def costs(dm: DataManager, **question: Any) -> list[str]:
    return [str(row.cost_exact) for row in dm.usage("m", **question)]


def test_cumulative(dm: DataManager) -> None:
    """The design's third case, and what it is under the others; the order of insertion is none."""
    dm.set_pricing("m", tiers=DESIGN, strategy="cumulative")
    at = datetime(2024, 5, 15, tzinfo=UTC)
    record(dm, (at, 40_000, 1000, 10_000), (at - timedelta(days=1), 20_000, 500, 0))
    question = {"start": at, "tz": "UTC"}
    assert costs(dm, **question) == ["0.126464"]
    assert costs(dm, **question, strategy="graduated") == ["0.086464"]
    assert costs(dm, **question, strategy="volume") == ["0.144"]
    assert costs(dm, by="day", tz="UTC") == ["0.044", "0.126464"]
    assert str(dm.cost("m", 40_000, 1000, 10_000, at, tz="UTC").cost_exact) == "0.126464"


TEN_THEN_DEARER = [
    TierPricing(1, 0, 10, 1e6, 0, True, 5e5),
    TierPricing(2, 10, 0, 2e6, 0, False, 0),
]


def test_what_is_used_at_once_counts_in_its_order(dm: DataManager) -> None:
    """Ten tokens from the cache and ten that are not: those that came first are the cheap ones."""
    dm.set_pricing("m", tiers=TEN_THEN_DEARER, strategy="cumulative")
    at = datetime(2024, 5, 15, tzinfo=UTC)
    earlier = at - timedelta(days=30)
    record(dm, (at, 10, 0, 10), (at, 10, 0, 0), (earlier, 10, 0, 0), (earlier, 10, 0, 10))
    assert costs(dm, by="month", tz="UTC") == ["30", "25"]


@pytest.mark.parametrize(
    ("before", "cost_before"),
    [({"use_tier_pricing": False}, 0), ({"strategy": "graduated"}, 4), ({"strategy": "volume"}, 4)],
)
def test_what_was_billed_otherwise_counts_in_the_period(
    dm: DataManager, before: Any, cost_before: int
) -> None:
    """The tokens of the period are all that were used in it."""
    dm.set_pricing("m", tiers=TEN_THEN_DEARER, **before)
    change = datetime(2024, 5, 15, tzinfo=UTC)
    dm.set_pricing("m", use_tier_pricing=True, strategy="cumulative", effective_from=change)
    record(dm, (change - timedelta(days=1), 4, 0, 0), (change, 10, 0, 0))
    assert costs(dm, start=change, tz="UTC") == ["14"]  # six at 1 and four at 2
    assert costs(dm, tz="UTC") == [str(14 + cost_before)]
    assert dm.cost("m", 10, 0, at=change, tz="UTC").cost == 14.0


def test_month_rollover(dm: DataManager) -> None:
    """Ten tokens at 1 each, then 2 each; where a month begins, counting does so too."""
    dm.set_pricing(
        "m",
        tiers=TEN_THEN_DEARER,
        strategy="cumulative",
    )
    last = datetime(2024, 1, 31, 23, 59, 59, tzinfo=UTC)
    first = datetime(2024, 2, 1, tzinfo=UTC)
    record(dm, (first, 10, 0, 0), (last, 10, 0, 0), (last, 10, 0, 0), (first, 10, 0, 0))
    assert costs(dm, by="month", tz="UTC") == ["30", "30"]
    assert costs(dm, tz="Europe/Berlin") == ["70"]  # there, all four are in February
    assert costs(dm, tz="America/New_York") == ["70"]  # and there in January
    assert costs(dm, tz="UTC", billing_anchor=date(2020, 7, 31)) == ["70"]
    assert costs(dm, start=first, tz="UTC") == ["30"]
    assert costs(dm, start=first, tz="Europe/Berlin") == ["40"]
    # February has no 31st: its period begins on its 29th, in leap years.
    leap = datetime(2024, 2, 29, tzinfo=UTC)
    record(dm, (leap - timedelta(seconds=1), 10, 0, 0), (leap, 10, 0, 0))
    anchored = {"tz": "UTC", "billing_anchor": date(2020, 7, 31)}
    assert costs(dm, start=leap - timedelta(days=1), end=leap, **anchored) == ["20"]
    assert costs(dm, start=leap, **anchored) == ["10"]


def test_the_first_moment_of_a_period(dm: DataManager) -> None:
    """Nothing is before it in its period, and so nothing has to be asked."""
    dm.set_pricing("m", tiers=DESIGN, strategy="cumulative")
    record(dm, (datetime(2024, 1, 31, tzinfo=UTC), 100_000, 0, 0))
    for at in (datetime(2024, 2, 1, tzinfo=UTC), 0.0):
        assert dm.cost("m", 1, 0, at=at, tz="UTC").cost == 2e-6


def test_more_before_than_a_request_may_have(dm: DataManager) -> None:
    """The tokens of a period are a sum, and so are not bounded as those of a request are."""
    edge = 2**53
    tiers = [TierPricing(1, 0, edge, 0, 0, False, 0), TierPricing(2, edge, 0, 1e6, 2e6, False, 0)]
    dm.set_pricing("m", tiers=tiers, strategy="cumulative")
    at = datetime(2024, 5, 15, tzinfo=UTC)
    record(dm, (at - timedelta(hours=1), edge - 1, 0, 0))
    assert dm.cost("m", 3, 3, at=at, tz="UTC").cost == 2.0
    record(dm, *[(at - timedelta(hours=2), edge, edge, 0)] * 3)
    assert dm.cost("m", 3, 3, at=at, tz="UTC").cost == 9.0
    record(dm, (at, 3, 3, 0))
    assert costs(dm, start=at, tz="UTC") == ["9"]


def test_hourly_over_midnight(dm: DataManager) -> None:
    dm.set_pricing("m", hourly_price=3.6, use_tier_pricing=False)
    run(dm, datetime(2024, 5, 1, 23, 30, tzinfo=UTC), datetime(2024, 5, 2, 0, 45, tzinfo=UTC))
    table = dm.usage("m", by="day", tz="UTC")
    assert [told(row) for row in table] == [("1.8", 1.8), ("2.7", 2.7)]
    assert [row.runtime_seconds for row in table] == [1800.0, 2700.0]
    assert told(table.total) == ("4.5", 4.5)
    assert dm.cost("m", 5, 5) == dm.cost("m", 0, 0)  # no price of a request


@pytest.mark.parametrize(("month", "day", "hours"), [(3, 31, 23), (10, 27, 25), (5, 5, 24)])
def test_hourly_on_days_of_all_lengths(dm: DataManager, month: int, day: int, hours: int) -> None:
    dm.set_pricing("m", hourly_price=0.1, use_tier_pricing=False)
    midnight = datetime(2024, month, day, tzinfo=BERLIN)
    run(dm, midnight - timedelta(days=1), midnight + timedelta(days=2))
    seen = dm.usage("m", start=midnight, end=midnight + timedelta(days=1), by="day", tz=BERLIN)
    assert [told(row) for row in seen] == [(f"{hours / 10:g}", hours / 10)]
    by_hour = dm.usage("m", start=midnight, end=midnight + timedelta(days=1), by="hour", tz=BERLIN)
    assert [told(row) for row in by_hour] == [("0.1", 0.1)] * hours


def test_hourly_rounds_once_a_line(dm: DataManager) -> None:
    """A second at 0.0001 an hour is 2.777...e-8; a total is the sum of its lines."""
    dm.set_pricing("m", hourly_price=0.0001, use_tier_pricing=False)
    begin = datetime(2024, 5, 1, tzinfo=UTC)
    run(dm, begin, begin + timedelta(seconds=3))
    table = dm.usage("m", by=1, end=begin + timedelta(seconds=3))
    assert [row.cost_exact for row in table] == [Decimal("0.000000027778")] * 3
    assert table.total.cost_exact == table.by_model[0].cost_exact == Decimal("0.000000083334")
    assert dm.usage("m").total.cost_exact == Decimal("0.000000083333")


@pytest.mark.parametrize(("halves", "wanted"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (7, 4)])
def test_hourly_rounds_half_to_even(dm: DataManager, halves: int, wanted: int) -> None:
    dm.set_pricing("m", hourly_price=1e-12, use_tier_pricing=False)
    begin = datetime(2024, 5, 1, tzinfo=UTC)
    run(dm, begin, begin + timedelta(hours=halves / 2))
    assert Fraction(dm.usage("m")[0].cost_exact) == Fraction(wanted, 10**12)


def test_a_price_changes_within_the_window(dm: DataManager) -> None:
    change = datetime(2024, 5, 15, 12, tzinfo=UTC)
    dm.set_pricing("m", tiers=[TierPricing(1, 0, 0, 1, 0, False, 0)])
    dm.set_pricing("m", tiers=[TierPricing(1, 0, 0, 3, 0, False, 0)], effective_from=change)
    for at in (change - timedelta(seconds=1), change, change + timedelta(seconds=1)):
        record(dm, (at, 1_000_000, 0, 0))
    assert costs(dm) == ["7"]
    assert costs(dm, prices="current") == ["9"]
    assert costs(dm, end=change) == ["1"]
    assert told(dm.cost("m", 10**6, 0, at=change - timedelta(seconds=1))) == ("1", 1.0)
    assert told(dm.cost("m", 10**6, 0, at=change)) == told(dm.cost("m", 10**6, 0)) == ("3", 3.0)


def test_between_hourly_and_tiers(dm: DataManager) -> None:
    """By what held at each moment: requests while by tiers, runs while by the hour."""
    nine, ten, eleven = (datetime(2024, 5, 15, hour, tzinfo=UTC) for hour in (9, 10, 11))
    dm.set_pricing("m", tiers=UNBOUNDED, hourly_price=6.0)
    dm.update_billing_method("m", False, effective_from=ten)
    dm.update_hourly_price("m", 12.0, effective_from=ten + timedelta(minutes=30))
    dm.update_billing_method("m", True, effective_from=eleven)
    run(dm, nine, eleven + timedelta(hours=1))
    for at in (nine, ten, eleven):
        record(dm, (at, 1_000_000, 0, 0))
    table = dm.usage("m", start=nine, end=eleven + timedelta(hours=1), by=3600)
    assert [str(row.token_cost_exact) for row in table] == ["2", "0", "2"]
    assert [str(row.runtime_cost_exact) for row in table] == ["0", "9", "0"]
    assert [row.runtime_seconds for row in table] == [3600.0] * 3
    assert told(dm.usage("m")[0]) == told(table.total) == ("13", 13.0)
    assert costs(dm, prices="current") == ["6"]
    assert told(dm.cost("m", 10**6, 0, at=ten)) == ("0", 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_million_of_the_manuals_requests(dm: DataManager, strategy: Any) -> None:
    count = 1_000_000
    tiers = [
        TierPricing(1, 0, 1_000_000, 0.002, 0.008, True, 0.001),
        TierPricing(2, 1_000_000, 0, 0.0015, 0.006, True, 0.0008),
    ]
    tokens = {"input_tokens": 150, "output_tokens": 80, "cache_n": 5, "prompt_n": 25}
    columns = {name: array("q", [value]) * count for name, value in tokens.items()}
    columns["timestamp"] = array("d", (NOON + at / 8 for at in range(count)))  # 34.7 hours
    dm.set_pricing("m", tiers=tiers, strategy=strategy)
    dm.add_model_requests("m", columns)
    wanted = count * oracle(tiers, (150, 80, 5), strategy, (0, 0))
    if strategy == "cumulative":  # 6,666 requests' input lies below the edge, one's upon it
        wanted = by_slices(tiers, 150, 0, 5, 999_900, 0)
        for tier, inputs, outputs in zip(tiers, (6666, 993_333), (12_500, 987_500), strict=True):
            wanted += inputs * 145 * price(tier.input_price_per_million)
            wanted += inputs * 5 * price(tier.cache_hit_price_per_million)
            wanted += outputs * 80 * price(tier.output_price_per_million)
    whole = dm.usage("m", tz="UTC")[0]
    assert whole.requests == count
    assert Fraction(whole.cost_exact) == wanted
    assert whole.cost == nearest(wanted)
    for question in ({"by": "hour"}, {"buckets": 997}, {"by": 7777.7}, {"by": "day"}):
        table = dm.usage("m", tz="UTC", **question)  # type: ignore[arg-type]
        assert len(table) > 1
        assert sum(row.requests for row in table) == count
        assert exact(row.cost_exact for row in table) == wanted
        assert Fraction(table.total.cost_exact) == wanted
        assert table.total.cost == table.by_model[0].cost == nearest(wanted)


@pytest.mark.parametrize("digits", [2, 28])
def test_totals_have_all_their_digits(dm: DataManager, digits: int) -> None:
    """More than Decimal's own context keeps: it must not matter which one the caller has set."""
    dm.set_pricing("dear", tiers=[TierPricing(1, 0, 0, 1e10, 0, False, 0)])
    dm.set_pricing("cheap", tiers=[TierPricing(1, 0, 0, 1e-12, 0, False, 0)])
    dm.add_model_request("dear", Request(NOON, 2**53, 0, 0).row)
    dm.add_model_request("cheap", Request(NOON, 1, 0, 0).row)
    with localcontext(Context(prec=digits, traps=[Inexact, Rounded])):
        total = dm.usage().total
    assert str(total.cost_exact) == "90071992547409920000.000000000000000001"
    assert total.cost == 9007199254740992e4
    assert dm.usage().by_model[1].cost_exact == Decimal("1E-18")


# ---- everything at once ----

BASE = datetime(2018, 10, 1, tzinfo=UTC).timestamp()
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo"]
DAYS = 120
# Where something begins in one of the zones, and the last moment before it.
MARKS = sorted(
    {
        datetime(2018, month, day, tzinfo=ZoneInfo(zone)).timestamp() - before
        for zone in ZONES
        for month, day in [(10, 28), (11, 1), (11, 4), (12, 1), (12, 31)]
        for before in (0.0, 2.0**-20)
    }
)
moments = st.one_of(
    st.sampled_from(MARKS),
    st.integers(0, DAYS * 86400).map(lambda second: BASE + second),
    st.floats(BASE, BASE + DAYS * 86400),
)
tokens = st.one_of(
    st.sampled_from([0, 1, 32_767, 32_768, 32_769, 131_072]),
    st.integers(0, 60),
    st.integers(0, 300_000),
    st.integers(0, 2**40),
)
requests = st.builds(Request, moments, tokens, tokens, tokens)
tier_lists = st.one_of(st.just(DESIGN), st.just(GAP), tariffs())
hourly_prices = st.one_of(st.sampled_from([0.0, 0.1, 3.6, 1e-12]), st.floats(0, 1000))
changes = st.builds(
    Prices,
    st.none() | tier_lists,
    st.none() | hourly_prices,
    st.none() | st.booleans(),
    st.none() | st.sampled_from(STRATEGIES),
).filter(lambda change: any(value is not None for value in vars(change).values()))
since = st.one_of(moments, st.sampled_from([0.0, 4e9]))


@st.composite
def bills(draw: st.DrawFn) -> Bill:
    made = draw(st.lists(st.tuples(since, changes), max_size=4))
    if draw(st.booleans()):  # set up without a date, before all others: it holds since ever
        made.insert(0, (float("-inf"), draw(changes)))
    runs = draw(st.lists(st.tuples(moments, moments).map(sorted).map(tuple), max_size=4))
    return Bill(
        requests=draw(st.lists(requests, max_size=12)),
        runs=runs,
        history=latest_of_each_moment(made),
        zone=ZoneInfo(draw(st.sampled_from(ZONES))),
        anchor=draw(st.sampled_from([1, 1, 4, 28, 31])),
        strategy=draw(st.sampled_from([None, *STRATEGIES])),
    )


def latest_of_each_moment(made: list[tuple[float, Prices]]) -> list[tuple[float, Prices]]:
    """Several changes for one moment are one: what the later sets replaces what the former did."""
    merged: dict[float, Prices] = {}
    for moment, change in made:
        merged[moment] = merged[moment].changed(change) if moment in merged else change
    return list(merged.items())


def store(dm: DataManager, bill: Bill) -> None:
    for moment, change in bill.history:
        date_back = {} if moment == float("-inf") else {"effective_from": moment}
        dm.set_pricing("m", **vars(change), **date_back)
    with dm.batch():
        dm.add_model_requests("m", [request.row for request in bill.requests])
        for begin, end in bill.runs:
            dm.add_model_runtime_start("m", begin)
            dm.update_model_runtime_end("m", end)


def same_amounts(row: UsageRow, token_cost: Fraction, runtime_cost: Fraction) -> None:
    for name, wanted in [
        ("token_cost", token_cost),
        ("runtime_cost", runtime_cost),
        ("cost", token_cost + runtime_cost),
    ]:
        assert Fraction(getattr(row, f"{name}_exact")) == wanted
        assert getattr(row, name) == nearest(wanted)


windows = st.tuples(st.none() | moments, st.none() | moments).filter(
    lambda window: None in window or window[0] < window[1]
)
cuts = st.sampled_from(
    [{}, {"by": "day"}, {"by": "week"}, {"by": "month"}, {"by": 1e6}, {"by": 86400.5}]
    + [{"buckets": n} for n in (1, 3, 50)]
)


@settings(max_examples=400, deadline=None)
@given(bills(), windows, cuts, st.booleans())
def test_equals_the_oracle(
    bill: Bill, window: tuple[float | None, float | None], cut: Any, today: bool
) -> None:
    asked: dict[str, Any] = {
        "strategy": bill.strategy,
        "tz": bill.zone,
        "billing_anchor": date(2000, 1, bill.anchor),
        "prices": "current" if today else "historical",
        "start": window[0],
        "end": window[1],
    }
    with DataManager(":memory:") as dm:
        store(dm, bill)
        bill.at_prices_of = 2e9 if today else None
        table = dm.usage("m", **asked, **cut)
        whole = dm.usage("m", **asked)[0]
    lines = [bill.line(row.start, row.end) for row in table]
    for row, line in zip(table, lines, strict=True):
        assert row.requests == len(line.requests)
        assert row.input_tokens == sum(request.input_tokens for request in line.requests)
        assert row.output_tokens == sum(request.output_tokens for request in line.requests)
        assert row.cache_n == sum(request.cache_n for request in line.requests)
        same_amounts(row, line.token_cost, line.runtime_cost)
        assert row.runtime_seconds == pytest.approx(float(line.runtime_seconds), rel=1e-12)
    total = table.total
    same_amounts(
        total,
        sum((line.token_cost for line in lines), Fraction(0)),
        sum((line.runtime_cost for line in lines), Fraction(0)),
    )
    assert total.requests == whole.requests
    assert total.token_cost_exact == whole.token_cost_exact
    # Each line's runtime cost was rounded by at most half of 1e-12, and the whole's too.
    apart = abs(Fraction(total.runtime_cost_exact) - Fraction(whole.runtime_cost_exact))
    assert apart <= Fraction(len(table) + 1, 2 * 10**12)


@settings(max_examples=200, deadline=None)
@given(bills(), requests)
def test_the_cost_of_one_equals_the_oracle(bill: Bill, one: Request) -> None:
    with DataManager(":memory:") as dm:
        store(dm, bill)
        dm.add_model_requests("m", [])  # registered, also where nothing is there
        seen = dm.cost(
            "m",
            one.input_tokens,
            one.output_tokens,
            one.cache_n,
            at=one.at,
            strategy=bill.strategy,  # type: ignore[arg-type]
            tz=bill.zone,
            billing_anchor=date(2000, 1, bill.anchor),
        )
    period = month_of(one.at, bill.zone, bill.anchor)
    before = [
        request
        for request in bill.requests
        if request.at < one.at and month_of(request.at, bill.zone, bill.anchor) == period
    ]
    held = prices_at(bill.history, one.at)
    wanted = oracle(
        held.tiers or [] if held.use_tier_pricing else [],
        (one.input_tokens, one.output_tokens, one.cache_n),
        bill.strategy or held.strategy or "",
        (sum(r.input_tokens for r in before), sum(r.output_tokens for r in before)),
    )
    assert Fraction(seen.cost_exact) == wanted
    assert seen.cost == nearest(wanted)
    assert exact(part.cost_exact for part in seen.slices) == wanted
