"""restore(): all of the old or all of the new, for every open handle; the old is kept."""

from __future__ import annotations

import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from interrupting import interrupt_copying
from test_backup import ROW, sound, start, writers
from test_older_layout import build_older

import datamanager
from datamanager import DataManager, restore

KEPT = r"usage\.db\.before-restore-\d{8}T\d{6}Z(-\d+)?"

# Reads two models in one question; what is whole has as many requests of each.
READER = """
import sys, datamanager
dm = datamanager.DataManager(sys.argv[1])
print("ready", flush=True)
seen = set()
while "new" not in seen:
    rows = dm.usage()
    names = {row.model for row in rows}
    counts = {row.requests for row in rows}
    assert (names, counts) in (({"a", "b"}, {1000}), ({"c", "d"}, {2000})), (names, counts)
    seen.add("new" if "c" in names else "old")
dm.add_model_runtime_start("c", 1.0)
print(sorted(seen), flush=True)
"""

RESTORING = """
import sys, datamanager
told = []
def progress(done, total):
    told.append(done)
    if len(told) == int(sys.argv[3]):
        print("there", flush=True)
        sys.stdin.read()
datamanager.restore(sys.argv[1], sys.argv[2], progress)
"""

COUNTED = """
import select, sys, datamanager
with datamanager.DataManager(sys.argv[1], durability="normal") as dm:
    number = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        dm.add_model_request("process", [number, 0, 0, 0, 0])
        print(number, flush=True)
        number += 1
"""


def kept_in(folder: Path) -> list[Path]:
    return [folder / name for name in os.listdir(folder) if re.fullmatch(KEPT, name)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A backup with two models of 2,000 requests each, and a history of prices."""
    with DataManager(":memory:") as dm:
        for name in ("c", "d"):
            dm.add_model_requests(name, [ROW] * 2000)
        dm.set_pricing("c", tiers=[[1, 0, 0, 2.0, 8.0, True, 0.5]])
        dm.backup(tmp_path / "source.db")
    return tmp_path / "source.db"


@pytest.fixture
def live(dm: DataManager) -> DataManager:
    """Two models of 1,000 requests each, known to all of its connections."""
    for name in ("a", "b"):
        dm.add_model_requests(name, [ROW] * 1000)
        dm.set_pricing(name, hourly_price=2.0, use_tier_pricing=False)
    assert len(dm.usage()) == 2
    return dm


def holds_old(dm: DataManager) -> None:
    assert dm.get_models() == ["a", "b"]
    assert [len(dm.get_model_requests(name)) for name in ("a", "b")] == [1000, 1000]
    assert dm.get_model_billing("a").hourly_price == 2.0


def holds_new(dm: DataManager) -> None:
    assert dm.get_models() == ["c", "d"]
    assert [len(dm.get_model_requests(name)) for name in ("c", "d")] == [2000, 2000]
    assert dm.get_model_billing("c").tier_pricing[0].input_price_per_million == 2.0
    with pytest.raises(datamanager.ModelNotFoundError):
        dm.get_model_requests("a")


def test_under_open_handles(live: DataManager, source: Path, path: str, tmp_path: Path) -> None:
    with DataManager(path) as second, DataManager(path, read_only=True) as reader:
        holds_old(reader)
        before = source.read_bytes()
        kept = restore(source, path)
        assert source.read_bytes() == before
        for handle in (live, second, reader):
            holds_new(handle)
        # What the connections remember of the old models does not come back.
        assert live.add_model_request("c", ROW) == 2001
        assert second.add_model_request("a", ROW) == 1
        live.update_hourly_price("d", 3.0)
        assert reader.get_model_billing("d").hourly_price == 3.0
    assert kept is not None and kept_in(tmp_path) == [Path(kept)]
    sound(Path(kept))
    with DataManager(kept) as old:
        holds_old(old)
    live.close()
    sound(Path(path))


def test_there_and_back(live: DataManager, source: Path, path: str, tmp_path: Path) -> None:
    kept = restore(source, path)
    assert kept is not None
    again = restore(kept, path)
    holds_old(live)
    assert again is not None and again != kept and len(kept_in(tmp_path)) == 2
    with DataManager(again) as new:
        holds_new(new)


def test_other_processes_see_one_or_the_other(live: DataManager, source: Path, path: str) -> None:
    readers = [start(READER, path) for _ in range(3)]
    restore(source, path)
    for reader in readers:
        out, _ = reader.communicate(timeout=60)
        assert (reader.returncode, out) in ((0, "['new', 'old']\n"), (0, "['new']\n"))
    assert len(live.get_model_runtime("c")) == 3


@pytest.mark.slow
def test_nothing_falls_between(live: DataManager, source: Path, path: str) -> None:
    """Every row that others were told is stored is in the file that is kept, or in the new one: of
    a thread, which takes turns with the restore, and of a process, which only the lock keeps out.
    """
    acknowledged: list[int] = []
    stop = threading.Event()

    def write() -> None:
        with DataManager(path) as dm:
            for number in range(10**9):
                if stop.is_set():
                    return
                dm.add_model_request("thread", [number, 0, 0, 0, 0])
                acknowledged.append(number)

    writer = threading.Thread(target=write)
    found: dict[str, list[int]] = {"thread": [], "process": []}

    def find(dm: DataManager) -> None:
        for name in {*found} & {*dm.get_models()}:
            found[name] += [int(row.timestamp) for row in dm.get_model_requests(name)]

    command = [sys.executable, "-c", COUNTED, path]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None and other.stdout is not None
        told = []
        writer.start()
        try:
            with writers(path, 2):
                for _ in range(8):
                    told += [int(other.stdout.readline()) for _ in range(20)]
                    kept = restore(source, path)
                    assert kept is not None
                    with DataManager(kept) as old:
                        find(old)
        finally:
            stop.set()
            writer.join()
            other.stdin.close()
            told += [int(line) for line in other.stdout]
    find(live)
    assert sorted(found["thread"]) == acknowledged
    assert sorted(found["process"]) == told
    assert len(acknowledged) > 0 and other.returncode == 0


def test_where_nothing_is(source: Path, tmp_path: Path) -> None:
    new = tmp_path / "folder 模型" / "new.db"
    told: list[tuple[int, int]] = []
    assert restore(source, new, lambda *pages: told.append(pages)) is None
    assert told[-1][0] == told[-1][1] > 0
    assert os.listdir(new.parent) == ["new.db"]
    assert new.stat().st_mode & 0o777 == 0o600
    with DataManager(new) as dm:
        holds_new(dm)


def test_progress_counts_both_copies(live: DataManager, source: Path, path: str) -> None:
    told: list[tuple[int, int]] = []
    kept = restore(source, path, lambda *pages: told.append(pages))
    assert kept is not None
    sizes = (os.path.getsize(kept) + os.path.getsize(source)) / 4096
    assert {total for _, total in told} == {sizes} == {told[-1][0]}
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize("call", [1, 2])
def test_an_error_in_progress_changes_nothing(
    live: DataManager, source: Path, path: str, tmp_path: Path, call: int
) -> None:
    told: list[int] = []

    def refuse(done: int, total: int) -> None:
        told.append(done)
        if len(told) == call:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        restore(source, path, refuse)
    assert len(told) == call
    holds_old(live)
    assert live.add_model_request("a", ROW) == 1001
    assert kept_in(tmp_path) == []
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_what_is_refused(live: DataManager, source: Path, path: str, tmp_path: Path) -> None:
    foreign, newer, empty = (tmp_path / f"{name}.db" for name in ("foreign", "newer", "empty"))
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE t(x)")
    newer.write_bytes(source.read_bytes())
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version=99")
    empty.touch()
    damaged = tmp_path / "damaged.db"
    content = bytearray(source.read_bytes())
    content[4096 * 9 : 4096 * 10] = b"\xff" * 4096
    damaged.write_bytes(content)
    for file, error in (
        (foreign, datamanager.ForeignDatabaseError),
        (newer, datamanager.NewerDatabaseError),
        (empty, datamanager.ReadOnlyError),
        (damaged, datamanager.DamagedDatabaseError),
        (tmp_path / "missing.db", datamanager.CannotOpenError),
        (tmp_path, datamanager.CannotOpenError),
        (Path(path), datamanager.InvalidDataError),
        (":memory:", datamanager.InvalidDataError),
    ):
        with pytest.raises(error):
            restore(file, path)
    with pytest.raises(datamanager.ForeignDatabaseError):
        restore(source, foreign)
    holds_old(live)
    assert kept_in(tmp_path) == []


def test_a_refused_source_changes_nothing(source: Path, tmp_path: Path) -> None:
    """An empty file would get its tables."""
    content = bytearray(source.read_bytes())
    content[4096 * 9 : 4096 * 10] = b"\xff" * 4096
    source.write_bytes(content)
    older, empty = tmp_path / "older.db", tmp_path / "empty.db"
    build_older(str(older))
    empty.touch()
    for dest in (older, empty, tmp_path / "folder" / "new.db"):
        before = dest.read_bytes() if dest.exists() else None
        with pytest.raises(datamanager.DamagedDatabaseError):
            restore(source, dest)
        assert before == (dest.read_bytes() if dest.exists() else None)
    assert sorted(os.listdir(tmp_path)) == ["empty.db", "older.db", "source.db"]


def test_the_older_layout_is_not_touched(source: Path, tmp_path: Path) -> None:
    """It would be converted before anything else, also by a restore that is then stopped."""
    older = tmp_path / "older.db"
    build_older(str(older))
    before = older.read_bytes()
    with pytest.raises(datamanager.ReadOnlyError, match=r"older\.db has the older layout"):
        restore(source, older)
    assert older.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["older.db", "source.db"]
    DataManager(older).close()
    assert restore(source, older)
    with DataManager(older) as dm:
        holds_new(dm)


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_another_encoding(live: DataManager, path: str, tmp_path: Path, encoding: str) -> None:
    """Connections keep the encoding that they have found."""
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute(f"PRAGMA encoding='{encoding}'")
        connection.execute("CREATE TABLE program_runtime(id, start_time, end_time)")
    with DataManager(other) as dm:
        dm.add_model_request("c", ROW)
    with pytest.raises(datamanager.InvalidDataError, match="src is in UTF-16 and dest in UTF-8"):
        restore(other, path)
    holds_old(live)
    assert live.add_model_request("a", ROW) == 1001
    assert kept_in(tmp_path) == []
    assert restore(other, tmp_path / "new.db") is None
    assert restore(other, tmp_path / "new.db")
    with DataManager(tmp_path / "new.db") as dm:
        assert dm.get_models() == ["c"]


def test_writing_in_progress(live: DataManager, source: Path, path: str) -> None:
    """The restore has the writers' turn; to wait for that here would be to wait for oneself."""
    seen = []

    def progress(done: int, total: int) -> None:
        with pytest.raises(datamanager.DataManagerError, match="in the midst of"):
            live.add_model_request("a", ROW)
        with pytest.raises(datamanager.DataManagerError, match="in the midst of"):
            live.vacuum()
        seen.append(live.usage().total.requests)

    assert restore(source, path, progress)
    assert set(seen) == {2000}
    holds_new(live)
    assert live.add_model_request("c", ROW) == 2001


def test_a_damaged_file_is_put_aside(source: Path, path: str, tmp_path: Path) -> None:
    Path(path).write_bytes(b"\xff" * 8192)
    Path(path + "-wal").write_bytes(b"its log")
    kept = restore(source, path)
    assert kept is not None and Path(kept).read_bytes() == b"\xff" * 8192
    assert Path(kept + "-wal").read_bytes() == b"its log"
    assert sorted(os.listdir(tmp_path)) == sorted(
        ["source.db", "usage.db", Path(kept).name, Path(kept).name + "-wal"]
    )
    with DataManager(path) as dm:
        holds_new(dm)


def test_damage_under_open_handles_is_kept_too(live: DataManager, source: Path, path: str) -> None:
    """Damaged rows do not keep their file from being replaced."""
    live.close()
    content = bytearray(Path(path).read_bytes())
    content[4096 * 9 : 4096 * 10] = b"\xff" * 4096
    Path(path).write_bytes(content)
    with DataManager(path) as dm:
        kept = restore(source, path)
        holds_new(dm)
    assert kept is not None and Path(kept).stat().st_size == len(content)
    sound(Path(path))


def test_pages_of_another_size(live: DataManager, source: Path, path: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("PRAGMA page_size=1024")
        connection.execute("VACUUM")
    assert restore(source, path)
    holds_new(live)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_locked(live: DataManager, source: Path, path: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(datamanager.BusyError):
            restore(source, path, busy_timeout=0.05)
        assert time.monotonic() - began < 10  # not the 30 s of other calls
        other.execute("ROLLBACK")
    holds_old(live)
    assert kept_in(tmp_path) == []
    with pytest.raises(datamanager.InvalidDataError, match="busy_timeout"):
        restore(source, path, busy_timeout=-1.0)


@pytest.mark.parametrize("call", [1, 2])
def test_killed(live: DataManager, source: Path, path: str, tmp_path: Path, call: int) -> None:
    """While the old is kept, and just before the new is committed."""
    command = [sys.executable, "-c", RESTORING, str(source), path, str(call)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "there\n"
    child.kill()
    child.communicate()
    holds_old(live)
    assert live.add_model_request("a", ROW) == 1001
    for kept in kept_in(tmp_path):
        with DataManager(kept) as old:
            holds_old(old)
    assert len(kept_in(tmp_path)) == call - 1
    live.delete_model_tables("a")
    assert restore(source, path)
    holds_new(live)


@pytest.mark.slow
def test_killed_at_any_moment(live: DataManager, source: Path, path: str, tmp_path: Path) -> None:
    code = "import sys, datamanager\nprint('ready', flush=True)\ndatamanager.restore(*sys.argv[1:])"
    old = tmp_path / "old.db"
    live.backup(old)
    outcomes = set()
    for number in range(60):
        child = start(code, source, path)
        time.sleep(number * 0.0005)  # the moment of the kill, not a synchronisation
        child.kill()
        child.communicate()
        restored = live.get_models() == ["c", "d"]
        (holds_new if restored else holds_old)(live)
        outcomes.add(restored)
        if restored:
            restore(old, path)
        for kept in kept_in(tmp_path):
            sound(kept)
            kept.unlink()
    assert outcomes == {False, True}


def test_no_room(live: DataManager, source: Path, path: str, tmp_path: Path) -> None:
    code = (
        "import sys, datamanager\n"
        "try: datamanager.restore(*sys.argv[1:])\n"
        "except datamanager.DataManagerError as error: print(type(error).__name__)\n"
    )

    for kilobytes in (40, 100, 140):

        def limit(bytes_: int = kilobytes * 1024) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        done = subprocess.run(
            [sys.executable, "-c", code, str(source), path],
            preexec_fn=limit,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert re.match("StorageError|DiskFullError", done.stdout), done.stdout
        holds_old(live)
        assert kept_in(tmp_path) == []


@pytest.mark.parametrize("page_size", [1024, 4096])
@pytest.mark.parametrize("mode", ["told", "untold"])
def test_ctrl_c(
    live: DataManager, source: Path, path: str, tmp_path: Path, mode: str, page_size: int
) -> None:
    times = 1 if mode == "told" else 5  # long enough to be asked in the middle of it
    with DataManager(source) as dm:
        for _ in range(times):
            dm.add_model_requests("c", [ROW] * 600_000)
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        connection.execute(f"PRAGMA page_size={page_size}")
        connection.execute("VACUUM")
    for _ in range(10):
        interrupt_copying("datamanager.restore", source, path, mode)
        late = kept_in(tmp_path) if mode == "untold" else []
        if not late:
            break
        # It came when all was done.
        assert len(live.get_model_requests("c")) == 2000 + times * 600_000
        os.unlink(str(datamanager.restore(late[0], path)))
        os.unlink(late[0])
    else:
        pytest.fail("it came when all was done, ten times")
    holds_old(live)
    assert kept_in(tmp_path) == []
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_each_error_names_the_file(live: DataManager, source: Path, path: str) -> None:
    folder = source.parent
    foreign, text, empty = (folder / f"{name}.db" for name in ("foreign", "text", "empty"))
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE t(x)")
    text.write_text("no database" * 1000)
    empty.touch()
    for src, dest, said in (
        (foreign, path, f"^src: {foreign}: the database belongs"),
        (source, foreign, f"^dest: {foreign}: the database belongs"),
        (text, path, f"^src: {text}: the database file is damaged: file is not a database$"),
        (empty, path, f"^src: {empty} is empty: there is nothing to restore$"),
    ):
        with pytest.raises(datamanager.DataManagerError, match=said):
            restore(src, dest)
    with pytest.raises(datamanager.CannotOpenError, match=r"^\.\.\.n+: .*: File name too long$"):
        DataManager(folder / ("n" * 255))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        locked = f"{path} stayed locked by another (connection|process)$"
        with DataManager(path, busy_timeout=0) as dm:
            for call in (dm.vacuum, lambda: dm.add_model_request("a", ROW)):
                with pytest.raises(datamanager.BusyError, match=f"^{locked}"):
                    call()
        with pytest.raises(datamanager.BusyError, match=f"^dest: {locked}"):
            restore(source, path, busy_timeout=0)
