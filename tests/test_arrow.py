"""The Arrow PyCapsule interface, as its specification has it: who owns what, and for how long."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import extensions
import numpy as np
import pytest
from arrow_structs import Array, Schema, content, move, release
from memory import resident_bytes

from datamanager import DataManager, ModelRequest, ModelRequests

pa = pytest.importorskip("pyarrow", reason="needs pyarrow, of the dev extra")

NAMES = ModelRequest.__match_args__
TYPES = {name: pa.float64() if name == "timestamp" else pa.int64() for name in NAMES}
SCHEMA = pa.schema([pa.field(name, type, nullable=False) for name, type in TYPES.items()])
SLICES = [
    slice(None),
    slice(3, 9),
    slice(None, None, 2),
    slice(None, None, -1),
    slice(9, 2, -3),
    slice(4, 5),
    slice(4, 3, -7),
    slice(5, 5),
    slice(-100, None, -1),
    slice(100, None),
]


@pytest.fixture
def rows(dm: DataManager) -> ModelRequests:
    dm.add_model_requests("m", [[t + 0.5, t, 2 * t, 3 * t, 4 * t] for t in range(12)])
    return dm.get_model_requests("m")


def as_lists(rows: Any) -> dict[str, list[Any]]:
    return {name: [getattr(row, name) for row in rows] for name in NAMES}


def test_schema(rows: ModelRequests) -> None:
    assert pa.schema(rows) == SCHEMA
    assert pa.schema(rows[:0]) == SCHEMA
    for name, column in rows.columns.items():
        field = pa.field(column)
        assert field == pa.field(name, TYPES[name], nullable=False)


@pytest.mark.parametrize("key", SLICES, ids=str)
def test_values(rows: ModelRequests, key: slice) -> None:
    for part in (rows[key], rows[1:][key], rows[::-2][key]):
        wanted = as_lists(part)
        batch = pa.record_batch(part)
        batch.validate(full=True)
        assert batch.schema == SCHEMA and batch.to_pydict() == wanted
        (streamed,) = pa.RecordBatchReader.from_stream(part)
        streamed.validate(full=True)
        assert streamed.equals(batch)
        assert pa.table(part).to_pydict() == wanted
        for name, column in part.columns.items():
            array = pa.array(column)
            array.validate(full=True)
            assert array.type == TYPES[name] and array.to_pylist() == wanted[name]


def test_no_rows_at_all(dm: DataManager) -> None:
    dm.add_model_runtime_start("idle", 1.0)
    idle = dm.get_model_requests("idle")
    for rows in (idle, idle[::-1], ModelRequests([]), idle[-100::-1]):
        assert len(rows) == 0
        assert pa.table(rows).equals(SCHEMA.empty_table())
        assert pa.array(rows.timestamp).to_pylist() == []
        array = content(rows.__arrow_c_array__()[1])
        for i in range(len(NAMES)):  # not every consumer takes NULL for an empty buffer
            child = array.children[i].contents
            assert child.buffers[1] and (child.offset, child.length) == (0, 0)


def test_nothing_is_copied(rows: ModelRequests) -> None:
    for part in (rows, rows[4:], rows[2:][1:5], rows[4:3:-7]):
        (streamed,) = pa.RecordBatchReader.from_stream(part)
        for name, column in part.columns.items():
            for array in (pa.array(column), pa.record_batch(part)[name], streamed[name]):
                address = array.buffers()[1].address + array.offset * 8
                assert address == np.asarray(column).ctypes.data


def test_the_stream_ends(rows: ModelRequests) -> None:
    stream = content(rows[::2].__arrow_c_stream__())
    schemas, array, end = (Schema(), Schema()), Array(), Array()
    for schema in schemas:  # may be asked for more than once
        assert stream.get_schema(ctypes.byref(stream), ctypes.byref(schema)) == 0
        assert (schema.format, schema.n_children) == (b"+s", 6)
        release(schema)
    assert stream.get_next(ctypes.byref(stream), ctypes.byref(array)) == 0
    assert (array.length, array.n_children, array.null_count) == (6, 6, 0)
    for _ in range(2):
        end.length = 1
        assert stream.get_next(ctypes.byref(stream), ctypes.byref(end)) == 0
        assert not end.release
    release(stream)
    release(array)


@pytest.mark.parametrize("key", [slice(None), slice(2, 9), slice(None, None, -2)], ids=str)
def test_arrays_outlive_everything(path: str, key: slice) -> None:
    with DataManager(path) as dm:
        dm.add_model_requests("m", [[t, t, t, t, t] for t in range(100_000)])
        rows = dm.get_model_requests("m")[key]
        wanted = np.asarray(rows.input_tokens).copy()
        batch, table, array = pa.record_batch(rows), pa.table(rows), pa.array(rows.input_tokens)
        stream = pa.RecordBatchReader.from_stream(rows)
        del rows
    Path(path).unlink()
    del dm
    gc.collect()
    churn = [np.full(100_000, -1) for _ in range(20)]
    for seen in (batch["input_tokens"], table["input_tokens"], array, stream.read_all()[2]):
        assert np.array_equal(seen.to_numpy(), wanted)
    assert len(churn) == 20


def test_a_child_outlives_its_parent(rows: ModelRequests) -> None:
    for part in (rows, rows[::-1]):
        wanted = list(part.output_tokens)
        schema, array = (move(content(capsule)) for capsule in part.__arrow_c_array__())
        child, child_schema = move(array.children[3].contents), move(schema.children[3].contents)
        release(array)
        release(schema)
        assert (child_schema.name, child_schema.format) == (b"output_tokens", b"l")
        values = ctypes.cast(child.buffers[1], ctypes.POINTER(ctypes.c_int64))
        assert [values[child.offset + i] for i in range(child.length)] == wanted
        release(child)
        release(child_schema)


def test_released_in_place(rows: ModelRequests) -> None:
    """The capsule's destructor must not do it again."""
    for capsule in (
        *rows.__arrow_c_array__(),
        rows.__arrow_c_stream__(),
        rows.__arrow_c_schema__(),
    ):
        release(content(capsule))
    column, schema = rows.id.__arrow_c_array__(), rows.id.__arrow_c_schema__()
    for capsule in (*column, schema):
        assert content(capsule).n_children == 0
        release(content(capsule))


def test_released_by_many_threads(rows: ModelRequests) -> None:
    wanted = as_lists(rows)
    for _ in range(20):
        part = ModelRequests(list(rows))
        arrays = [move(content(part.__arrow_c_array__()[1])) for _ in range(16)]
        arrays += [move(content(part[::-1].__arrow_c_array__()[1])) for _ in range(16)]
        children = [move(array.children[0].contents) for array in arrays]
        barrier = threading.Barrier(4)

        def work(mine: list[Any], barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            for struct in mine:
                release(struct)

        structs = arrays + children
        threads = [threading.Thread(target=work, args=(structs[i::4],)) for i in range(4)]
        del part
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not any(struct.release for struct in structs)
    assert as_lists(rows) == wanted


def test_arrays_outlive_their_interpreter() -> None:
    interpreters = pytest.importorskip(
        "_xxsubinterpreters", reason="this Python makes second interpreters another way"
    )
    schema, array = Schema(), Array()
    code = f"""if True:
        import ctypes, sys
        sys.path[:] = {sys.path!r}
        from arrow_structs import content, move
        from datamanager import ModelRequest, ModelRequests
        rows = ModelRequests([ModelRequest(i, 0.5, 1, 2, 3, 4) for i in range(50_000)])
        places = {(ctypes.addressof(schema), ctypes.addressof(array))}
        for capsule, place in zip(rows.__arrow_c_array__(), places):
            moved = move(content(capsule))
            ctypes.memmove(place, ctypes.byref(moved), ctypes.sizeof(moved))
    """
    interpreter = interpreters.create(isolated=False)
    interpreters.run_string(interpreter, code)
    interpreters.destroy(interpreter)
    batch = pa.RecordBatch._import_from_c(ctypes.addressof(array), ctypes.addressof(schema))
    assert batch.schema == SCHEMA
    assert np.array_equal(batch["id"].to_numpy(), np.arange(50_000))


USES: dict[str, Callable[[ModelRequests], object]] = {
    "array": lambda rows: rows.__arrow_c_array__(),
    "strided array": lambda rows: rows[::2].__arrow_c_array__(),
    "stream": lambda rows: rows.__arrow_c_stream__(),
    "schema": lambda rows: rows.__arrow_c_schema__(),
    "column": lambda rows: rows.id.__arrow_c_array__(),
    "strided column": lambda rows: rows[::-1].id.__arrow_c_array__(),
    "table": lambda rows: pa.table(rows),
    "strided batch": lambda rows: pa.record_batch(rows[::-1]),
    "consumed column": lambda rows: pa.array(rows.timestamp),
}


@pytest.mark.slow
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_nothing_leaks(use: Callable[[ModelRequests], object], dm: DataManager) -> None:
    dm.add_model_requests("m", [[t, t, t, t, t] for t in range(20_000)])
    for _ in range(10):
        use(dm.get_model_requests("m"))
    before = resident_bytes()
    for _ in range(100):  # 100 MB, if what is used were kept
        use(dm.get_model_requests("m"))
    assert resident_bytes() - before < 20_000_000


def test_requested_schema(rows: ModelRequests) -> None:
    other = pa.schema([pa.field(name, pa.float64()) for name in NAMES])
    few, closed = pa.schema([("id", pa.int64())]), pa.schema(rows).__arrow_c_schema__()
    release(content(closed))
    calls = [
        (rows.__arrow_c_array__, "__arrow_c_array__"),
        (rows.__arrow_c_stream__, "__arrow_c_stream__"),
    ]
    for call, name in calls:
        for schema in (None, SCHEMA.__arrow_c_schema__(), other.__arrow_c_schema__()):
            assert call(schema) is not None
            assert call(requested_schema=schema) is not None
        with pytest.raises(ValueError, match="requested_schema has 1 fields, not 6"):
            call(few.__arrow_c_schema__())
        for wrong in (7, closed, rows.__arrow_c_stream__()):
            with pytest.raises(TypeError, match="must be None or a capsule of an ArrowSchema"):
                call(wrong)
        with pytest.raises(TypeError, match=rf"{name}\(\) takes at most 1 positional"):
            call(None, None)
    # What cannot be given as asked is given as it is.
    assert pa.RecordBatchReader.from_stream(rows, schema=SCHEMA).schema == SCHEMA
    column = rows.id
    assert column.__arrow_c_array__(pa.int32().__arrow_c_schema__()) is not None
    with pytest.raises(ValueError, match="requested_schema has 6 fields, not 0"):
        column.__arrow_c_array__(SCHEMA.__arrow_c_schema__())


# ---- every kind of column that a table can have ----


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """arrow.c with tables of its own: see tests/c/arrow_tables.c."""
    sources = ["csrc/binding/arrow.c", "csrc/binding/args.c", "tests/c/arrow_tables.c"]
    target = extensions.build(tmp_path_factory.mktemp("arrow"), *sources)
    spec = importlib.util.spec_from_file_location("arrow_tables", target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Exported:
    """What call() returned, as an object that a consumer takes."""

    def __init__(self, capsules: tuple[Any, tuple[Any, Any], Any]) -> None:
        self.schema, self.array, self.stream = capsules

    def __arrow_c_schema__(self) -> Any:
        return self.schema

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return self.array

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.stream


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VALID = [0, 2, 3, 5, 7, 9, 11]
TEXTS = ["a", "bb", "ccc", "中", *[""] * 8]
KINDS: dict[str, list[Any]] = {
    "number": [10 * i for i in range(12)],
    "real": [i / 2 for i in range(12)],
    "time": [EPOCH + timedelta(microseconds=10 * i) for i in range(12)],
    "text": TEXTS,
    "maybe": [10 * i if i in VALID else None for i in range(12)],
    "maybe_text": [TEXTS[i] if i in VALID else None for i in range(12)],
}
KIND_SCHEMA = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("real", pa.float64(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("maybe", pa.int64()),
        pa.field("maybe_text", pa.string()),
    ]
)
VIEWS = [(0, 1, 12), (3, 1, 9), (0, 1, 1), (9, 1, 0), (0, 2, 6), (11, -1, 12), (10, -3, 4)]


@pytest.mark.parametrize(("start", "step", "length"), VIEWS)
def test_kinds(tables: ModuleType, start: int, step: int, length: int) -> None:
    rows = range(start, start + length * step, step)
    wanted = {name: [values[i] for i in rows] for name, values in KINDS.items()}
    exported = Exported(tables.call(start, step, length, -1))
    assert pa.schema(exported) == KIND_SCHEMA
    batch = pa.record_batch(exported)
    batch.validate(full=True)
    assert batch.schema == KIND_SCHEMA and batch.to_pydict() == wanted
    (streamed,) = pa.RecordBatchReader.from_stream(exported)
    streamed.validate(full=True)
    assert streamed.equals(batch)
    for column, name in enumerate(KINDS):
        exported = Exported(tables.call(start, step, length, column))
        assert pa.field(exported) == KIND_SCHEMA.field(name)
        assert pa.array(exported).to_pylist() == wanted[name]


def test_counting_from_threads(tables: ModuleType) -> None:
    before = tables.freed()
    assert tables.count_in_threads(4, 1_000_000) == 1
    assert tables.freed() == before + 1


def test_every_table_is_freed(tables: ModuleType) -> None:
    for column in (-1, 3):
        for start, step, length in VIEWS:
            before = tables.freed()
            schema, array, stream = tables.call(start, step, length, column)
            inner = move(content(array[1]))
            del schema, array, stream
            packed = step != 1  # its rows are its own
            assert tables.freed() == before + packed
            if column < 0:
                last = move(inner.children[5].contents)
                release(inner)
                assert tables.freed() == before + packed
                release(last)
            else:
                release(inner)
            assert tables.freed() == before + 1
