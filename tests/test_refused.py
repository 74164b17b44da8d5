"""A file that is refused stays as it is, byte for byte, and nothing is left beside it."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import datamanager
from datamanager import DataManager

ROW = [1, 2, 3, 4, 5]
SAFE = "model_62c66a7a5dd70c31"  # of "m"


def contents(folder: Path) -> dict[str, bytes]:
    """But for the log's index, which is nobody's data."""
    return {f.name: f.read_bytes() for f in folder.iterdir() if not f.name.endswith("-shm")}


@contextmanager
def untouched(file: Path) -> Iterator[None]:
    before, time_ns = contents(file.parent), file.stat().st_mtime_ns
    yield
    assert contents(file.parent) == before
    assert file.stat().st_mtime_ns == time_ns


def run_sql(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def overwrite_root(file: Path, table: str) -> None:
    """The first page of a table becomes what no page can be."""
    with closing(sqlite3.connect(file)) as connection:
        sql = "SELECT rootpage FROM sqlite_schema WHERE name=?"
        (root,) = connection.execute(sql, [table]).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(file.read_bytes())
    content[(root - 1) * size : root * size] = b"\xa5" * size
    file.write_bytes(content)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "usage.db"
    with DataManager(file) as dm:
        dm.add_model_requests("m", [ROW] * 1000)
        dm.set_pricing("m", hourly_price=1.0)
    return file


@pytest.fixture(params=["log", "no log"])
def either(file: Path, request: pytest.FixtureRequest) -> Path:
    """A backup has no log, nor has a file of the older class: to give it one changes its header."""
    if request.param == "no log":
        run_sql(file, "PRAGMA journal_mode=DELETE")
    return file


def older(file: Path) -> Path:
    """As the older class would leave it: its own tables of prices, and none of ours."""
    run_sql(
        file,
        "PRAGMA journal_mode=DELETE",
        "PRAGMA user_version=0",
        f"CREATE TABLE {SAFE}_hourly_price(id INTEGER PRIMARY KEY, hourly_price REAL NOT NULL)",
        f"INSERT INTO {SAFE}_hourly_price VALUES(1, 2.5)",
    )
    return file


@pytest.mark.parametrize("damage", ["header", "schema page", "cut"])
def test_damaged(either: Path, damage: str) -> None:
    content = bytearray(either.read_bytes())
    if damage == "header":
        content[:16] = b"\xff" * 16
    elif damage == "schema page":
        content[100:4096] = b"\xff" * 3996
    else:
        del content[4096 + 100 :]
    either.write_bytes(content)
    with untouched(either), pytest.raises(datamanager.DamagedDatabaseError) as caught:
        DataManager(either)
    assert str(caught.value.sqlite_errorname).startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT"))


@pytest.mark.parametrize("free", ["none", "most"])
def test_tables_that_the_first_page_has_lost(either: Path, free: str) -> None:
    """It would pass for a new database, and what was paid for for nothing."""
    if free == "most":
        fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 20000)"
        run_sql(
            either,
            f"CREATE TABLE much AS {fill} SELECT randomblob(500) FROM n",
            "DROP TABLE much",
        )
    content = bytearray(either.read_bytes())
    content[103:105] = bytes(2)  # how many there are
    either.write_bytes(content)
    with untouched(either), pytest.raises(datamanager.DamagedDatabaseError, match="no tables"):
        DataManager(either)
    with pytest.raises(datamanager.DamagedDatabaseError, match="no tables"):
        DataManager(either, read_only=True)
    assert either.read_bytes() == content


def test_a_database_without_tables_is_not_refused(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        sql = "SELECT name FROM sqlite_schema WHERE type='table' AND name NOT LIKE 'sqlite_%'"
        names = [name for (name,) in connection.execute(sql)]
    run_sql(file, *(f"DROP TABLE {name}" for name in names))
    with DataManager(file, models=["again"]) as dm:
        assert dm.get_models() == ["again"]


def test_newer_with_a_log_that_a_killed_process_left(file: Path) -> None:
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        f"c.execute('PRAGMA user_version=99'); c.execute('DELETE FROM {SAFE}_requests');"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, file], check=True, timeout=60)
    assert Path(f"{file}-wal").stat().st_size > 0
    for read_only in (True, False):
        with untouched(file), pytest.raises(datamanager.NewerDatabaseError, match="99"):
            DataManager(file, read_only=read_only)


def test_newer(either: Path) -> None:
    run_sql(either, "PRAGMA user_version=99")
    with untouched(either), pytest.raises(datamanager.NewerDatabaseError, match="99"):
        DataManager(either)


@pytest.mark.parametrize("table", ["model_name_mapping", f"{SAFE}_hourly_price"])
def test_older_and_damaged(file: Path, table: str) -> None:
    overwrite_root(older(file), table)
    with untouched(file), pytest.raises(datamanager.DamagedDatabaseError):
        DataManager(file)


def test_names_for_a_damaged_mapping(either: Path) -> None:
    overwrite_root(either, "model_name_mapping")
    with untouched(either), pytest.raises(datamanager.DamagedDatabaseError):
        DataManager(either, models=["new"])


@pytest.mark.parametrize("kind", ["log", "no log", "older"])
def test_late_checksums(file: Path, kind: str) -> None:
    if kind == "older":
        older(file)
    elif kind == "no log":
        run_sql(file, "PRAGMA journal_mode=DELETE")
    said = re.escape(f"{file} was made without them")
    with untouched(file), pytest.raises(datamanager.InvalidDataError, match=said):
        DataManager(file, checksums=True, models=["new"])


def test_names_are_registered_all_or_none(either: Path) -> None:
    """Another program has a table where one of the second name's belongs."""
    with DataManager(":memory:") as memory:
        taken = memory.get_safe_model_name("taken")
    run_sql(either, f"CREATE TABLE {taken}_requests(id INTEGER PRIMARY KEY)")
    with untouched(either), pytest.raises(datamanager.CorruptDataError, match=f"{taken}_requests"):
        DataManager(either, models=["new", "taken"])
    with DataManager(either) as dm:  # open already
        with pytest.raises(datamanager.CorruptDataError, match=f"{taken}_requests"):
            DataManager(either, models=["new", "taken"])
        assert dm.get_models() == ["m"]


def test_names_that_take_more_room_than_there_is_in_memory(either: Path) -> None:
    """Of its pages some would be written before it is known that all is undone."""
    with DataManager(":memory:") as memory:
        taken = memory.get_safe_model_name("taken")
    run_sql(either, f"CREATE TABLE {taken}_requests(id INTEGER PRIMARY KEY)")
    names = [f"new {i}" for i in range(300)]
    with untouched(either), pytest.raises(datamanager.CorruptDataError, match=f"{taken}_requests"):
        DataManager(either, models=[*names, "taken"])
    with DataManager(either, models=names) as dm:
        assert len(dm.get_models()) == 301


def test_what_is_there_needs_no_lock(tmp_path: Path) -> None:
    file = tmp_path / "summed.db"
    with DataManager(file, checksums=True, models=["m"]):
        pass
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):  # the second where it is open already
            dm = DataManager(file, checksums=True, models=["m"], busy_timeout=0)
            assert dm.get_models() == ["m"]
        with pytest.raises(datamanager.BusyError):
            DataManager(file, models=["m", "new"], busy_timeout=0)


def test_an_unfinished_write_is_undone_only_for_writing(file: Path) -> None:
    """A process ended in the middle of it, in a file without a log."""
    run_sql(file, "PRAGMA journal_mode=DELETE")
    torn = file.with_name("torn.db")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size=2")
        connection.execute("BEGIN")
        connection.execute(f"UPDATE {SAFE}_requests SET cache_n=9, prompt_n=1000000")
        torn.write_bytes(file.read_bytes())
        Path(f"{torn}-journal").write_bytes(Path(f"{file}-journal").read_bytes())
    refused = pytest.raises(datamanager.ReadOnlyError, match="once for writing")
    with untouched(torn), refused as caught:
        DataManager(torn, read_only=True)
    assert caught.value.sqlite_errorname == "SQLITE_READONLY_ROLLBACK"
    with DataManager(torn) as dm:
        assert {request.cache_n for request in dm.get_model_requests("m")} == {ROW[3]}
