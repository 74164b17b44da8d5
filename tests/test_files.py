"""What happens to files: names that move, modes, what close leaves."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

import pytest

import datamanager
from datamanager import DataManager

ROW = [1, 2, 3, 4, 5]


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_renamed_while_a_closed_handle_lives(tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    closed = DataManager(old)
    closed.add_model_request("m", ROW)
    closed.close()
    old.rename(new)
    with DataManager(new) as dm:
        assert dm.add_model_request("m", ROW) == 2
    assert closed.closed
    assert os.listdir(tmp_path) == ["new.db"]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_reader_never_opens_another_file(tmp_path: Path, replaced: bool) -> None:
    """A connection is opened by the path, which leads to another file meanwhile, or nowhere."""
    file, other = tmp_path / "usage.db", tmp_path / "other.db"
    with DataManager(file) as dm, DataManager(other) as theirs:
        dm.add_model_request("m", ROW)  # by the only connection that there is
        theirs.add_model_request("theirs", ROW)
        theirs.close()
        file.rename(tmp_path / "away.db")
        if replaced:
            other.rename(file)
        with pytest.raises(datamanager.FileMovedError):
            dm.get_models()


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("kind", ["hard link", "link", "pipe", "folder"])
def test_what_stands_where_a_log_belongs_is_left_alone(
    tmp_path: Path, suffix: str, kind: str
) -> None:
    file, victim = tmp_path / "usage.db", tmp_path / "victim"
    log = tmp_path / f"usage.db{suffix}"
    with DataManager(file) as dm:
        dm.add_model_request("m", ROW)
    victim.write_bytes(b"precious" * 2000)
    if kind == "hard link":
        os.link(victim, log)
    elif kind == "link":
        log.symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(log)
    else:
        log.mkdir()
    said = "has 2 hard links" if kind == "hard link" else "is not a regular file"
    for read_only in (False, True):
        with pytest.raises(datamanager.CannotOpenError, match=rf"usage\.db{suffix} {said}"):
            DataManager(file, read_only=read_only)
    assert victim.read_bytes() == b"precious" * 2000
    assert {*os.listdir(tmp_path)} == {"usage.db", "victim", log.name}


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o277])
def test_modes_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    file = tmp_path / "usage.db"
    before = os.umask(umask)
    try:
        with DataManager(file) as dm:
            dm.add_model_request("m", ROW)
            names = sorted(os.listdir(tmp_path))
            modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names}
    finally:
        os.umask(before)
    assert names == ["usage.db", "usage.db-shm", "usage.db-wal"]
    assert modes == {0o600}
    assert os.listdir(tmp_path) == ["usage.db"]


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o277, 0o777])
def test_modes_of_folders_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with DataManager(tmp_path / "a" / "b" / "usage.db") as dm:
            dm.backup(tmp_path / "c" / "d" / "backup.db")
    finally:
        os.umask(before)
    for folder in ("a", "a/b", "c", "c/d"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700


def test_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(datamanager.CannotOpenError, match="is not a regular file"):
        DataManager(tmp_path / "pipe")


def test_symlink_is_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("usage.db")
    with DataManager(tmp_path / "usage.db") as one, DataManager(tmp_path / "link.db") as two:
        one.add_model_request("m", ROW)
        assert two.add_model_request("m", ROW) == 2
    assert sorted(os.listdir(tmp_path)) == ["link.db", "usage.db"]


def locks(path: str) -> int:
    inode = f":{os.stat(path).st_ino} "
    return sum(inode in line for line in Path("/proc/locks").read_text().splitlines())


def test_a_part_of_an_open_database_is_not_opened(tmp_path: Path) -> None:
    """Closing it again would drop this process's locks on it."""
    path = str(tmp_path / "a.db")
    with DataManager(path) as dm:
        dm.add_model_request("m", ROW)
        held = locks(f"{path}-shm")
        assert held > 0
        (tmp_path / "link.db").symlink_to("a.db-shm")
        for name in (f"{path}-shm", f"{path}-wal", str(tmp_path / "link.db")):
            with pytest.raises(
                datamanager.CannotOpenError, match="is a part of a database that is open here"
            ):
                DataManager(name, read_only=True)
        assert locks(f"{path}-shm") == held
    shutil.copy(path, f"{path}-wal")
    os.unlink(path)
    with DataManager(f"{path}-wal") as dm, DataManager(f"{path}-wal") as other:
        assert dm.get_models() == other.get_models() == ["m"]
