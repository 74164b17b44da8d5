"""The libraries that requests are analysed with: each reads the same values, in one line."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamanager import DataManager, InvalidDataError, ModelRequest, ModelRequests
from datamanager.usage import UsageTable

WHY = "needs the libraries of the dev extra"
duckdb = pytest.importorskip("duckdb", reason=WHY)
pa = pytest.importorskip("pyarrow", reason=WHY)
pd = pytest.importorskip("pandas", reason=WHY)
pl = pytest.importorskip("polars", reason=WHY)

NAMES = ModelRequest.__match_args__
Lists = dict[str, list[Any]]


def of_numpy(rows: ModelRequests) -> Lists:
    return {name: np.asarray(column).tolist() for name, column in rows.columns.items()}


def of_pyarrow(rows: ModelRequests) -> Lists:
    found = pa.table(rows).to_pydict()
    assert pa.record_batch(rows).to_pydict() == found
    assert pa.RecordBatchReader.from_stream(rows).read_all().to_pydict() == found
    assert {n: pa.array(column).to_pylist() for n, column in rows.columns.items()} == found
    return dict(found)


def of_polars(rows: ModelRequests) -> Lists:
    found = pl.DataFrame(rows).to_dict(as_series=False)
    assert pl.from_arrow(pa.table(rows)).to_dict(as_series=False) == found
    assert {n: pl.Series(column).to_list() for n, column in rows.columns.items()} == found
    return dict(found)


def of_pandas(rows: ModelRequests) -> Lists:
    found = pd.DataFrame({name: np.asarray(column) for name, column in rows.columns.items()})
    assert {str(kind) for kind in found.dtypes} == {"int64", "float64"}
    pd.testing.assert_frame_equal(found, pa.table(rows).to_pandas())
    if hasattr(pd.DataFrame, "from_arrow"):  # since 3.0
        pd.testing.assert_frame_equal(found, pd.DataFrame.from_arrow(rows))
    return dict(found.to_dict("list"))


def of_duckdb(rows: ModelRequests) -> Lists:
    requests = pa.table(rows)
    with duckdb.connect() as connection:
        found = connection.sql("FROM requests")
        values = found.fetchall()
        assert connection.from_arrow(requests).fetchall() == values
        assert connection.sql("FROM rows").fetchall() == values
        wanted = [row.input_tokens for row in rows if row.id > 3]
        total = "SELECT sum(input_tokens), count(*) FROM requests WHERE id > 3"
        assert connection.sql(total).fetchall() == [(sum(wanted) if wanted else None, len(wanted))]
        return {name: [row[i] for row in values] for i, name in enumerate(found.columns)}


CONSUMERS: list[Callable[[ModelRequests], Lists]] = [
    of_numpy,
    of_pyarrow,
    of_polars,
    of_pandas,
    of_duckdb,
]
PARTS = [slice(None), slice(5, 50), slice(None, None, 3), slice(None, None, -2), slice(7, 7)]
each_consumer = pytest.mark.parametrize("read", CONSUMERS, ids=lambda read: read.__name__)


@pytest.fixture
def rows(dm: DataManager) -> ModelRequests:
    dm.add_model_requests("m", [[t + 0.5, 2 * t, t, t // 2, 2**53 - t] for t in range(100)])
    return dm.get_model_requests("m")


@each_consumer
@pytest.mark.parametrize("part", PARTS, ids=str)
def test_values(rows: ModelRequests, read: Callable[[ModelRequests], Lists], part: slice) -> None:
    wanted = {name: [getattr(row, name) for row in rows[part]] for name in NAMES}
    assert read(rows[part]) == wanted


@each_consumer
def test_no_rows_at_all(dm: DataManager, read: Callable[[ModelRequests], Lists]) -> None:
    dm.add_model_request("m", [1, 2, 3, 4, 5])
    assert read(dm.get_model_requests("m", start=100)) == {name: [] for name in NAMES}


def of_table(table: UsageTable) -> dict[str, Lists]:
    """The columns that each of them makes of a table."""
    arrow = pa.table(table)
    with duckdb.connect() as connection:
        relation = connection.sql("FROM arrow")
        fetched = relation.fetchall()
        names = list(relation.columns)
    frame = arrow.to_pandas()
    return {
        "pyarrow": arrow.to_pydict(),
        "polars": pl.DataFrame(table).to_dict(as_series=False),
        "pandas": {n: [None if pd.isna(v) else v for v in frame[n]] for n in frame.columns},
        "duckdb": {name: [row[i] for row in fetched] for i, name in enumerate(names)},
    }


def test_tables(dm: DataManager) -> None:
    """Text, whole numbers, fractions and what is missing: everywhere the same."""
    dm.set_pricing("模型", tiers=[[1, 0, 0, 2.5, 1 / 3, False, 0]])
    dm.add_model_requests("模型", [[t * 7200, 2**40 + t, t, 7 * t, 5] for t in range(50)])
    dm.add_model_request("without tokens", [1, 0, 0, 0, 0])
    table = dm.usage(by="day", tz="Asia/Shanghai", start=0, end=400_000)
    wanted = {
        name: [str(v) if name.endswith("_exact") else v for v in (getattr(r, name) for r in table)]
        for name in table.columns
    }
    assert None in wanted["cache_hit_share"] and len(wanted["model"]) == 2 * 5
    for library, found in of_table(table).items():
        assert found == wanted, library
    for name in ("requests", "input_tokens", "cost", "start"):
        assert np.asarray(table[name]).tolist() == wanted[name]
    assert np.isnan(np.asarray(table["cache_hit_share"])).sum() == 5


FRAMES: dict[str, Callable[[ModelRequests], tuple[Any, Callable[[Any], int]]]] = {
    "numpy": lambda rows: (np.asarray(rows.id), lambda array: int(array.sum())),
    "pyarrow": lambda rows: (pa.table(rows), lambda table: sum(table["id"].to_pylist())),
    "polars": lambda rows: (pl.DataFrame(rows), lambda frame: int(frame["id"].sum())),
    "pandas": lambda rows: (pa.table(rows).to_pandas(), lambda frame: int(frame["id"].sum())),
    "duckdb": lambda rows: (
        duckdb.from_arrow(pa.table(rows)),
        lambda relation: int(relation.sum("id").fetchall()[0][0]),
    ),
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_frames_outlive_the_database(
    path: str, make: Callable[[ModelRequests], tuple[Any, Callable[[Any], int]]]
) -> None:
    with DataManager(path) as dm:
        dm.add_model_requests("m", [[t, t, t, t, t] for t in range(100_000)])
        frame, total = make(dm.get_model_requests("m"))
        strided, _ = make(dm.get_model_requests("m")[::-2])
    Path(path).unlink()
    del dm
    gc.collect()
    churn = [np.full(100_000, -1) for _ in range(20)]
    assert total(frame) == sum(range(1, 100_001))
    assert total(strided) == sum(range(1, 100_001, 2))
    assert len(churn) == 20


def test_numpy_shares_the_memory(rows: ModelRequests) -> None:
    for name, column in rows.columns.items():
        array = np.asarray(column)
        assert array.ctypes.data == np.asarray(getattr(rows, name)).ctypes.data
        assert np.shares_memory(array, np.asarray(rows[::-3].columns[name]))
        assert not array.flags.writeable and array.dtype.itemsize == 8


def test_pyarrow_shares_the_memory(rows: ModelRequests) -> None:
    table = pa.table(rows)
    for name, column in rows.columns.items():
        (chunk,) = table[name].chunks
        assert chunk.buffers()[1].address == np.asarray(column).ctypes.data


def test_polars_shares_the_memory(rows: ModelRequests) -> None:
    frame = pl.DataFrame(rows)
    for name, column in rows.columns.items():
        seen = frame[name].to_numpy(allow_copy=False)
        assert seen.ctypes.data == np.asarray(column).ctypes.data


# ---- the other way: their tables as rows ----

ROWS: Lists = {
    "timestamp": [1.5, 2.0, 3.0, 4.0, 5.0],
    "input_tokens": [10, 20, 30, 40, 50],
    "output_tokens": [1, 2, 3, 4, 5],
    "cache_n": [0, 0, 0, 0, 9],
    "prompt_n": [10, 20, 30, 40, 41],
}


def chunked(lists: Lists) -> Any:
    return pa.concat_tables([pa.table(lists).slice(0, 1), pa.table(lists).slice(1)])


def queried(kind: str) -> Callable[[Lists], Any]:
    def table(lists: Lists) -> Any:
        with duckdb.connect() as connection:
            found = getattr(connection.from_arrow(pa.table(lists)), kind)()
            return found.read_all() if hasattr(found, "read_all") else found

    return table


each_table = pytest.mark.parametrize(
    "table",
    [
        pytest.param(pl.DataFrame, id="polars"),
        pytest.param(pa.table, id="pyarrow"),
        pytest.param(pa.record_batch, id="batch"),
        pytest.param(chunked, id="chunked"),
        pytest.param(pd.DataFrame, id="pandas"),
        pytest.param(lambda lists: pd.DataFrame(lists).convert_dtypes(), id="nullable"),
        pytest.param(queried("df"), id="duckdb-pandas"),
        pytest.param(queried("pl"), id="duckdb-polars"),
        pytest.param(queried("arrow"), id="duckdb-arrow"),
    ],
)


@each_table
@pytest.mark.parametrize("count", [3, 5, 0])
def test_a_table_is_read_by_its_columns(dm: DataManager, table: Any, count: int) -> None:
    """Of 5 rows too, where what iterates by its columns looks like rows."""
    lists = {name: values[:count] for name, values in ROWS.items()}
    typed = {name: np.array(values, "f8" if name == "timestamp" else "i8")
             for name, values in lists.items()}  # fmt: skip
    assert len(dm.add_model_requests("m", table(typed))) == count
    found = dm.get_model_requests("m")
    assert {name: list(getattr(found, name))[::-1] for name in ROWS} == lists


@each_table
def test_a_table_with_ids_and_seconds(dm: DataManager, table: Any) -> None:
    """What is missing, as each library marks it, is None."""
    extra = {"duration": [0.5, None, 2.5, 1.0, 1.0], "request_id": ["a", "b", None, "d", "é"]}
    assert len(dm.add_model_requests("m", table({**ROWS, **extra}))) == 5
    assert list(dm.add_model_requests("m", table({**ROWS, **extra}))) == [1, 2, 6, 4, 5]
    assert dm.performance()[0].duration_max == 2.5


@each_table
def test_a_table_that_is_refused(dm: DataManager, table: Any) -> None:
    def refused(change: dict[str, Any], said: str) -> None:
        with pytest.raises(InvalidDataError, match=said):
            dm.add_model_requests("m", table({**ROWS, **change}))

    refused({"more": [1] * 5}, "and no others: 6 given, .*'more'")
    refused({"cache_n": ["x"] * 5}, "cache_n must be")
    refused({"cache_n": [1, 2, None, 4, 5]}, "row 2: cache_n must be|cache_n must hold numbers")
    refused({"timestamp": ["2026-01-01"] * 5}, "timestamp must be")
    refused({"request_id": [1, 2, 3, 4, 5]}, "row 0: request_id must be a str")
    with pytest.raises(InvalidDataError, match="rows has no column prompt_n"):
        dm.add_model_requests("m", table({n: v for n, v in ROWS.items() if n != "prompt_n"}))
    assert dm.get_models() == []


def test_a_column_that_is_there_twice(dm: DataManager) -> None:
    arrow = pa.table([pa.array([1])] * 6, names=[*ROWS, "timestamp"])
    with pytest.raises(InvalidDataError, match="rows has 2 columns timestamp"):
        dm.add_model_requests("m", arrow)
    frame = pd.DataFrame(ROWS)
    with pytest.raises(InvalidDataError, match=r"column timestamp must be .* not DataFrame"):
        dm.add_model_requests("m", pd.concat([frame, frame[["timestamp"]]], axis=1))


def test_columns_of_a_library_in_a_dict(dm: DataManager) -> None:
    frame = pd.DataFrame({**ROWS, "request_id": ["a", None, "c", "d", "e"]})
    ids = frame.pop("request_id")
    assert len(dm.add_model_requests("m", dict(frame), request_ids=ids)) == 5
    arrow = pa.table(ROWS)
    assert len(dm.add_model_requests("m", dict(zip(ROWS, arrow.columns, strict=True)))) == 5
    kept = pa.array(["a", None, "c", "d", "e"])
    assert list(dm.add_model_requests("m", arrow, request_ids=kept)) == [1, 11, 3, 4, 5]


def test_what_has_columns_but_gives_no_values(dm: DataManager) -> None:
    with duckdb.connect() as connection:
        relation = connection.from_arrow(pa.table(ROWS))
        with pytest.raises(InvalidDataError, match=r"column timestamp .* not .*Relation"):
            dm.add_model_requests("m", relation)
    with pytest.raises(InvalidDataError, match=r"rows|row 0"):
        dm.add_model_requests("m", pa.table(ROWS).to_reader())
    assert dm.get_models() == []
