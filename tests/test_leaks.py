"""Memory and reference counts stay flat, whatever is called, and however it fails.

Growth is measured over several stretches of calls, and counts only where each of them grew: caches
fill up, a leak goes on. DM_TEST_ROUNDS shortens it for sanitizers, which replace the allocator.
Calls that take 0.1 ms and more have a fiftieth of the rounds, those that add a fourth, unless
DM_TEST_SLOW=1: `make leaks`.
"""

from __future__ import annotations

import copy
import ctypes
import datetime
import gc
import mmap
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory import allocated_bytes, resident_bytes
from test_lifecycle import ARGUMENTS

import datamanager
from datamanager import DataManager

FULL_ROUNDS = 100_000
ROUNDS = int(os.environ.get("DM_TEST_ROUNDS", FULL_ROUNDS))
STRETCHES = 5
CACHED_ROWS = 300_000  # more than fit into SQLite's cache of pages, which else grows
SLOW = int(os.environ.get("DM_TEST_SLOW", "50"))
ADDS = min(SLOW, 4)

Call = Callable[[], object]
WATCHED = [None, True, False, (), "", 0, datamanager._core, *vars(datamanager).values()]


def memory() -> dict[str, int]:
    """What a leak would make grow, in units of which a call that leaks adds one at least."""
    gc.collect()
    counts = {f"references to {what!r:.60}": sys.getrefcount(what) for what in WATCHED}
    counts["blocks of Python"] = sys.getallocatedblocks()
    counts["file handles"] = len(os.listdir("/proc/self/fd"))
    if hasattr(sys, "gettotalrefcount"):  # of a debug build
        counts["references in all"] = sys.gettotalrefcount()
    if ROUNDS >= FULL_ROUNDS:
        counts["malloc, 8 bytes"] = allocated_bytes() // 8
        counts["resident, 8 bytes"] = resident_bytes() // 8
    return counts


def leaks(call: Call, rounds: int) -> dict[str, int]:
    """By how much at least each stretch of the calls made something grow."""
    stretch = max(rounds // STRETCHES, 50)  # a few blocks come and go with caches
    for _ in repeat(None, stretch):
        call()
    growth: dict[str, int] = {}
    before = memory()
    for _ in range(STRETCHES):
        for _ in repeat(None, stretch):
            call()
        after = memory()
        growth = {
            what: min(growth.get(what, sys.maxsize), after[what] - before[what]) for what in after
        }
        before = after
    return {what: grown for what, grown in growth.items() if grown > stretch // 2}


def fails(call: Call) -> Call:
    def failing() -> None:
        try:
            call()
        except (datamanager.DataManagerError, TypeError, ValueError, AttributeError, LookupError):
            return
        raise AssertionError("this was to fail")

    return failing


# ---- the controls: what is planted is found ----


def test_planted_leaks_are_found() -> None:
    kept: list[Any] = []
    found = leaks(lambda: kept.append(object()), 1000)
    assert "blocks of Python" in found or not sys.getallocatedblocks()  # as of PYTHONMALLOC=malloc
    kind = datamanager.ModelRunTime
    leak_reference = ctypes.pythonapi.Py_IncRef
    leak_reference.argtypes = [ctypes.py_object]
    found = leaks(lambda: leak_reference(kind), 1000)
    assert found.pop(f"references to {kind!r:.60}") == 200
    assert found.keys() <= {"references in all"} and len(found) == hasattr(sys, "gettotalrefcount")
    assert "file handles" in leaks(lambda: kept.append(os.open(os.devnull, os.O_RDONLY)), 100)
    while isinstance(kept[-1], int):
        os.close(kept.pop())
    assert leaks(object, 1000) == {}


@pytest.mark.skipif(ROUNDS < FULL_ROUNDS, reason="a sanitizer finds what malloc gave")
def test_planted_leak_of_malloc_is_found() -> None:
    malloc = ctypes.CDLL(None).malloc
    malloc.restype = ctypes.c_void_p
    assert "malloc, 8 bytes" in leaks(lambda: malloc(16), 10_000)
    pages: list[mmap.mmap] = []  # malloc might hand out what was resident before

    def page() -> None:
        pages.append(mmap.mmap(-1, mmap.PAGESIZE))
        pages[-1][0] = 1

    assert "resident, 8 bytes" in leaks(page, 1000)


# ---- methods ----

TIER = [1, 0, 1000, 1.0, 2.0, True, 0.5]
ROWS = [[1, 2, 3, 1, 1], (2.5, 3, 4, 0, 3)]
COLUMNS = {name: np.arange(3) for name in ("input_tokens", "output_tokens", "cache_n", "prompt_n")}
COLUMNS["timestamp"] = np.arange(3.0)
LISTS = {name: column.tolist() for name, column in COLUMNS.items()}
LISTS["duration"] = [None, 1.5, 2]


class Table:
    """As Arrow's and polars' are: it iterates by its columns."""

    column_names = tuple(COLUMNS)

    def __getitem__(self, name: str) -> Any:
        return COLUMNS[name]


AT: dict[str, Any] = {"effective_from": 5.0}  # always the same: the history does not grow
A_DAY = datetime.datetime(2026, 1, 1)


def batch(dm: DataManager) -> None:
    with dm.batch() as outer:
        dm.update_program_runtime_end(2.0)
        with dm.batch():
            dm.update_hourly_price("m", 1.0, **AT)
    assert outer.ids == [None, None]


def batch_undone(dm: DataManager) -> None:
    try:
        with dm.batch():
            dm.add_model_request("m", ROWS[0])
            raise KeyError
    except KeyError:
        pass


def enter(dm: DataManager) -> None:
    with DataManager(dm.db_path) as other:
        other.get_models()


def delete(dm: DataManager) -> None:
    dm.add_model_runtime_start("gone", 1.0)
    dm.delete_model_tables("gone")


def rename(dm: DataManager) -> None:
    dm.rename_model("m", "renamed")
    dm.rename_model("renamed", "m")


def prune(dm: DataManager) -> None:
    dm.add_model_requests("old", ROWS)
    assert dm.prune(9.0, models="old", tz="UTC").total.requests == len(ROWS)
    assert dm.usage("old", end=3.0)[0].requests == len(ROWS)
    dm.delete_model_tables("old")


def backup(dm: DataManager) -> None:
    dest = f"{dm.db_path}.backup"
    dm.backup(dest)
    os.unlink(dest)


def export(dm: DataManager) -> None:
    dest = f"{dm.db_path}.csv"
    dm.export(dest)
    dm.import_requests(dest)
    os.unlink(dest)


def tiers(dm: DataManager) -> None:
    dm.delete_tier_pricing("m", 1, **AT)
    dm.add_tier_pricing("m", TIER, **AT)


Calls = dict[str, list[Callable[[DataManager], object]]]

READS: Calls = {
    "get_program_runtime": [lambda dm: dm.get_program_runtime(2)],
    "get_model_runtime": [lambda dm: dm.get_model_runtime("m", start=A_DAY)],
    "get_model_requests": [
        lambda dm: dm.get_model_requests("m", limit=1),
        lambda dm: dm.get_model_requests("m", minutes=1),
    ],
    "get_model_billing": [lambda dm: dm.get_model_billing("m")],
    "get_price_history": [lambda dm: dm.get_price_history("m")],
    "usage": [
        lambda dm: dm._usage(["m"], [0.0, 5.0], None, None, False),
        lambda dm: dm._time_span(None),
    ],
    "performance": [lambda dm: dm._performance(["m"], [0.0, 5.0])],
    "get_safe_model_name": [lambda dm: dm.get_safe_model_name("a model")],
    "get_model_safe_name": [lambda dm: dm.get_model_safe_name("m")],
    "get_models": [lambda dm: dm.get_models()],
    "get_orphaned_models": [lambda dm: dm.get_orphaned_models(["other"])],
    "stats": [lambda dm: dm.stats()],
    "__enter__": [enter],
}

# These add rows, so their memory would grow with the database in memory.
ADDING: Calls = {
    "add_program_runtime_start": [lambda dm: dm.add_program_runtime_start(1.0)],
    "add_model_runtime_start": [lambda dm: dm.add_model_runtime_start("m", 1.0)],
    "add_model_request": [
        lambda dm: dm.add_model_request("m", ROWS[0]),
        lambda dm: dm.add_model_request("m", ROWS[1], duration=2, first_token=1.0),
        lambda dm: dm.add_model_request("m", ROWS[0], request_id="once"),
    ],
    "add_response": [
        lambda dm: dm.add_response("m", {"usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    ],
    "add_model_requests": [
        lambda dm: dm.add_model_requests("m", iter(ROWS)),
        lambda dm: dm.add_model_requests("m", COLUMNS),
        lambda dm: dm.add_model_requests("m", LISTS),
        lambda dm: dm.add_model_requests("m", Table()),
        lambda dm: dm.add_model_requests("m", ROWS, request_ids=["once", None]),
        lambda dm: dm.add_model_requests("m", {**COLUMNS, "request_id": ["once"] * 3}),
    ],
}

CHANGING: Calls = {
    "update_program_runtime_end": [lambda dm: dm.update_program_runtime_end(2.0)],
    "update_model_runtime_end": [lambda dm: dm.update_model_runtime_end("m", 2.0)],
    "add_tier_pricing": [tiers],
    "delete_tier_pricing": [],  # by the one above
    "update_tier_pricing": [lambda dm: dm.update_tier_pricing("m", TIER, **AT)],
    "set_tier_pricing": [lambda dm: dm.set_tier_pricing("m", TIER, **AT)],
    "update_hourly_price": [lambda dm: dm.update_hourly_price("m", 1.5, **AT)],
    "update_billing_method": [lambda dm: dm.update_billing_method("m", True, **AT)],
    "set_billing_strategy": [lambda dm: dm.set_billing_strategy("m", "volume", **AT)],
    "set_pricing": [lambda dm: dm.set_pricing("m", tiers=[TIER], hourly_price=1.0, **AT)],
    "batch": [batch, batch_undone],
}

SLOWLY: Calls = {
    "usage": [lambda dm: dm.usage("m", buckets=2, start=0, end=9).__arrow_c_stream__()],
    "cost": [lambda dm: dm.cost("m", 10, 10, at=9.0, strategy="cumulative")],
    "analyze": [lambda dm: dm.analyze("m")],
    "invoice": [lambda dm: dm.invoice("m")],
    "performance": [lambda dm: str(dm.performance("m"))],
    "get_model_status": [lambda dm: dm.get_model_status("m")],
    "get_status": [lambda dm: dm.get_status(minutes=5)],
    "delete_model_tables": [delete],
    "rename_model": [rename],
    "get_storage_stats": [lambda dm: dm.get_storage_stats()],
    "check": [
        lambda dm: dm.check(),
        lambda dm: dm.check(quick=True),
        lambda dm: dm.check(repair=True),
    ],
    "vacuum": [lambda dm: dm.vacuum()],
    "prune": [prune, lambda dm: dm.prune(1.0, "day", dry_run=True)],
    "backup": [backup],
    "export": [export],
    "import_requests": [],  # by the one above
    "__enter__": [lambda dm: DataManager(":memory:").close(), lambda dm: DataManager(":memory:")],
}


@pytest.fixture(scope="module", autouse=True)
def _collecting_is_quick() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def fill(dm: DataManager) -> DataManager:
    dm.set_pricing("m", tiers=[TIER], use_tier_pricing=True, **AT)
    dm.add_model_requests("m", ROWS)
    dm.add_model_runtime_start("m", 1.0)
    dm.add_program_runtime_start(1.0)
    return dm


@pytest.fixture
def store(path: str) -> Iterator[DataManager]:
    with DataManager(path, durability="normal") as dm:
        yield fill(dm)


def test_every_method_is_measured() -> None:
    assert READS.keys() | ADDING.keys() | CHANGING.keys() | SLOWLY.keys() == set(ARGUMENTS)


def assert_flat(calls: list[Callable[[DataManager], object]], dm: DataManager, rounds: int) -> None:
    for call in calls:
        assert leaks(lambda call=call: call(dm), rounds) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", READS)
def test_reads(store: DataManager, name: str) -> None:
    assert_flat(READS[name], store, ROUNDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ADDING)
def test_adding(store: DataManager, name: str) -> None:
    store.add_model_requests("other", [ROWS[0]] * CACHED_ROWS)
    assert_flat(ADDING[name], store, ROUNDS // ADDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGING)
def test_changing(name: str) -> None:
    with DataManager(":memory:") as dm:
        assert_flat(CHANGING[name], fill(dm), ROUNDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOWLY)
def test_slowly(store: DataManager, name: str) -> None:
    assert_flat(SLOWLY[name], store, ROUNDS // SLOW)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - {"__enter__", "batch", "get_models"}))
def test_method_that_fails(store: DataManager, name: str) -> None:
    method, arguments = getattr(store, name), ARGUMENTS[name]
    calls: list[Call] = [
        lambda: method(*arguments, unknown=1),
        lambda: method(*arguments, *range(9)),
    ]
    for at in range(len(arguments)):
        wrong = [*arguments[:at], object(), *arguments[at + 1 :]]
        calls.append(lambda wrong=wrong: method(*wrong))
    for call in calls:
        assert leaks(fails(call), ROUNDS // 10) == {}


BAD_ROWS: list[Any] = [
    1,
    [[1, 2, 3, 4]],
    [ROWS[0], [1, 2, 3, 4, -1]],
    [ROWS[0], [1, 2, object(), 4, 5]],
    {"timestamp": [1.0]},
    {**COLUMNS, "more": [1]},
    {**COLUMNS, "input_tokens": np.arange(2)},
    {**COLUMNS, "input_tokens": np.zeros(3, complex)},
    {**COLUMNS, "input_tokens": np.array([0.5, 1, 2])},
    {**LISTS, "input_tokens": [0.5, 1, 2]},
    {**LISTS, "input_tokens": "abc"},
    {**LISTS, "request_id": ["a", "b", 3]},
    {**LISTS, "request_id": ["a", "b", ""]},
    {**LISTS, "request_id": ["a"]},
]


@pytest.mark.slow
@pytest.mark.parametrize("at", range(len(BAD_ROWS)))
def test_rows_that_are_refused(store: DataManager, at: int) -> None:
    assert leaks(fails(lambda: store.add_model_requests("m", BAD_ROWS[at])), ROUNDS // 5) == {}


@pytest.mark.slow
def test_errors_of_the_store(store: DataManager, tmp_path: Path) -> None:
    closed = DataManager(":memory:")
    closed.close()
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"this is no database at all, but long enough to be one " * 100)
    calls: list[Call] = [
        closed.get_models,
        closed.batch,
        closed.__enter__,
        lambda: store.get_model_requests("unknown"),
        lambda: store.add_tier_pricing("m", TIER, **AT),
        lambda: store.update_tier_pricing("m", [7, *TIER[1:]], **AT),
        lambda: store.update_model_runtime_end("never ran", 1.0),
        lambda: store.__init__(store.db_path),  # type: ignore[misc]
        lambda: DataManager(tmp_path),
        lambda: DataManager("a\0b"),
        lambda: DataManager(garbage, models=["m"]),
        lambda: DataManager(store.db_path, models=["m", object()]),  # type: ignore[list-item]
        lambda: DataManager(store.db_path, durability="none"),  # type: ignore[arg-type]
        lambda: DataManager(store.db_path, pool_size=0),
        lambda: DataManager(store.db_path, busy_timeout=-1),
    ]
    for call in calls:
        assert leaks(fails(call), ROUNDS // 10) == {}


# ---- records, sequences, columns ----


def records() -> list[Any]:
    tier = datamanager.TierPricing(*TIER)
    cost = datamanager.cost([tier], 10, 10, 5)
    return [
        datamanager.ModelRunTime(1, 2.0, 3.0),
        datamanager.ModelRequest(1, 2.0, 3, 4, 5, 6),
        tier,
        datamanager.ModelBilling(True, 1.0, [tier]),
        datamanager.Tariff(None, True, 1.0, "volume", [tier]),
        cost,
        cost.slices[0],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("record", records(), ids=lambda record: type(record).__name__)
def test_records(record: Any) -> None:
    kind, fields = type(record), vars(record)
    values, first = tuple(fields.values()), next(iter(fields))
    calls: list[Call] = [
        lambda: kind(*values),
        lambda: kind(**fields),
        lambda: hash(record),
        lambda: repr(record),
        lambda: record == kind(*values) and record != 1,
        lambda: [getattr(record, name) for name in fields],
        lambda: record.__reduce__(),
        lambda: record.__replace__(**{first: values[0]}),
        fails(lambda: kind(*values, 1)),
        fails(lambda: kind(*values[:-1])),
        fails(lambda: kind(*values, **{first: 1})),
        fails(lambda: kind(**fields, more=1)),
        fails(lambda: kind(*values[:-1], *([] if isinstance(values[-1], list) else ()))),
        fails(lambda: record.__replace__(1)),
        fails(lambda: setattr(record, first, 1)),
    ]
    for call in calls:
        assert leaks(call, ROUNDS // 5) == {}
    for call in (lambda: pickle.loads(pickle.dumps(record)), lambda: copy.deepcopy(record)):
        assert leaks(call, ROUNDS // 20) == {}


@pytest.mark.slow
def test_wrong_fields() -> None:
    for kind, values in [
        (datamanager.ModelRunTime, ("x", 2.0, 3.0)),
        (datamanager.ModelRunTime, (1, object(), 3.0)),
        (datamanager.ModelBilling, (True, 1.0, 5)),
        (datamanager.Tariff, (None, True, 1.0, "volume", 5)),
    ]:
        assert leaks(fails(lambda: kind(*values)), ROUNDS // 5) == {}  # noqa: B023


@pytest.mark.slow
def test_sequences(store: DataManager) -> None:
    requests = store.get_model_requests("m")
    other, items = store.get_model_requests("m"), list(requests)
    column = requests.timestamp
    calls: list[Call] = [
        lambda: requests[0],
        lambda: requests[-1],
        lambda: requests[::-1][1:],
        lambda: list(requests),
        lambda: iter(requests),
        lambda: requests == other and requests == items and requests != items[:1],
        lambda: requests == [1, 2],
        lambda: repr(requests),
        lambda: requests.index(items[1]) + requests.count(items[0]),
        lambda: items[0] in requests,
        lambda: (requests.copy(), requests + items, requests + requests),
        fails(lambda: requests + 1),
        lambda: requests.columns,
        lambda: requests.id,
        lambda: list(column),
        lambda: column[1],
        lambda: repr(column),
        lambda: memoryview(column),
        requests.__reduce__,
        lambda: datamanager.ModelRequests(items),
        requests.__arrow_c_schema__,
        requests.__arrow_c_array__,
        requests[::-1].__arrow_c_array__,
        requests.__arrow_c_stream__,
        column.__arrow_c_schema__,
        column.__arrow_c_array__,
        lambda: requests.__arrow_c_array__(requests.__arrow_c_schema__()),
        fails(lambda: requests.__arrow_c_array__(column.__arrow_c_schema__())),
        fails(lambda: requests.__arrow_c_stream__(1)),
        fails(lambda: requests[9]),
        fails(lambda: requests["x"]),
        fails(lambda: column[9]),
        fails(lambda: requests.index(1)),
        fails(lambda: hash(requests)),
        fails(lambda: datamanager.ModelRequests([1])),
        fails(lambda: datamanager.ModelRequests(1)),
    ]
    for call in calls:
        assert leaks(call, ROUNDS // 5) == {}
    for call in (lambda: pickle.loads(pickle.dumps(requests)), lambda: str(store.usage("m"))):
        assert leaks(call, ROUNDS // SLOW) == {}


@pytest.mark.slow
def test_views_of_numpy(store: DataManager) -> None:
    requests = store.get_model_requests("m")
    found = leaks(lambda: np.asarray(requests[::-1].input_tokens), ROUNDS // 5)
    found.pop("references in all", None)  # NumPy is built without counting them
    assert found == {}


@pytest.mark.slow
def test_functions() -> None:
    table = datamanager._core.Table
    calls: list[Call] = [
        lambda: datamanager.cost([TIER], 10, 10, 5, strategy="volume", input_before=5),
        datamanager._core.sqlite_info,
        lambda: table([("a", "g", [1.0, None]), ("b", "u", ["x", None])]).__arrow_c_stream__(),
        lambda: table([("a", "l", [1, 2])]).column("a"),
        fails(lambda: datamanager.cost([TIER], 10, -1)),
        fails(lambda: datamanager.cost([[1, 2]], 10, 1)),
        fails(lambda: datamanager.cost([TIER], 10, 1, strategy="x")),
        fails(lambda: table([("a", "g", [1.0]), ("b", "l", ["x"])])),
        fails(lambda: table([("a", "g", [1.0]), ("b", "l", [1, 2])])),
        fails(lambda: table([("a", "x", [1.0])])),
        fails(lambda: table([("a", "l", [1])]).column("b")),
    ]
    for call in calls:
        assert leaks(call, ROUNDS // 5) == {}
