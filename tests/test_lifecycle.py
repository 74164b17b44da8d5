from __future__ import annotations

import copy
import gc
import os
import pickle
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import datamanager
from datamanager import DataManager, DataManagerError

BEGIN = 1_700_000_000
ROW = [BEGIN, 1, 2, 3, 4]
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "add_program_runtime_start": (1.0,),
    "update_program_runtime_end": (1.0,),
    "get_program_runtime": (),
    "add_model_runtime_start": ("m", 1.0),
    "update_model_runtime_end": ("m", 1.0),
    "get_model_runtime": ("m",),
    "add_model_request": ("m", [1, 2, 3, 4, 5]),
    "add_model_requests": ("m", [[1, 2, 3, 4, 5]]),
    "add_response": ("m", {"usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
    "get_model_requests": ("m",),
    "add_tier_pricing": ("m", [1, 0, 9, 1, 1, False, None]),
    "update_tier_pricing": ("m", [1, 0, 9, 1, 1, False, None]),
    "set_tier_pricing": ("m", [1, 0, 9, 1, 1, False, None]),
    "delete_tier_pricing": ("m", 1),
    "update_hourly_price": ("m", 1.0),
    "update_billing_method": ("m", True),
    "set_billing_strategy": ("m", "volume"),
    "set_pricing": ("m",),
    "get_model_billing": ("m",),
    "get_price_history": ("m",),
    "usage": (),
    "invoice": (),
    "cost": ("m", 1, 1),
    "analyze": ("m",),
    "performance": (),
    "get_model_status": ("m",),
    "get_status": (),
    "get_safe_model_name": ("m",),
    "get_model_safe_name": ("m",),
    "get_models": (),
    "delete_model_tables": ("m",),
    "batch": (),
    "check": (),
    "stats": (),
    "get_storage_stats": (),
    "vacuum": (),
    "prune": (1.0,),
    "rename_model": ("m", "n"),
    "get_orphaned_models": ([],),
    "backup": ("never-made.db",),
    "export": ("never-made.csv",),
    "import_requests": ("never-read.csv",),
    "__enter__": (),
}


def test_every_method_is_listed() -> None:
    public = {name for name in dir(DataManager) if not name.startswith("_")}
    assert public - {"close", "closed", "db_path"} == set(ARGUMENTS) - {"__enter__"}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_use_after_close(path: str, name: str) -> None:
    dm = DataManager(path)
    dm.close()
    dm.close()
    assert dm.closed
    options = {"hourly_price": 1.0} if name == "set_pricing" else {}
    with pytest.raises(datamanager.ClosedError, match="closed"):
        getattr(dm, name)(*ARGUMENTS[name], **options)


def test_handles_share_a_store(path: str) -> None:
    one, two = DataManager(path), DataManager(Path(path))
    assert one.add_model_request("m", [1, 2, 3, 4, 5]) == 1
    one.close()
    assert two.add_model_request("m", [1, 2, 3, 4, 5]) == 2
    two.close()
    assert os.listdir(os.path.dirname(path)) == ["usage.db"]


def test_collection(path: str) -> None:
    dm: DataManager | None = DataManager(path)
    seen = weakref.ref(dm)
    with pytest.raises(datamanager.DataManagerError, match="open already"):
        dm.__init__(path)  # type: ignore[union-attr, misc]
    dm = None
    gc.collect()
    assert seen() is None
    assert os.listdir(os.path.dirname(path)) == ["usage.db"]


def test_opened_twice_at_once(path: str) -> None:
    class Names(list[str]):
        def __iter__(self) -> Iterator[str]:
            dm.__init__(path)  # type: ignore[misc]
            return super().__iter__()

    dm = DataManager.__new__(DataManager)
    with pytest.raises(datamanager.DataManagerError, match="open already"):
        dm.__init__(path, models=Names(["m"]))  # type: ignore[misc]
    dm.close()
    assert os.listdir(os.path.dirname(path)) == ["usage.db"]  # neither left its log behind


def test_cycles_are_collected(path: str) -> None:
    dm: Any = DataManager(path)
    dm.its_batch = dm.batch()
    seen = weakref.ref(dm)
    dm = None
    gc.collect()
    assert seen() is None


def test_module_is_collected_before_its_records() -> None:
    code = (
        "import atexit, gc, sys, datamanager\n"
        "from datamanager.manager import _close_all\n"
        "gc.disable()\n"
        "core = datamanager._core\n"
        "core.kept = [datamanager.ModelBilling(True, 0.5, [core]) for _ in range(100)]\n"
        "gc.collect()\n"
        "atexit.unregister(_close_all)\n"
        "for name in [name for name in sys.modules if name.startswith('datamanager')]:\n"
        "    del sys.modules[name]\n"
        "del core, datamanager, _close_all\n"
        "assert gc.collect() > 100\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_memory_is_private() -> None:
    with DataManager(":memory:") as one, DataManager(":memory:") as two:
        one.add_model_request("m", [1, 2, 3, 4, 5])
        assert len(one.get_model_requests("m")) == 1
        assert two.get_models() == []


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ["file:x?mode=memory", "a b/ünï/模型.db", "webui/monitoring.db"]:
        with DataManager(name) as dm:
            dm.add_program_runtime_start(1.0)
        assert Path(name).is_file()
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
    with pytest.raises(datamanager.InvalidDataError, match="NUL"):
        DataManager("a\0b")


def test_db_path_is_what_was_opened(path: str) -> None:
    class Folder(os.PathLike[str]):
        def __fspath__(self) -> str:
            return path

    for given in (path, Path(path), os.fsencode(path), Folder()):
        with DataManager(given) as dm:  # type: ignore[arg-type]
            assert dm.db_path == path


def test_read_only(path: str) -> None:
    with pytest.raises(datamanager.CannotOpenError, match="No such file"):
        DataManager(path, read_only=True)
    with DataManager(path) as dm:
        dm.add_model_request("m", [1, 2, 3, 4, 5])
    before = Path(path).read_bytes()
    with DataManager(path, read_only=True) as dm:
        assert len(dm.get_model_requests("m")) == 1
        with pytest.raises(datamanager.ReadOnlyError, match="reading only"):
            dm.add_model_request("m", [1, 2, 3, 4, 5])
    assert Path(path).read_bytes() == before


def test_options(path: str) -> None:
    with DataManager(path, models=["a", "b"], durability="normal", pool_size=1) as dm:
        assert dm.get_models() == ["a", "b"]
        with DataManager(path, models=["b", "c"]) as other:
            assert other.get_models() == ["a", "b", "c"]


def test_busy(path: str) -> None:
    with DataManager(path, busy_timeout=0.05) as dm:
        dm.add_model_request("m", [1, 2, 3, 4, 5])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(datamanager.BusyError, match="locked"):
            dm.add_model_request("m", [1, 2, 3, 4, 5])
        with pytest.raises(TimeoutError), dm.batch():
            dm.add_model_request("m", [1, 2, 3, 4, 5])
        other.execute("ROLLBACK")
        other.close()
        assert len(dm.get_model_requests("m")) == 1
        assert dm.add_model_request("m", [1, 2, 3, 4, 5]) == 2


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE t(x)")
    connection.close()
    newer = tmp_path / "newer.db"
    DataManager(newer).close()
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"this is no database at all, but long enough to be one " * 100)
    for file, error in [
        (foreign, datamanager.ForeignDatabaseError),
        (newer, datamanager.NewerDatabaseError),
        (garbage, datamanager.DamagedDatabaseError),
        (tmp_path, datamanager.CannotOpenError),
    ]:
        before = file.read_bytes() if file.is_file() else None
        with pytest.raises(error):
            DataManager(file)
        if before is not None:
            assert file.read_bytes() == before
    DataManager(tmp_path / "a.db").close()
    os.link(tmp_path / "a.db", tmp_path / "b.db")
    with pytest.raises(datamanager.CannotOpenError, match="hard links"):
        DataManager(tmp_path / "a.db")


def test_batches(dm: DataManager) -> None:
    with dm.batch() as batch:
        assert dm.add_model_request("m", [1, 2, 3, 4, 5]) is None
        assert dm.add_model_requests("m", [[1, 2, 3, 4, 5]] * 3) is None
        dm.update_hourly_price("m", 2.0)
        with pytest.raises(KeyError), dm.batch():
            dm.add_model_request("m", [9, 9, 9, 9, 9])
            raise KeyError
        assert dm.get_models() == []
    assert batch.ids == [1, range(2, 5), None]
    with pytest.raises(datamanager.TierNotFoundError), dm.batch():
        dm.add_model_request("m", [1, 2, 3, 4, 5])
        dm.delete_tier_pricing("m", 7)
    assert len(dm.get_model_requests("m")) == 4


def test_batch_that_its_thread_left_behind(dm: DataManager) -> None:
    """The system gives a new thread the id of one that has ended; that is not its batch."""
    ids: list[int | None] = []
    work = [
        lambda: dm.batch().__enter__(),
        *[lambda: ids.append(dm.add_model_request("m", [1, 2, 3, 4, 5]))] * 3,
    ]
    for target in work:
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert ids == [1, 2, 3]


def test_batch_that_another_thread_ends(dm: DataManager) -> None:
    """As web frameworks do with a generator whose halves run in the threads of a pool."""
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for error in (None, ValueError()):
            batch = one.submit(dm.batch().__enter__).result()
            one.submit(dm.add_model_request, "m", ROW).result()
            kind = None if error is None else type(error)
            ended = other.submit(batch.__exit__, kind, error, None)
            if error is None:
                with pytest.raises(
                    datamanager.DataManagerError, match=r"another thread.*writes: 1"
                ):
                    ended.result()
            else:
                assert ended.result() is False
            assert batch.ids is None
        assert one.submit(dm.add_model_request, "m", ROW).result() == 1
        with pytest.raises(datamanager.DataManagerError, match="no batch open here"):
            one.submit(batch.__exit__, None, None, None).result()


def test_batches_that_end_in_another_order(dm: DataManager) -> None:
    """As those of two coroutines of one thread do."""
    outer, inner = dm.batch(), dm.batch()
    with outer:
        pass
    for ending in (None, KeyError):
        outer.__enter__()
        dm.add_model_request("m", ROW)
        inner.__enter__()
        dm.add_model_request("m", ROW)
        if ending is None:
            with pytest.raises(datamanager.DataManagerError, match=r"begun inside it.*writes: 2"):
                outer.__exit__(None, None, None)
        else:
            outer.__exit__(ending, ending(), None)
        for refused in (lambda: dm.add_model_request("m", ROW), lambda: dm.batch().__enter__()):
            with pytest.raises(datamanager.DataManagerError, match="was dropped"):
                refused()
        with pytest.raises(datamanager.DataManagerError, match="no batch open here"):
            inner.__exit__(None, None, None)
        assert dm.get_models() == []
    with (
        outer,
        pytest.raises(datamanager.DataManagerError, match="entered already"),
        outer,
    ):
        pass
    assert dm.add_model_request("m", ROW) == 1


def test_a_level_that_another_thread_ends(dm: DataManager) -> None:
    """Inside the others nothing is stored either: they raise as well, and are tried again."""
    outer = dm.batch().__enter__()
    middle = dm.batch().__enter__()
    with pytest.raises(datamanager.DataManagerError, match="no batch open here"), dm.batch():
        with (
            ThreadPoolExecutor(1) as other,
            pytest.raises(datamanager.DataManagerError, match=r"another thread"),
        ):
            other.submit(middle.__exit__, None, None, None).result()
        with pytest.raises(datamanager.DataManagerError, match="was dropped"):
            dm.add_model_request("m", ROW)
    with pytest.raises(datamanager.DataManagerError, match="was dropped"):
        dm.add_model_request("m", ROW)
    assert outer.__exit__(KeyError, KeyError(), None) is False
    assert dm.get_models() == []
    assert dm.add_model_request("m", ROW) == 1


def test_closing_with_a_dropped_batch_open(path: str) -> None:
    """Of its writes an error has told already."""
    dm = DataManager(path)
    outer, inner = dm.batch().__enter__(), dm.batch().__enter__()
    dm.add_model_request("m", ROW)
    with pytest.raises(datamanager.DataManagerError, match="writes: 1"):
        outer.__exit__(None, None, None)
    dm.close()
    with pytest.raises(datamanager.ClosedError):
        inner.__exit__(None, None, None)


def test_closing_with_a_batch_open(path: str) -> None:
    for writes in (0, 2):
        dm = DataManager(path)
        batch = dm.batch().__enter__()
        for _ in range(writes):
            dm.add_model_request("m", ROW)
        if writes:
            with pytest.warns(RuntimeWarning, match="its writes were dropped, 2 of them"):
                dm.close()
        dm.close()
        with pytest.raises(datamanager.ClosedError):
            batch.__exit__(None, None, None)
    dm = DataManager(path)
    dm.batch().__enter__()
    dm.add_model_request("m", ROW)
    with pytest.warns(RuntimeWarning, match="1 of them"):
        del dm
    with DataManager(path) as dm:
        assert dm.get_models() == []


def test_records() -> None:
    run = datamanager.ModelRunTime(1, 2.0, end_time=3.0)
    tier = datamanager.TierPricing(1, 0, 9, 1.0, 2.0, True, 0.5)
    billing = datamanager.ModelBilling(True, 0.5, [tier])
    for record in (run, tier, billing):
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(record, protocol)) == record
        assert copy.copy(record) == copy.deepcopy(record) == record
        assert hash(copy.deepcopy(record)) == hash(record)
        assert eval(repr(record), vars(datamanager)) == record
        assert type(record)(**vars(record)) == record
        assert record != 1
        with pytest.raises(AttributeError):
            record.id = 1  # type: ignore[misc, union-attr]
    match run:
        case datamanager.ModelRunTime(id, start, end):
            assert (id, start, end) == (1, 2.0, 3.0)
    with pytest.raises(TypeError, match="missing required argument: 'end_time'"):
        datamanager.ModelRunTime(1, 2.0)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword"):
        datamanager.ModelRunTime(1, 2.0, 3.0, x=1)  # type: ignore[call-arg]


def test_a_record_that_holds_itself() -> None:
    billing = datamanager.ModelBilling(True, 0.5, [])
    other = datamanager.ModelBilling(True, 0.5, [])
    for record in (billing, other):
        record.tier_pricing.append(record)  # type: ignore[arg-type]
    for call in (lambda: hash(billing), lambda: billing == other):
        with pytest.raises(RecursionError):
            call()
    assert repr(billing).endswith("tier_pricing=[...])])")


def test_sequences(dm: DataManager) -> None:
    dm.add_model_requests("m", [[t, t, t, t, t] for t in range(10)])
    requests = dm.get_model_requests("m")
    records = list(requests)
    assert [r.id for r in records] == list(range(10, 0, -1))
    assert requests == records and records == list(requests) and requests != records[:-1]
    for key in (slice(2, 8), slice(None, None, -3), slice(8, 2, -2), slice(5, 5)):
        assert requests[key] == records[key]
        assert np.asarray(requests[key].id).tolist() == [r.id for r in records[key]]
    assert requests[1:][::2][1] == records[1:][::2][1]
    assert requests[-1] == records[-1] and records[3] in requests
    assert requests.index(records[3]) == 3 and requests.count(records[3]) == 1
    assert pickle.loads(pickle.dumps(requests)) == requests
    with pytest.raises(IndexError):
        requests[10]
    column = np.asarray(requests.timestamp)
    assert column.dtype == np.float64 and not column.flags.writeable
    assert np.shares_memory(column, np.asarray(requests[::2].timestamp))
    assert memoryview(requests.input_tokens).tolist() == list(range(9, -1, -1))
    assert not dm.get_model_requests("m", start=100)


def test_sequences_add_up_as_lists_do(dm: DataManager) -> None:
    dm.add_model_requests("m", [[t, t, t, t, t] for t in range(3)])
    requests = dm.get_model_requests("m")
    records = list(requests)
    same: list[object] = [requests.copy(), requests + records[:0], requests[3:] + requests]
    assert all(type(each) is list and each == records for each in same)
    assert requests + requests[:1] == [*records, records[0]]
    extended: list[object] = []
    also = extended
    also += requests
    assert extended == records and extended is also
    for other in (tuple(records), "abc", 5):
        with pytest.raises(TypeError, match=type(other).__name__):
            requests + other  # type: ignore[operator]


EXITING = """
import contextlib, datamanager, os, sys, threading
dm = datamanager.DataManager(sys.argv[1])
def add():
    os.write(1, b"%d\\n" % dm.add_model_request("m", [1, 2, 3, 4, 5]))
def work():
    with contextlib.suppress(datamanager.ClosedError):
        while True:
            add()
add()
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
with_batch = dm.batch()
with_batch.__enter__()
dm.add_model_request("unfinished", [1, 2, 3, 4, 5])
"""


def test_exit_with_open_handles(path: str) -> None:
    """Nothing that was acknowledged is lost, nothing that was not finished is there."""
    acknowledged: list[int] = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", EXITING, path],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0
        assert done.stderr.count("Warning") == 1 and "dropped, 1 of them" in done.stderr
        acknowledged += map(int, done.stdout.split())
        assert os.listdir(os.path.dirname(path)) == ["usage.db"]
    assert len(acknowledged) >= 3
    with DataManager(path) as dm:
        assert set(acknowledged) <= {request.id for request in dm.get_model_requests("m")}
        assert dm.get_models() == ["m"]


def test_two_processes_see_each_other(dm: DataManager, path: str) -> None:
    dm.add_model_request("m", [1, 2, 3, 4, 5])
    code = (
        f"import datamanager; dm = datamanager.DataManager({path!r}); "
        "dm.delete_model_tables('m'); dm.add_model_request('m', [7, 7, 7, 7, 7])"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert [r.timestamp for r in dm.get_model_requests("m")] == [7.0]
    assert dm.add_model_request("m", [8, 8, 8, 8, 8]) == 2


def test_moved_file(dm: DataManager, path: str) -> None:
    dm.add_model_request("m", [1, 2, 3, 4, 5])
    os.rename(path, path + ".away")
    moved = time.monotonic()
    with pytest.raises(datamanager.FileMovedError, match="moved"):
        while True:
            begun = time.monotonic()
            dm.add_model_request("m", [1, 2, 3, 4, 5])
            assert begun < moved + 0.1


def test_a_column_that_is_gone(dm: DataManager, path: str) -> None:
    """Of a statement that was prepared before, too."""
    dm.add_program_runtime_start(1)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE program_runtime RENAME COLUMN end_time TO ended")
    with pytest.raises(datamanager.CorruptDataError, match=r"not as it should be.*end_time"):
        dm.add_program_runtime_start(2)


def write_in_a_batch(dm: DataManager) -> None:
    with dm.batch():
        dm.add_model_request("m", ROW)
        dm.add_model_request("m", ROW)


@pytest.mark.parametrize(
    "calls",
    [
        [lambda dm: dm.add_model_request("m", ROW)],
        [lambda dm: dm.add_model_requests("m", [ROW] * 1000)],
        [write_in_a_batch],
        [lambda dm: dm.vacuum()],
        [lambda dm: dm.prune(BEGIN)],
        [lambda dm: dm.add_model_request("m", ROW), lambda dm: dm.vacuum(), write_in_a_batch],
    ],
    ids=["one", "many", "batch", "vacuum", "prune", "queue"],
)
def test_close_while_others_wait_for_a_lock(path: str, calls: list[Any]) -> None:
    """They need not wait until their time is up, and neither does close()."""
    said: list[object] = []

    def call(what: Any) -> None:
        try:
            what(dm)
        except DataManagerError as error:
            said.append(type(error))

    with DataManager(path) as dm:
        dm.add_model_request("m", [BEGIN - 9, 1, 1, 1, 1])
        dm.add_model_request("m", [BEGIN - 5, 1, 1, 1, 1])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        dm, second = DataManager(path, busy_timeout=600), DataManager(path, busy_timeout=0.1)
        threads = [threading.Thread(target=call, args=(what,), daemon=True) for what in calls]
        for thread in threads:
            thread.start()
        with pytest.raises(datamanager.BusyError):  # behind those, or before: all the same
            second.add_model_request("m", ROW)
        dm.close()
        for thread in threads:
            thread.join(60)
        second.close()
        assert said == [datamanager.ClosedError] * len(calls)
    with DataManager(path) as dm:
        assert len(dm.get_model_requests("m")) == 2


def test_a_name_that_another_process_deleted_is_registered_again(path: str) -> None:
    with DataManager(path) as dm:
        dm.add_model_request("m", ROW)
        code = f"import datamanager; datamanager.DataManager({path!r}).delete_model_tables('m')"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        with DataManager(path, models=["m"]) as again:
            assert again.get_models() == dm.get_models() == ["m"]
            assert dm.get_model_requests("m") == []
