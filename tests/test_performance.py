"""How fast requests were answered, against the answers of NumPy, pandas, SQL and plain Python."""

from __future__ import annotations

import math
import random
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy
import pytest

from datamanager import CorruptDataError, DataManager, InvalidDataError, ModelNotFoundError

RANKS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
BEGIN, END, STEP = 1_700_000_000.0, 1_700_010_000.0, 1000.0
Row = dict[str, Any]


def random_rows(seed: int, count: int) -> list[Row]:
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        first = chance.choice([None, chance.expovariate(1)])
        duration = chance.choice([None, (first or 0) + chance.expovariate(0.1)])
        rows.append(
            {
                "timestamp": BEGIN + chance.choice([0.0, chance.uniform(-2000, 12000)]),
                "input_tokens": chance.choice([0, chance.randrange(100), 2**53]),
                "output_tokens": chance.randrange(3000),
                "cache_n": 0,
                "prompt_n": chance.randrange(1000),
                "duration": duration,
                "first_token": first,
            }
        )
    return rows


def add(dm: DataManager, model: str, row: Row) -> None:
    values = [row[n] for n in ("timestamp", "input_tokens", "output_tokens", "cache_n", "prompt_n")]
    dm.add_model_request(model, values, duration=row["duration"], first_token=row["first_token"])


def of(rows: list[Row], begin: float, end: float) -> list[Row]:
    return [row for row in rows if begin <= row["timestamp"] < end]


def expected(rows: list[Row], begin: float, end: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "requests": len(rows),
        "requests_per_second": len(rows) / (end - begin),
        "prompt_tokens_per_second": None,
        "generation_tokens_per_second": None,
    }
    started = [row for row in rows if row["first_token"] is not None]
    timed = [row for row in started if row["duration"] is not None]
    if seconds := math.fsum(row["first_token"] for row in started):
        found["prompt_tokens_per_second"] = sum(row["prompt_n"] for row in started) / seconds
    if seconds := math.fsum(row["duration"] - row["first_token"] for row in timed):
        tokens = sum(row["output_tokens"] for row in timed)
        found["generation_tokens_per_second"] = tokens / seconds
    for name in ("duration", "first_token", "input_tokens", "output_tokens"):
        values = [row[name] for row in rows if row[name] is not None]
        for rank, share in RANKS.items():
            found[f"{name}_{rank}"] = (
                numpy.quantile(values, share, method="inverted_cdf").item() if values else None
            )
    return found


def check(row: Any, wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        got = getattr(row, name)
        if name.endswith("_per_second") and value is not None:
            assert got == pytest.approx(value, rel=1e-12), name
        else:
            assert got == value and type(got) is type(value), name


@pytest.mark.parametrize("count", [0, 1, 2, 70, 3000])
def test_equals_numpy(dm: DataManager, count: int) -> None:
    rows = random_rows(count, count)
    dm.add_model_request("m", [BEGIN - 9999, 1, 1, 0, 1])  # never in the window
    with dm.batch():
        for row in rows:
            add(dm, "m", row)
    table = dm.performance("m", start=BEGIN, end=END, by=STEP)
    assert len(table) == 10
    for row in table:
        assert row.model == "m"
        check(row, expected(of(rows, row.start, row.end), row.start, row.end))
    (whole,) = dm.performance(start=BEGIN, end=END)
    check(whole, expected(of(rows, BEGIN, END), BEGIN, END))


def add_all(dm: DataManager, rows: list[Row]) -> None:
    dm.add_model_requests("m", {name: [row[name] for row in rows] for name in rows[0]})


@pytest.mark.parametrize("by", ["day", "week", "month"])
@pytest.mark.parametrize(
    ("zone", "day"),  # on which the clock is set
    [
        ("Europe/Berlin", (2024, 3, 31)),
        ("Europe/Berlin", (2024, 10, 27)),
        ("America/New_York", (2024, 11, 3)),
        ("Australia/Lord_Howe", (2024, 4, 7)),
        ("America/Sao_Paulo", (2018, 2, 18)),
    ],
)
def test_calendar_equals_pandas(dm: DataManager, zone: str, day: Any, by: Any) -> None:
    pd = pytest.importorskip("pandas", reason="needs the libraries of the dev extra")
    chance, middle = random.Random(4), datetime(*day, tzinfo=ZoneInfo(zone)).timestamp()
    rows = random_rows(4, 2000)
    for row in rows:
        around = chance.choice([2, 20]) * 86400
        row["timestamp"] = middle + chance.uniform(-around, around)
    add_all(dm, rows)
    frequency = {"day": "D", "week": "W", "month": "M"}[by]

    def period(timestamp: float) -> Any:
        local = pd.Timestamp(timestamp, unit="s", tz="UTC").tz_convert(zone)
        return local.tz_localize(None).to_period(frequency)

    groups = pd.Series(rows).groupby([period(row["timestamp"]) for row in rows])
    wanted = {key: list(group) for key, group in groups}
    for row in dm.performance(by=by, tz=zone):
        check(row, expected(wanted.pop(period(row.start), []), row.start, row.end))
    assert not wanted


def test_equals_sql(path: str) -> None:
    """The value whose rank is the least whole number of at least so many in a hundred."""
    rows = random_rows(6, 3000)
    with DataManager(path) as dm, closing(sqlite3.connect(path)) as file:
        add_all(dm, rows)
        safe = dm.get_safe_model_name("m")
        table = dm.performance("m", start=BEGIN, end=END, by=STEP)
        for name in ("input_tokens", "output_tokens", "duration", "first_token"):
            values = (
                f"SELECT cast((timestamp-{BEGIN})/{STEP} AS int) AS bucket, {name} AS value"
                f" FROM {safe}_requests AS r LEFT JOIN {safe}_timings AS t ON t.request_id = r.id"
                f" WHERE {name} IS NOT NULL AND timestamp >= {BEGIN} AND timestamp < {END}"
            )
            ranked = (
                "SELECT *, row_number() OVER (PARTITION BY bucket ORDER BY value) AS rank,"
                f" count(*) OVER (PARTITION BY bucket) AS among FROM ({values})"
            )
            for rank, share in RANKS.items():
                found = file.execute(
                    f"SELECT value FROM ({ranked}) WHERE rank=(among*?+99)/100 ORDER BY bucket",
                    (round(share * 100),),
                ).fetchall()
                assert [value for (value,) in found] == list(table[f"{name}_{rank}"])


def test_many_rows_in_columns(dm: DataManager) -> None:
    rows = random_rows(5, 20_000)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    dm.add_model_requests("sequences", columns)
    buffers = {
        name: numpy.array([math.nan if v is None else v for v in column])
        for name, column in columns.items()
    }
    dm.add_model_requests("buffers", buffers)
    for row in dm.performance(["sequences", "buffers"], start=BEGIN, end=END):
        check(row, expected(of(rows, BEGIN, END), BEGIN, END))


def test_open_windows_take_the_time_between_requests(dm: DataManager) -> None:
    for second in (10, 12, 14, 20):
        dm.add_model_request("m", [second, 1, 1, 0, 1])
    (row,) = dm.performance("m")
    assert (row.start, row.end, row.requests_per_second) == (None, None, 0.4)
    assert row.duration_p50 is row.first_token_max is row.prompt_tokens_per_second is None


def test_timings_outlive_what_is_not_theirs(path: str) -> None:
    """Rows that others add have no timing, rows that they delete take it along, and the side table
    may be dropped."""
    with DataManager(path) as dm:
        for second in range(5):
            dm.add_model_request("m", [second, 1, 1, 0, 1], duration=second + 1)
        safe = dm.get_safe_model_name("m")
        with closing(sqlite3.connect(path)) as file, file:
            file.execute(f"DELETE FROM {safe}_requests WHERE id = 5")
            file.execute(f"INSERT INTO {safe}_requests VALUES (99, 50.0, 1, 1, 0, 1)")
        (row,) = dm.performance("m")
        assert (row.requests, row.duration_max) == (5, 4.0)
        with closing(sqlite3.connect(path)) as file, file:
            file.execute(f"DROP TABLE {safe}_timings")
        (row,) = dm.performance("m")
        assert (row.requests, row.duration_max) == (5, None)
        dm.add_model_request("m", [9, 1, 1, 0, 1], first_token=0)
        (row,) = dm.performance("m")
        assert (row.requests, row.first_token_max) == (6, 0.0)
        dm.delete_model_tables("m")
    with closing(sqlite3.connect(path)) as file:
        assert not file.execute(
            "SELECT name FROM sqlite_schema WHERE name LIKE 'model\\_%\\_timings' ESCAPE '\\'"
        ).fetchall()


def test_without_a_timing_there_is_no_side_table(dm: DataManager, path: str) -> None:
    dm.add_model_request("m", [1, 1, 1, 0, 1], duration=None, first_token=None)
    with closing(sqlite3.connect(path)) as file:
        rows = file.execute("SELECT name FROM sqlite_schema WHERE name LIKE '%timings'")
        assert not rows.fetchall()


@pytest.mark.parametrize("later", [0, 5000])
def test_a_stored_timing_that_breaks_the_rules_is_named(
    dm: DataManager, path: str, later: int
) -> None:
    dm.add_model_request("m", [1, 1, 1, 0, 1], duration=1)
    dm.add_model_requests("m", [[1, 1, 1, 0, 1]] * later)
    table = dm.get_safe_model_name("m") + "_timings"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"UPDATE {table} SET duration = 'long'")
    with pytest.raises(CorruptDataError, match=f"{table} row 1.*duration"):
        dm.performance("m")


@pytest.mark.parametrize(
    ("timing", "said"),
    [
        ({"duration": -1}, "duration must be a finite number of seconds of at least 0, not -1"),
        ({"duration": math.nan}, "duration must be .* not nan"),
        ({"first_token": math.inf}, "first_token must be .* not inf"),
        ({"first_token": True}, "first_token must be .* not True"),
        ({"duration": "1"}, "duration must be .* not '1'"),
        ({"duration": 1, "first_token": 1.5}, "first_token 1.5 must not be after duration 1"),
    ],
)
def test_refused(dm: DataManager, timing: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidDataError, match=said):
        dm.add_model_request("m", [1, 1, 1, 0, 1], **timing)
    with pytest.raises(InvalidDataError), dm.batch():
        dm.add_model_request("m", [1, 1, 1, 0, 1], **timing)
    assert dm.get_models() == []
    columns = {n: [1, 1] for n in ("timestamp", "input_tokens", "output_tokens", "cache_n")}
    bad = {name: [None, value] for name, value in timing.items() if value is not math.nan}
    if bad:
        with pytest.raises(InvalidDataError, match=r"^row 1: "):
            dm.add_model_requests("m", {**columns, "prompt_n": [1, 1], **bad})
        assert dm.get_models() == []


def test_bad_questions(dm: DataManager) -> None:
    with pytest.raises(ModelNotFoundError):
        dm.performance("m")
    with pytest.raises(InvalidDataError, match="by must be"):
        dm.performance(by="fortnight")  # type: ignore[arg-type]
    with pytest.raises(InvalidDataError, match=r"end 1\.0 must be after start 2\.0"):
        dm.performance(start=2, end=1)


def test_table(dm: DataManager, tmp_path: Path) -> None:
    dm.add_model_request("m", [1, 7, 1, 0, 1], duration=2.0)
    dm.get_models()
    table = dm.performance()
    assert list(table["input_tokens_p50"]) == [7] and list(table["duration_p99"]) == [2.0]
    assert "duration_p50" in str(table) and ">m</td>" in table._repr_html_()
