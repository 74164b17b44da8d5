"""backup(): one moment, whole or not at all, whoever writes and whatever fails."""

from __future__ import annotations

import os
import re
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from interrupting import interrupt_copying
from mounting import mounted, small_disk

import datamanager
from datamanager import DataManager, DestinationExistsError

ROW = [1_700_000_000.5, 30_000, 1_000, 5_000, 25_000]
ROWS = 150_000

# Two rows at a time, the same number in both models: a copy of one moment has as many of each.
PAIRS = """
import sys, datamanager
dm = datamanager.DataManager(sys.argv[1], durability="normal")
print("ready", flush=True)
while True:
    with dm.batch():
        dm.add_model_request("a", [1, 2, 3, 4, 5])
        dm.add_model_request("b", [1, 2, 3, 4, 5])
"""

BACKING_UP = """
import sys, datamanager
dm = datamanager.DataManager(sys.argv[1])
print("ready", flush=True)
while True:
    dm.backup(sys.argv[2], overwrite=True)
    print("done", flush=True)
"""


def start(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


@contextmanager
def writers(path: str, count: int) -> Iterator[None]:
    children = [start(PAIRS, path) for _ in range(count)]
    try:
        yield
        assert [child.poll() for child in children] == [None] * count
    finally:
        for child in children:
            child.kill()
            child.communicate()


def sound(file: Path) -> None:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def pairs(file: Path) -> int:
    """How many pairs are in a copy, which must be of one moment and sound."""
    sound(file)
    with DataManager(file, read_only=True) as dm:
        counts = {len(dm.get_model_requests(name)) for name in dm.get_models()}
    assert len(counts) <= 1
    return counts.pop() if counts else 0


def nothing_else(folder: Path, *names: str) -> None:
    ours = {f"usage.db{suffix}" for suffix in ("", "-wal", "-shm")}
    assert set(os.listdir(folder)) - ours == set(names)


@pytest.fixture
def full(dm: DataManager) -> DataManager:
    dm.add_model_requests("m", [ROW] * ROWS)
    dm.set_pricing("m", tiers=[[1, 0, 0, 2.0, 8.0, True, 0.5]])
    return dm


def test_the_copy_has_everything(full: DataManager, tmp_path: Path) -> None:
    full.add_model_runtime_start("m", 5.0)
    full.add_program_runtime_start(6.0)
    full.backup(tmp_path / "copy.db")
    sound(tmp_path / "copy.db")
    nothing_else(tmp_path, "copy.db")
    with DataManager(tmp_path / "copy.db") as copy:
        assert copy.get_models() == full.get_models()
        assert copy.get_model_requests("m") == full.get_model_requests("m")
        assert copy.get_model_runtime("m") == full.get_model_runtime("m")
        assert copy.get_program_runtime() == full.get_program_runtime()
        assert copy.get_price_history("m") == full.get_price_history("m")
        assert copy.add_model_request("m", ROW) == ROWS + 1


def test_progress(full: DataManager, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    full.backup(tmp_path / "copy.db", lambda done, total: told.append((done, total)))
    (total,) = {total for _, total in told}
    done = [done for done, _ in told]
    assert done == sorted(set(done)) and done[0] == 0 and done[-1] == total and len(done) > 3
    assert total == (tmp_path / "copy.db").stat().st_size / 4096


def test_an_error_in_progress_stops_it(full: DataManager, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_bytes(b"what was there")

    def refuse(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        full.backup(tmp_path / "copy.db", refuse, overwrite=True)
    assert (tmp_path / "copy.db").read_bytes() == b"what was there"
    nothing_else(tmp_path, "copy.db")
    with pytest.raises(TypeError, match="progress must be callable, not int"):
        full.backup(tmp_path / "copy.db", 1)  # type: ignore[arg-type]


def test_progress_may_use_the_store_but_not_close_it(full: DataManager, tmp_path: Path) -> None:
    def use(done: int, total: int) -> None:
        full.add_model_request("other", ROW)
        with DataManager(tmp_path / "usage.db") as second:
            assert second.get_models() == ["m", "other"]
        with pytest.raises(datamanager.DataManagerError, match="progress function"):
            full.close()

    full.backup(tmp_path / "copy.db", use)
    with DataManager(tmp_path / "copy.db") as copy:
        assert copy.get_models() == ["m"]
    assert len(full.get_model_requests("other")) > 3
    full.close()


def test_what_is_there_stays_unless_told(full: DataManager, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    full.backup(copy)
    first = copy.read_bytes()
    full.add_model_request("m", ROW)
    with pytest.raises(FileExistsError, match="exists already") as caught:
        full.backup(copy)
    assert isinstance(caught.value, DestinationExistsError)
    assert copy.read_bytes() == first
    full.backup(copy, overwrite=True)
    with DataManager(copy) as dm:
        assert len(dm.get_model_requests("m")) == ROWS + 1


def test_made_meanwhile_stays(full: DataManager, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with pytest.raises(DestinationExistsError):
        full.backup(copy, lambda *_: copy.write_text("mine"))
    assert copy.read_text() == "mine"
    nothing_else(tmp_path, "copy.db")


def test_an_open_database_is_not_replaced(full: DataManager, tmp_path: Path) -> None:
    full.add_model_request("m", ROW)
    for path in (tmp_path / "usage.db", tmp_path / "link.db"):
        if path.name == "link.db":
            path.symlink_to("usage.db")
        with pytest.raises(DestinationExistsError, match="is a log: the database there is open"):
            full.backup(path, overwrite=True)
    with DataManager(tmp_path / "other.db") as other:
        other.add_model_request("m", ROW)
        other.close()
        child = start(PAIRS, tmp_path / "other.db")
        try:
            with pytest.raises(DestinationExistsError, match="open, or was not closed"):
                while True:  # until it has written something
                    full.backup(tmp_path / "other.db", overwrite=True)
        finally:
            child.kill()
            child.communicate()


OPENING = """
import sys, datamanager
with datamanager.DataManager(sys.argv[1], read_only=sys.argv[2] == "reading") as dm:
    print("ready", flush=True)
    sys.stdin.readline()
    if sys.argv[2] == "writing":
        print(dm.add_model_request("m", [1, 2, 3, 4, 5]))
    print(dm.get_models())
"""


@pytest.mark.parametrize("how", ["writing", "reading"])
def test_a_database_that_another_has_only_opened_is_not_replaced(
    full: DataManager, tmp_path: Path, how: str
) -> None:
    """It has a log, in which nothing is yet."""
    other = tmp_path / "other.db"
    DataManager(other, models=["m"]).close()
    command = [sys.executable, "-c", OPENING, str(other), how]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    assert (tmp_path / "other.db-wal").stat().st_size == 0
    for call in (full.backup, full.export):
        with pytest.raises(DestinationExistsError, match=r"other\.db is a database that is open"):
            call(other, overwrite=True)
    out, _ = child.communicate("go\n", timeout=60)
    assert (child.returncode, out) == (0, "1\n['m']\n" if how == "writing" else "['m']\n")
    full.backup(other, overwrite=True)
    nothing_else(tmp_path, "other.db")
    with DataManager(other, read_only=True) as dm:
        assert len(dm.get_model_requests("m")) == ROWS


def test_an_empty_log_that_was_left_is_no_obstacle(full: DataManager, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    DataManager(other, models=["m"]).close()
    command = [sys.executable, "-c", OPENING, str(other), "writing"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    child.kill()
    child.communicate()
    assert (tmp_path / "other.db-wal").exists()
    full.backup(other, overwrite=True)
    nothing_else(tmp_path, "other.db")
    sound(other)


def test_a_log_without_a_database_is_not_adopted(full: DataManager, tmp_path: Path) -> None:
    (tmp_path / "copy.db-wal").write_bytes(b"of what was here before")
    with pytest.raises(DestinationExistsError, match=re.escape("copy.db-wal is a log")):
        full.backup(tmp_path / "copy.db")
    nothing_else(tmp_path, "copy.db-wal")


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_nothing_is_written_in_the_place_of_a_log(
    dm: DataManager, path: str, tmp_path: Path, suffix: str
) -> None:
    """In that of an open database, of a closed one, of one that is not made yet."""
    copy = tmp_path / "copy.db"
    dm.backup(copy)
    dm.add_model_requests("m", [ROW] * 10)
    (tmp_path / "link.csv").symlink_to(path + suffix)
    names = [path + suffix, f"{copy}{suffix}", f"{tmp_path}/folder/none.db{suffix}"]
    if os.path.exists(path + suffix):
        names.append(f"{tmp_path}/link.csv")
    for name in names:
        for call in (
            lambda dest: dm.backup(dest),
            lambda dest: dm.backup(dest, overwrite=True),
            lambda dest: dm.export(dest, overwrite=True),
            lambda dest: datamanager.restore(copy, dest),
        ):
            with pytest.raises(datamanager.InvalidDataError, match=f"what ends in {suffix} is a"):
                call(name)
    nothing_else(tmp_path, "copy.db", "link.csv")
    dm.close()
    with DataManager(path) as again:
        assert len(again.get_model_requests("m")) == 10


@pytest.mark.parametrize("name", ["模型 🦙/ünï.db", "x" * 250 + ".db", "file:a?mode=memory"])
def test_names(full: DataManager, tmp_path: Path, name: str) -> None:
    full.backup(tmp_path / name)
    full.backup(str(tmp_path / name), overwrite=True)
    with DataManager(tmp_path / name, read_only=True) as copy:
        assert len(copy.get_model_requests("m")) == ROWS


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o277])
def test_only_its_owner_reads_it(dm: DataManager, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        dm.backup(tmp_path / "copy.db")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600


def test_names_that_do_not_serve(full: DataManager, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(datamanager.CannotOpenError, match="is not a regular file"):
            full.backup(path, overwrite=True)
    with pytest.raises(datamanager.CannotOpenError, match="Not a directory"):
        full.backup(tmp_path / "usage.db" / "copy.db")
    (tmp_path / "link").symlink_to("nowhere")
    calls: tuple[Callable[[str], object], ...] = (
        full.backup,
        full.export,
        lambda dest: datamanager.restore(tmp_path / "usage.db", dest),
    )
    for call in calls:
        with pytest.raises(datamanager.CannotOpenError, match="new/folder/: Is a directory"):
            call(f"{tmp_path}/new/folder/")
        with pytest.raises(datamanager.DestinationExistsError, match="link, to where nothing is"):
            call(f"{tmp_path}/link")
    with pytest.raises(datamanager.CannotOpenError, match="new/: Is a directory"):
        DataManager(f"{tmp_path}/new/")
    assert {*os.listdir(tmp_path)} == {"usage.db", "usage.db-wal", "usage.db-shm", "pipe", "link"}
    with pytest.raises(datamanager.InvalidDataError, match="a backup is a file"):
        full.backup(":memory:")
    with pytest.raises(datamanager.InvalidDataError, match="dest must not hold NUL"):
        full.backup("a\0b")
    with pytest.raises(TypeError):
        full.backup(None)  # type: ignore[arg-type]


def test_a_relative_name_is_relative(
    full: DataManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    full.backup("copy.db")
    assert (tmp_path / "copy.db").exists()


def test_from_memory(tmp_path: Path) -> None:
    with DataManager(":memory:") as dm:
        dm.add_model_requests("m", [ROW] * 20_000)
        dm.backup(tmp_path / "copy.db", lambda *_: dm.add_model_request("m", ROW))
    with DataManager(tmp_path / "copy.db") as copy:
        assert len(copy.get_model_requests("m")) == 20_000
        assert os.path.exists(tmp_path / "copy.db-wal")  # it got a log when it was opened


def test_from_a_read_only_handle(full: DataManager, tmp_path: Path, path: str) -> None:
    full.close()
    before = Path(path).read_bytes()
    with DataManager(path, read_only=True) as reader:
        reader.backup(tmp_path / "copy.db")
    assert Path(path).read_bytes() == before
    with DataManager(tmp_path / "copy.db") as copy:
        assert len(copy.get_model_requests("m")) == ROWS


def test_reading_a_copy_needs_no_right_to_write(full: DataManager, tmp_path: Path) -> None:
    """A copy may lie where nothing can be written: on a read-only mount."""
    mount = tmp_path / "mount"
    mount.mkdir()
    full.backup(mount / "copy.db")
    with mounted(mount, "--bind", str(mount)):
        subprocess.run(["mount", "-o", "remount,bind,ro", mount], check=True)
        with DataManager(mount / "copy.db", read_only=True) as copy:
            assert len(copy.get_model_requests("m")) == ROWS
        assert os.listdir(mount) == ["copy.db"]


@pytest.mark.slow
def test_one_moment_in_bounded_time_under_writers(
    full: DataManager, path: str, tmp_path: Path
) -> None:
    full.delete_model_tables("m")
    full.add_model_requests("a", [ROW] * 200_000)
    full.add_model_requests("b", [ROW] * 200_000)
    took, seen = [], []
    with writers(path, 3):
        for number in range(5):
            began = time.monotonic()
            full.backup(tmp_path / f"{number}.db")
            took.append(time.monotonic() - began)
    seen = [pairs(tmp_path / f"{number}.db") for number in range(5)]
    assert seen == sorted(seen) and seen[0] >= 200_000 and seen[-1] > seen[0]
    assert max(took) < 10  # a quarter of a second is usual; one that begins again never ends


@pytest.mark.slow
def test_several_at_once(full: DataManager, tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(3):
                full.backup(tmp_path / f"{number}.db", overwrite=True)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    nothing_else(tmp_path, *(f"{number}.db" for number in range(4)))


@pytest.mark.slow
def test_killed(full: DataManager, path: str, tmp_path: Path) -> None:
    """At any moment: what stands at the name is whole, and what is left beside it goes."""
    copy = tmp_path / "copies" / "copy.db"
    full.backup(copy)
    left = 0
    for number in range(40):
        child = start(BACKING_UP, path, copy)
        if number % 4 == 0:
            assert child.stdout is not None and child.stdout.readline() == "done\n"
        time.sleep(number * 0.001)  # the moment of the kill, not a synchronisation
        child.kill()
        child.communicate()
        names = set(os.listdir(copy.parent))
        assert "copy.db" in names
        assert all(
            re.fullmatch(r"\.datamanager-unfinished-.*", name) for name in names - {copy.name}
        )
        left += len(names) > 1
        sound(copy)
    assert left > 5
    full.backup(copy, overwrite=True)
    assert os.listdir(copy.parent) == ["copy.db"]


def test_the_unfinished_file_of_another_stays(full: DataManager, tmp_path: Path) -> None:
    """What somebody is still writing is not taken for what a killed process left."""
    names: list[str] = []

    def other(done: int, total: int) -> None:
        if not names:
            names.extend(name for name in os.listdir(tmp_path) if name.startswith(".datamanager"))
            full.backup(tmp_path / "second.db")
            assert set(names) <= set(os.listdir(tmp_path))

    full.backup(tmp_path / "first.db", other)
    assert len(names) == 1
    nothing_else(tmp_path, "first.db", "second.db")


def limited(code: str, path: str, dest: Path, bytes_: int) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    return subprocess.run(
        [sys.executable, "-c", code, path, str(dest)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


FAILING = """
import sys, datamanager
with datamanager.DataManager(sys.argv[1], read_only=True) as dm:
    try:
        dm.backup(sys.argv[2], overwrite=True)
    except datamanager.DataManagerError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize("kilobytes", [40, 400, 4000])
def test_no_room(full: DataManager, path: str, tmp_path: Path, kilobytes: int) -> None:
    copy = tmp_path / "copy.db"
    full.backup(copy)
    before = copy.read_bytes()
    full.add_model_request("m", ROW)
    done = limited(FAILING, path, copy, kilobytes * 1024)
    assert done.returncode == 0, done.stderr
    assert re.match("StorageError|DiskFullError", done.stdout), done.stdout
    assert copy.read_bytes() == before
    nothing_else(tmp_path, "copy.db")


def test_full_file_system(full: DataManager, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    with small_disk(mount, "2m"):
        with pytest.raises(datamanager.DiskFullError):
            full.backup(mount / "copy.db")
        assert os.listdir(mount) == []
        for format in ("csv", "jsonl"):
            with pytest.raises(datamanager.DiskFullError, match="copy: No space left"):
                full.export(mount / "copy", format)
        assert os.listdir(mount) == []
        with DataManager(":memory:") as small:
            small.backup(mount / "copy.db")
        with pytest.raises(datamanager.DiskFullError):
            full.backup(mount / "copy.db", overwrite=True)
        assert os.listdir(mount) == ["copy.db"]
        sound(mount / "copy.db")


BACKUP_CALL = "(lambda source, *how: datamanager.DataManager(source).backup(*how, overwrite=True))"


@pytest.mark.parametrize("mode", ["told", "untold"])
def test_ctrl_c(full: DataManager, path: str, tmp_path: Path, mode: str) -> None:
    for _ in range(10):  # long enough to be asked in the middle of it
        full.add_model_requests("m", [ROW] * ROWS)
    copy = tmp_path / "copy.db"
    for _ in range(10):
        copy.write_bytes(b"what was there")
        interrupt_copying(BACKUP_CALL, path, copy, mode)
        if mode == "told" or copy.stat().st_size < 1000:
            break
        with DataManager(copy, read_only=True) as whole:  # it came when all was done
            assert whole.check(quick=True) == []
    else:
        pytest.fail("it came when all was done, ten times")
    assert copy.read_bytes() == b"what was there"
    nothing_else(tmp_path, "copy.db")


def test_damage_is_not_copied(full: DataManager, path: str, tmp_path: Path) -> None:
    full.close()
    content = bytearray(Path(path).read_bytes())
    content[4096 * 40 : 4096 * 41] = b"\xff" * 4096
    Path(path).write_bytes(content)
    with DataManager(path) as dm:
        with pytest.raises(datamanager.DamagedDatabaseError):
            dm.backup(tmp_path / "copy.db")
    nothing_else(tmp_path)


def test_moved(full: DataManager, path: str, tmp_path: Path) -> None:
    os.rename(path, tmp_path / "away.db")
    DataManager(path).close()  # another file at the name
    with pytest.raises(datamanager.FileMovedError):
        full.backup(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
