"""dm.usage against SQL and pandas, and what its table can do."""

from __future__ import annotations

import copy
import math
import pickle
import random
import sqlite3
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from documents import blocks

import datamanager
from datamanager import DataManager, TierPricing, UsageRow
from datamanager.usage import UsageTable

WHY = "needs the libraries of the dev extra"
MODELS = ["m", "模型 🦙", "quiet"]  # nothing is recorded of the last
SUMS = ("input_tokens", "output_tokens", "cache_n", "prompt_n")
PRICES = (2, 8)  # of a million tokens in and out, so that SQL can sum them as whole numbers
# A zone, and a day within a week of which its clock is set.
PLACES = [
    ("UTC", (2024, 3, 31)),
    ("Europe/Berlin", (2024, 3, 31)),
    ("Europe/Berlin", (2024, 10, 27)),
    ("America/New_York", (2024, 3, 10)),
    ("America/New_York", (2024, 11, 3)),
    ("Australia/Lord_Howe", (2024, 4, 7)),
    ("Australia/Lord_Howe", (2024, 10, 6)),
    ("Asia/Kolkata", (2024, 10, 27)),
    ("America/Sao_Paulo", (2018, 11, 4)),
    ("America/Sao_Paulo", (2018, 2, 18)),
]
Sums = dict[tuple[str, Any], tuple[int, ...]]


def fill(path: str, zone: str, day: tuple[int, ...], seed: int = 1) -> DataManager:
    """Random requests and runs of 40 days about the day: out of order, half of them foreign."""
    rng = random.Random(seed)
    middle = datetime(*day, tzinfo=ZoneInfo(zone)).timestamp()  # type: ignore[misc, arg-type]

    def at() -> float:
        around = rng.choice([2, 20]) * 86400
        return middle + rng.randrange(-around * 8, around * 8) / 8  # so that nobody rounds

    dm = DataManager(path, models=MODELS)
    for name in MODELS[:2]:
        dm.set_pricing(name, tiers=[TierPricing(1, 0, 0, *PRICES, False, 0)])
        rows = [[at(), *(rng.randrange(10**6) for _ in SUMS)] for _ in range(600)]
        dm.add_model_requests(name, rows[:300])
        safe = dm.get_safe_model_name(name)
        with closing(sqlite3.connect(path)) as other, other:
            other.executemany(f"INSERT INTO {safe}_requests VALUES(NULL,?,?,?,?,?)", rows[300:])
            runs = [(begin, begin + rng.randrange(2**20) / 8) for begin in (at() for _ in range(9))]
            other.executemany(f"INSERT INTO {safe}_runtime VALUES(NULL,?,?)", runs)
    return dm


@pytest.fixture(params=PLACES, ids=lambda place: f"{place[0]}-{place[1][1]:02}")
def place(
    request: pytest.FixtureRequest, path: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[DataManager, str]]:
    """A filled store and its zone, which is the machine's too: SQLite knows no other."""
    zone, day = request.param
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    with fill(path, zone, day) as dm:
        yield dm, zone
    monkeypatch.undo()
    time.tzset()


def queried(dm: DataManager, group: str, where: str = "1", **values: float) -> Sums:
    """SQL's own count and sums, by model and group."""
    found: Sums = {}
    sums = ",".join(f"sum({name})" for name in SUMS)
    with closing(sqlite3.connect(dm.db_path)) as other:
        for name in dm.get_models():
            rows = other.execute(
                f"SELECT {group},count(*),{sums},sum(input_tokens*{PRICES[0]}"
                f"+output_tokens*{PRICES[1]}),min(timestamp),max(timestamp)"
                f" FROM {dm.get_safe_model_name(name)}_requests WHERE {where} GROUP BY 1",
                values,
            )
            found |= {(name, row[0]): row[1:] for row in rows}
    return found


def answered(table: UsageTable, group: Callable[[UsageRow], Any]) -> Sums:
    """The same of our rows; those without requests must say so in every field."""
    found: Sums = {}
    for row in table:
        if row.requests == 0:
            assert {getattr(row, name) for name in (*SUMS, "token_cost")} == {0}
            assert row.first_request is row.last_request is row.cache_hit_share is None
            continue
        assert row.start <= row.first_request <= row.last_request < row.end
        pico = Fraction(row.token_cost_exact) * 10**6
        assert pico.denominator == 1 and row.token_cost == float(row.token_cost_exact)
        values = (row.requests, *(getattr(row, name) for name in SUMS), pico.numerator)
        key = (row.model, group(row))
        if key in found:  # the hour that comes twice: SQL's label does not tell which it is
            first, *_ = found[key][-2:]
            values = tuple(a + b for a, b in zip(found[key], values, strict=False))
            found[key] = (*values, first, row.last_request)
        else:
            found[key] = (*values, row.first_request, row.last_request)
    return found


LABELS = {"hour": "%Y-%m-%d %H", "day": "%Y-%m-%d", "week": "%Y-%W", "month": "%Y-%m"}


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the machine's zone cannot be set")
@pytest.mark.parametrize("by", LABELS)
def test_calendar_equals_sql(place: tuple[DataManager, str], by: Any) -> None:
    dm, zone = place
    label = LABELS[by]
    wanted = queried(dm, f"strftime('{label}',timestamp,'unixepoch','localtime')")
    for tz in (None, zone, ZoneInfo(zone)):
        table = dm.usage(by=by, tz=tz)
        shown = answered(table, lambda row: time.strftime(label, time.localtime(row.start)))
        assert shown == wanted


@pytest.mark.parametrize("step", [3600, 86400, 0.5, 7777.75])
def test_seconds_equal_sql(path: str, step: float) -> None:
    with fill(path, "UTC", (2024, 3, 31)) as dm:
        middle = datetime(2024, 3, 31, tzinfo=ZoneInfo("UTC")).timestamp()
        window = (middle - 1000 * step, middle + 1000 * step)
        wanted = queried(
            dm, "cast((timestamp-:start)/:step as int)", "timestamp>=:start and timestamp<:end",
            start=window[0], end=window[1], step=step,
        )  # fmt: skip
        table = dm.usage(start=window[0], end=window[1], by=step)
        assert len(table) == len(MODELS) * 2000
        assert answered(table, lambda row: round((row.start - window[0]) / step)) == wanted
        parts = dm.usage(start=window[0], end=window[1], buckets=2000)
        assert parts == table


def test_windows_equal_sql(path: str) -> None:
    """Half-open, with edges that lie on requests."""
    rng = random.Random(3)
    with fill(path, "UTC", (2024, 3, 31)) as dm:
        times = sorted(request.timestamp for request in dm.get_model_requests("m"))
        for _ in range(50):
            start, end = sorted(rng.sample(times, 2))
            inside = "timestamp>=:start and timestamp<:end"
            wanted = queried(dm, "0", inside, start=start, end=end)
            table = dm.usage(["m"], start=start, end=end)
            assert answered(table, lambda _: 0) == {("m", 0): wanted["m", 0]}
            assert dm.usage("m", start=end)[0].requests == sum(at >= end for at in times)
            assert dm.usage("m", end=end)[0].requests == sum(at < end for at in times)


def test_runtime_equals_sql(path: str) -> None:
    with fill(path, "Europe/Berlin", (2024, 3, 31)) as dm, closing(sqlite3.connect(path)) as other:
        table = dm.usage(by="day", tz="Europe/Berlin")
        for row in table:
            (seconds,) = other.execute(
                "SELECT coalesce(sum(max(0,min(end_time,:end)-max(start_time,:start))),0)"
                f" FROM {dm.get_safe_model_name(row.model or '')}_runtime",
                {"start": row.start, "end": row.end},
            ).fetchone()
            assert row.runtime_seconds == seconds  # eighths of seconds: nobody rounds
        assert table.total.runtime_seconds > 0


@pytest.mark.parametrize("by", LABELS)
def test_calendar_equals_pandas(place: tuple[DataManager, str], by: Any) -> None:
    pd = pytest.importorskip("pandas", reason=WHY)
    dm, zone = place
    with closing(sqlite3.connect(dm.db_path)) as other:
        frames = [
            pd.read_sql(f"SELECT * FROM {dm.get_safe_model_name(name)}_requests", other).assign(
                model=name
            )
            for name in dm.get_models()
        ]
    frame = pd.concat([each for each in frames if len(each)])
    local = pd.to_datetime(frame.timestamp, unit="s", utc=True).dt.tz_convert(zone)
    wall = local.dt.tz_localize(None)
    frame["group"] = wall.dt.to_period({"hour": "h", "day": "D", "week": "W", "month": "M"}[by])
    frame["cost"] = frame.input_tokens * PRICES[0] + frame.output_tokens * PRICES[1]
    grouped = frame.groupby(["model", "group"])
    wanted = {
        key: (len(rows), *(int(rows[name].sum()) for name in (*SUMS, "cost")),
              rows.timestamp.min(), rows.timestamp.max())
        for key, rows in grouped
    }  # fmt: skip

    def group(row: UsageRow) -> Any:
        start = pd.Timestamp(row.start, unit="s", tz="UTC").tz_convert(zone).tz_localize(None)
        return start.to_period(frame["group"].dtype.freq)

    assert answered(dm.usage(by=by, tz=zone), group) == wanted


@pytest.mark.parametrize("place", PLACES, ids=str, indirect=True)
def test_any_way_of_cutting_adds_up(place: tuple[DataManager, str]) -> None:
    dm, zone = place
    for name in MODELS:
        dm.set_pricing(name, strategy="cumulative", use_tier_pricing=True, effective_from=0)
    whole = dm.usage(tz=zone)
    for question in ({"by": "hour"}, {"by": "day"}, {"by": "week"}, {"by": "month"}, {"by": 9999.5},
                     {"buckets": 77}):  # fmt: skip
        table = dm.usage(tz=zone, **question)  # type: ignore[arg-type]
        for row, one in zip(table.by_model, whole, strict=True):
            assert (row.model, row.requests, row.token_cost_exact) == (
                one.model, one.requests, one.token_cost_exact,
            )  # fmt: skip
            assert row.runtime_seconds == one.runtime_seconds
            assert (row.first_request, row.last_request) == (one.first_request, one.last_request)
        assert table.total.cost_exact == whole.total.cost_exact > 0


def test_one_moment(path: str) -> None:
    """Each transaction adds to both models alike; no answer may show one without the other."""
    rows, count = 30_000, 200  # reading a model takes longer than adding to it
    columns = {name: array("q", [10]) * rows for name in SUMS}
    columns["timestamp"] = array("d", range(rows))

    def write() -> None:
        with DataManager(path) as dm:
            for number in range(count):
                with dm.batch():
                    for name in ("a", "b"):
                        dm.add_model_request(name, [number, 10, 10, 10, 10])

    with DataManager(path) as dm:
        for name, strategy in (("a", "cumulative"), ("b", "graduated")):
            dm.set_pricing(name, tiers=[[1, 0, 0, 1e6, 0, False, 0]], strategy=strategy)
            dm.add_model_requests(name, columns)
        writer = threading.Thread(target=write)
        writer.start()
        while writer.is_alive():
            for question in ({}, {"start": 0, "end": rows, "by": 3000}):
                first, second = dm.usage(["b", "a"], **question).by_model  # type: ignore[arg-type]
                assert first.requests == second.requests
                assert first.cost == second.cost == 10 * first.requests == first.input_tokens
        writer.join()
        assert dm.usage().total.requests == 2 * (rows + count)


# ---- the table ----


@pytest.fixture
def table(dm: DataManager) -> UsageTable:
    dm.set_pricing("<b>m</b>", tiers=[TierPricing(1, 0, 0, 2, 8, True, 1)])
    dm.add_model_requests("<b>m</b>", [[10.0, 100, 10, 25, 75], [30.0, 50, 5, 0, 50]])
    dm.set_pricing("hourly", hourly_price=3.6, use_tier_pricing=False)
    dm.add_model_runtime_start("hourly", 5.0)
    dm.update_model_runtime_end("hourly", 15.0)
    return dm.usage(start=0, end=40, by=20)


def test_rows(table: UsageTable) -> None:
    assert len(table) == 4
    assert [(row.model, row.start, row.end) for row in table] == [
        (model, start, start + 20) for model in ("<b>m</b>", "hourly") for start in (0.0, 20.0)
    ]
    cost = 0.000255  # 25 hits at 1, 75 at 2, 10 out at 8
    assert table[0] == UsageRow(
        "<b>m</b>", 0.0, 20.0, 1, 100, 10, 25, 75, 0.25, 5.5, 10.0, 10.0, 0.0,
        cost, 0.0, cost, Decimal("0.000255"), Decimal(0), Decimal("0.000255"),
    )  # fmt: skip
    assert table[2] == UsageRow(
        "hourly", 0.0, 20.0, 0, 0, 0, 0, 0, None, 0.0, None, None, 10.0,
        0.0, 0.01, 0.01, Decimal(0), Decimal("0.01"), Decimal("0.01"),
    )  # fmt: skip
    assert table[3].runtime_seconds == table[3].cost == 0.0
    assert (table[1:3][0], len(table[1:3]), table[-1]) == (table[1], 2, table[3])
    assert next(reversed(table)) == table[3] and table[2] in table
    assert table == list(table) and table != list(table)[1:]
    assert (table.index(table[2]), table.count(table[2])) == (2, 1)


def test_total_and_by_model(table: UsageTable) -> None:
    total = table.total
    assert (total.model, total.start, total.end, total.requests) == (None, 0.0, 40.0, 2)
    assert (total.input_tokens, total.cache_hit_share) == (150, 25 / 150)
    assert total.tokens_per_second == 165 / 40
    assert (total.first_request, total.last_request) == (10.0, 30.0)
    assert total.cost_exact == Decimal("0.010395")
    assert total.cost == 0.010395
    first, second = table.by_model
    assert (first.model, second.model) == ("<b>m</b>", "hourly")
    assert (first.requests, first.cost, second.cost) == (2, 0.000395, 0.01)
    assert table.by_model.by_model == table.by_model


def test_seconds_of_a_total(dm: DataManager) -> None:
    """They are rounded once, whatever the order of the rows."""
    for name in map(str, range(10)):
        dm.add_model_runtime_start(name, 0)
        dm.update_model_runtime_end(name, 0.1)
    assert dm.usage().total.runtime_seconds == 1.0


def test_totals_of_nothing(dm: DataManager) -> None:
    assert len(dm.usage()) == len(dm.usage([])) == 0
    assert dm.usage().total.cost == 0.0 and dm.usage().total.requests == 0
    assert len(dm.usage().by_model) == 0
    assert str(dm.usage()) == "<UsageTable of 0 rows>"
    dm.add_model_requests("m", [])
    (row,) = dm.usage("m")
    assert (row.start, row.end, row.requests, row.tokens_per_second) == (None, None, 0, None)
    with pytest.raises(datamanager.ModelNotFoundError, match="model 'nobody' is not known"):
        dm.usage(["m", "nobody"])


def test_sums_that_are_too_large(dm: DataManager) -> None:
    """Of a row or of a total, they are refused, never wrong."""
    for name, count in (("a", 1023), ("b", 1), ("c", 1025)):
        dm.add_model_requests(name, [[1.0, 2**53, 0, 0, 0]] * count)
    assert dm.usage("a").total.input_tokens == 1023 * 2**53
    message = "the sum of input_tokens is above 9223372036854775807"
    with pytest.raises(datamanager.InvalidDataError, match=message):
        dm.usage("c")
    table = dm.usage(["a", "b"])
    with pytest.raises(datamanager.InvalidDataError, match=message):
        assert table.total
    dm.set_pricing("a", tiers=[[1, 0, 0, 1e26, 0, False, 0]], effective_from=0)
    with pytest.raises(datamanager.InvalidDataError, match="a cost must be at most"):
        dm.usage("a")


def test_what_breaks_the_rules_is_named(dm: DataManager, path: str) -> None:
    """Other programs can write anything; of whatever model and time, nothing is passed over."""
    dm.add_model_requests("m", [[1.0, 1, 1, 1, 1]] * 3)
    safe = dm.get_safe_model_name("m")
    for table, broken, message in [
        ("requests", "timestamp='x'", "_requests row 1: timestamp must be .*, not x"),
        ("requests", "cache_n=-1", "_requests row 1: cache_n must be .*, not -1"),
    ]:
        with closing(sqlite3.connect(path)) as other, other:
            kept = other.execute(f"SELECT * FROM {safe}_{table} LIMIT 1").fetchone()
            other.execute(f"UPDATE {safe}_{table} SET {broken} WHERE id=1")
        for question in ({}, {"start": 5}, {"by": 1, "start": 0, "end": 3}):
            with pytest.raises(datamanager.CorruptDataError, match=message):
                dm.usage(**question)  # type: ignore[arg-type]
        with closing(sqlite3.connect(path)) as other, other:
            marks = ",".join("?" * len(kept))
            other.execute(f"REPLACE INTO {safe}_{table} VALUES({marks})", kept)
    assert dm.usage().total.requests == 3
    with closing(sqlite3.connect(path)) as other, other:
        for index, end in ((1, 100), (2, 50)):
            other.execute(f"INSERT INTO {safe}_tier_pricing VALUES(?,0,?,1,1,0,0)", (index, end))
    with pytest.raises(datamanager.CorruptDataError, match=f"prices of {safe}: tier . .* overlaps"):
        dm.usage()


def test_order_and_choice_of_models(table: UsageTable, dm: DataManager) -> None:
    assert [row.model for row in dm.usage(["hourly", "<b>m</b>"])] == ["hourly", "<b>m</b>"]
    assert [row.model for row in dm.usage("hourly")] == ["hourly"]
    assert [row.model for row in dm.usage(name for name in ["hourly"])] == ["hourly"]


def test_columns(table: UsageTable) -> None:
    assert table.columns == list(UsageRow.__match_args__)
    for name in table.columns:
        values = [getattr(row, name) for row in table]
        column = list(table[name])
        assert all(
            a == b or (b is None and (a is None or math.isnan(a)))
            for a, b in zip(column, values, strict=True)
        ), name
    assert np.asarray(table["requests"]).tolist() == [1, 1, 0, 0]
    assert np.asarray(table["cost"]).tolist() == [row.cost for row in table]
    assert memoryview(table["input_tokens"]).tolist() == [100, 50, 0, 0]
    with pytest.raises(KeyError):
        table["cots"]


def test_arrow(table: UsageTable) -> None:
    pa = pytest.importorskip("pyarrow", reason=WHY)
    found = pa.table(table)
    assert found.column_names == table.columns
    exact = [name for name in table.columns if name.endswith("_exact")]
    for row, seen in zip(table, found.to_pylist(), strict=True):
        assert seen | {name: Decimal(seen[name]) for name in exact} == vars(row)


def test_one_schema(dm: DataManager) -> None:
    """Whatever is in a table: a day without requests goes behind one with some."""
    pa = pytest.importorskip("pyarrow", reason=WHY)
    dm.add_model_request("m", [10.0, 1, 1, 0, 1])
    windows: list[dict[str, Any]] = [{}, {"start": 0, "end": 20}, {"start": 90, "end": 99}]
    for ask in (dm.usage, dm.performance, dm.get_status):
        tables = [pa.table(ask(**window)) for window in windows]
        assert len({table.schema for table in tables}) == 1
        assert pa.concat_tables(tables).num_rows == sum(map(len, tables))


def test_copies(table: UsageTable) -> None:
    """Also after a column was looked at."""
    for _ in range(2):
        for same in (pickle.loads(pickle.dumps(table)), copy.copy(table), copy.deepcopy(table)):
            assert same == table and str(same) == str(table)
        assert list(same["requests"]) == list(table["requests"])


def test_printed(table: UsageTable, dm: DataManager) -> None:
    lines = str(table).splitlines()
    assert len(lines) == 5
    assert lines[0].split() == [*table._shown]
    assert lines[1].startswith("<b>m</b>") and lines[1].endswith("0.000255")
    assert "25.0%" in lines[1] and "5.50" in lines[1]
    html = table._repr_html_()
    assert html.count("<tr>") == 5 and "&lt;b&gt;m&lt;/b&gt;" in html and "<b>" not in html
    many = dm.usage("hourly", start=0, end=1000, by=1)
    assert str(many).endswith("… and 960 more rows") and "960 more rows" in many._repr_html_()
    assert repr(many) == "<UsageTable of 1000 rows>"
    for text in (str(many), many._repr_html_()):  # only columns that hold something
        assert "start" in text and "cache_hit_share" not in text


def test_times_are_printed_in_the_zone_of_the_question(dm: DataManager) -> None:
    midnight = datetime(2024, 5, 1, tzinfo=ZoneInfo("Asia/Kolkata")).timestamp()
    dm.add_model_request("m", [midnight, 1, 1, 0, 1])
    table = dm.usage(by="day", tz="Asia/Kolkata", end=midnight + 86400)
    for shown in (table, table[:1], table.by_model):
        assert str(shown).splitlines()[1].split()[1:5] == [
            "2024-05-01", "00:00:00", "2024-05-02", "00:00:00",
        ]  # fmt: skip
    assert "2024-04-30 18:30:00" in str(dm.usage(start=midnight, tz="UTC"))


# ---- the manual's analysis ----


def test_analyze(dm: DataManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The keys and values of the function in the users' manual, which is run for comparison."""
    (block,) = [
        b for b in blocks("docs/manual.zh.md", "python") if "def analyze_model_usage" in b.code
    ]
    now = time.time()
    dm.set_pricing("Qwen3-Coder-30B", tiers=[TierPricing(1, 0, 0, 2, 8, True, 1)])
    # As in the manual's loop, some of the future; and some of eight days ago.
    for at in (now - 8 * 86400, now - 6 * 86400, now, now + 5):
        dm.add_model_request("Qwen3-Coder-30B", [at, 100 + int(at) % 7, 51, 5, 25])
    names: dict[str, Any] = {"data_manager": dm}
    exec(block.code, names)
    wanted = names["analyze_model_usage"]
    for days in (7, 9, 0, 1):
        theirs = wanted(dm, "Qwen3-Coder-30B", days)
        ours = dm.analyze("Qwen3-Coder-30B", days)
        assert {key: ours[key] for key in theirs} == theirs
        assert list(ours)[: len(theirs)] == list(theirs)
    assert dm.analyze("Qwen3-Coder-30B")["total_requests"] == 3
    exact = sum(r.cost_exact for r in dm.usage("Qwen3-Coder-30B", start=now - 7 * 86400))
    assert dm.analyze("Qwen3-Coder-30B")["cost_exact"] == exact > 0
    dm.add_model_requests("unused", [])
    assert dm.analyze("unused")["avg_input_tokens"] == 0.0
    with pytest.raises(datamanager.ModelNotFoundError):
        dm.analyze("nobody")
    for several in ([], ["unused"], None):
        with pytest.raises(datamanager.InvalidDataError, match="model_name must be a str"):
            dm.analyze(several)  # type: ignore[arg-type]


def test_the_last_minutes(dm: DataManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded counts at once, even where the clock has not moved on."""
    now = 1_700_000_000.0
    monkeypatch.setattr("datamanager.windows.time.time", lambda: now)
    dm.add_model_requests("m", [[now + after, 1, 1, 0, 1] for after in (-61, -60, -1, 0, 1)])
    assert dm.usage("m", minutes=1)[0].requests == 4  # of a clock that is ahead, too
    dm.set_pricing("m", tiers=[[1, 0, 0, 2.0, 8.0, False, 0.0]])
    assert [line.input_tokens for line in dm.invoice("m", minutes=1)] == [4]
    assert dm.performance("m", minutes=1)[0].requests == 3
    assert dm.usage("m", minutes=0)[0].requests == 5
    table = dm.usage("m", minutes=1, by=30)
    assert [row.requests for row in table[:2]] == [1, 1]
    assert table.total.requests == 3
