"""What an error says of a file and its disk, and what it carries for a program."""

from __future__ import annotations

import errno
import os
import pickle
import re
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from commands import run, run_as_nobody
from mounting import small_disk

import datamanager
from datamanager import DataManager

ROW = [1, 2, 3, 4, 5]


def fill_disk(folder: Path) -> None:
    with open(folder / "filler", "wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space left"):
            while True:
                file.write(b"x" * 4096)


def said_of(path: Path, error: datamanager.DataManagerError) -> str:
    """What is not the file's name, which stands once, before it; in words and on one line."""
    name, text = str(error)[: len(str(path))], str(error)[len(str(path)) :]
    assert name == str(path) and str(path) not in text, str(error)
    assert not re.search(r"not an error|SELECT|INSERT|CREATE|COMMIT|\n", text), text
    return text


# ---- a full disk ----


def test_no_room_for_what_stands_beside_the_file(tmp_path: Path) -> None:
    """SQLite calls that a failure of the disk, also where it only reads."""
    mount = tmp_path / "mount"
    with small_disk(mount, "1m"):
        path = mount / "usage.db"
        with DataManager(path) as dm:
            dm.add_model_request("m", ROW)
        fill_disk(mount)
        for read_only in (False, True):
            with pytest.raises(datamanager.DiskFullError) as caught:
                DataManager(path, read_only=read_only)
            assert said_of(path, caught.value).startswith(": disk is full: no room for what SQLite")
            assert caught.value.errno == errno.ENOSPC
        done = run("models", "--db", str(path))
        assert done.returncode == 7 and f" {path}: disk is full: no room" in done.stderr


def test_no_room_for_what_is_written(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    rows = tmp_path / "rows.csv"
    with DataManager(":memory:") as small:
        small.add_model_requests("m", [ROW] * 20_000)
        small.export(rows)
    with small_disk(mount, "1m"):
        path = mount / "usage.db"
        with DataManager(path) as dm:
            dm.add_model_request("m", ROW)
            fill_disk(mount)

            def add() -> None:
                dm.add_model_requests("m", [ROW] * 20_000)

            def batch() -> None:
                with dm.batch():
                    add()

            def register() -> None:
                for number in range(1000):
                    dm.add_model_request(f"{number}", ROW)

            for call in (add, batch, register, lambda: dm.import_requests(rows)):
                with pytest.raises(datamanager.DiskFullError) as caught:
                    call()
                assert ": disk is full: database or disk is full" in said_of(path, caught.value)
                assert caught.value.errno == errno.ENOSPC


def test_no_room_for_a_copy(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    with DataManager(tmp_path / "usage.db") as dm, small_disk(mount, "1m"):
        dm.add_model_requests("m", [ROW] * 60_000)
        with pytest.raises(datamanager.DiskFullError) as caught:
            dm.backup(mount / "copy.db")
        assert said_of(mount / "copy.db", caught.value).startswith(": disk is full: database or")


# ---- what may not be read or written ----


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that any user reaches, and that not all may write to."""
    folder = Path(tempfile.mkdtemp(prefix="datamanager-test-"))
    with DataManager(folder / "usage.db") as dm:
        dm.add_model_request("m", ROW)
        dm.backup(folder / "backup.db")
    for file in folder.iterdir():
        file.chmod(0o644)
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def nobodys_error(call: str) -> tuple[str, str, str]:
    """Its class, errno and text."""
    code = (
        "import datamanager, sys\n"
        f"try: {call}\n"
        "except datamanager.DataManagerError as e: print(type(e).__name__, e.errno, e, sep='|')"
    )
    done = run_as_nobody("-c", code, command=[sys.executable])
    assert done.returncode == 0, done.stderr
    kind, number, text = done.stdout.strip("\n").split("|")
    return kind, number, text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_without_room_for_a_log(shared: Path) -> None:
    path = shared / "usage.db"
    for how in ("", ", read_only=True"):
        kind, number, text = nobodys_error(f"datamanager.DataManager({str(path)!r}{how})")
        assert (kind, number) == ("ReadOnlyError", str(errno.EACCES))
        assert text.startswith(f"{path}: SQLite keeps a log beside it, for reading too")
    backup = str(shared / "backup.db")
    kind, number, text = nobodys_error(f"datamanager.restore({backup!r}, {str(path)!r})")
    assert kind == "ReadOnlyError" and text.startswith(f"dest: {path}: SQLite keeps a log")
    done = run_as_nobody("models", "--db", str(path))
    assert done.returncode == 6 and "a log beside it" in done.stderr
    assert run_as_nobody("models", "--db", str(shared / "backup.db")).stdout != ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_the_system_forbids_says_so(shared: Path) -> None:
    path = shared / "usage.db"
    path.chmod(0)
    kind, number, text = nobodys_error(f"datamanager.DataManager({str(path)!r}, read_only=True)")
    assert (kind, number) == ("CannotOpenError", str(errno.EACCES))
    assert text == f"{path}: cannot open the database file: Permission denied (open the database)"
    path.chmod(0o644)
    shared.chmod(0o777)
    path.chmod(0o444)
    kind, number, text = nobodys_error(
        f"datamanager.DataManager({str(path)!r}).add_model_request('new', [1, 2, 3, 4, 5])"
    )
    assert kind == "ReadOnlyError" and "the file cannot be written to" in text
    kind, number, text = nobodys_error(
        f"datamanager.restore({str(shared / 'backup.db')!r}, {str(path)!r})"
    )
    assert kind == "ReadOnlyError" and text.startswith(f"dest: {path}: ")
    assert "not an error" not in text
    shared.chmod(0o700)
    for command in (["models", "--db", str(path)], ["import", str(shared / "rows.csv")]):
        done = run_as_nobody(*command)
        assert done.returncode == 6 and "Permission denied" in done.stderr, done.stderr


# ---- what it says ----


@pytest.mark.parametrize("name", ["data", "a", "the"])
def test_a_name_that_occurs_in_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("no database" * 1000)
    with pytest.raises(datamanager.DamagedDatabaseError, match=f"^{name}: the database file is"):
        DataManager(name)
    done = run("models", "--db", name)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith(f"datamanager: {name}: the database file is damaged")


def test_an_open_database_is_no_file_of_requests_and_is_named_once(tmp_path: Path) -> None:
    path = str(tmp_path / "usage.db")
    DataManager(path).close()
    done = run("import", path, "--format", "csv", "--db", path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"datamanager: {path} is a database")
    assert done.stderr.count(path) == 1


def test_a_statement_in_words(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    with DataManager(path) as dm:
        dm.add_model_request("m", ROW)
        table = f"{dm.get_safe_model_name('m')}_requests"
        with closing(sqlite3.connect(path)) as other, other:
            other.execute(f'ALTER TABLE "{table}" RENAME COLUMN cache_n TO cached')
    with DataManager(path) as dm, pytest.raises(datamanager.CorruptDataError) as caught:
        dm.get_model_requests("m")
    assert table in said_of(path, caught.value)


def test_a_name_with_a_nul() -> None:
    with DataManager(":memory:", models=["a"]) as dm:
        for call in (dm.get_model_requests, dm.get_model_runtime, lambda name: dm.usage([name])):
            with pytest.raises(datamanager.ModelNotFoundError) as caught:
                call("a\0b")
            assert str(caught.value) == r"model 'a\0...' is not known"


# ---- what it carries ----


def test_errno_without_another_text(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    with DataManager(path) as dm:
        with pytest.raises(datamanager.DestinationExistsError) as exists:
            dm.backup(path)
        assert exists.value.errno == errno.EEXIST
        assert str(exists.value) == f"{path} exists already"
    with pytest.raises(datamanager.CannotOpenError) as missing:
        DataManager(tmp_path / "none.db", read_only=True)
    assert missing.value.errno == errno.ENOENT
    assert str(missing.value) == f"{tmp_path / 'none.db'}: No such file or directory"


def test_each_error_has_the_names_of_sqlite() -> None:
    for kind in vars(datamanager).values():
        if isinstance(kind, type) and issubclass(kind, datamanager.DataManagerError):
            error = kind("text")
            assert error.sqlite_errorcode is None and error.sqlite_errorname is None


def folder_at(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("make", "built_in", "number"),
    [
        (lambda path: None, FileNotFoundError, errno.ENOENT),
        (folder_at, IsADirectoryError, errno.EISDIR),
        (lambda path: path.symlink_to(path), OSError, errno.ELOOP),
    ],
    ids=["none", "folder", "loop"],
)
def test_a_file_of_requests_that_cannot_be_opened(
    tmp_path: Path, format: str, make: Callable[[Path], None], built_in: type, number: int
) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"rows.{format}"
    make(path)
    with DataManager(":memory:") as dm, pytest.raises(datamanager.CannotOpenError) as caught:
        dm.import_requests(path)
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert isinstance(error, datamanager.CannotOpenError) and isinstance(error, built_in)
        assert (error.errno, error.filename) == (number, str(path))
        assert (type(error).__module__, type(error).__name__) == ("datamanager", "CannotOpenError")
    if built_in is IsADirectoryError:
        DataManager(tmp_path / "usage.db").close()
        done = run("import", str(path), "--db", str(tmp_path / "usage.db"))
        assert done.returncode == 6 and f"{path}: Is a directory" in done.stderr
