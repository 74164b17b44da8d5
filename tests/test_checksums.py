"""Checksums of requests: what changed without a word is found and named."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import datamanager
from datamanager import DataManager, InvalidDataError

ROW = [1_700_000_000.5, 123_456, 80, 5, 145]
CHANGED = "the row is not what was stored: its checksum differs"
TABLES = "SELECT name FROM sqlite_schema WHERE name LIKE '%_checksums' ORDER BY 1"


@pytest.fixture
def summed(path: str) -> Iterator[DataManager]:
    with DataManager(path, checksums=True) as manager:
        yield manager


def run_sql(path: str, *statements: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as file, file:
        return [file.execute(statement).fetchall() for statement in statements][-1]


def findings(dm: DataManager) -> list[tuple[Any, ...]]:
    return [(found.severity, found.row, found.text) for found in dm.check()]


@pytest.mark.parametrize("checksums", [True, False])
def test_bytes_that_change_on_the_disk(path: str, checksums: bool) -> None:
    """SQLite sees nothing; without checksums neither do we."""
    with DataManager(path, checksums=checksums) as dm:
        dm.add_model_requests("m", [ROW] * 50)
        dm.add_model_request("m", [1_700_000_001.5, 654_321, 80, 5, 145])
    content = bytearray(Path(path).read_bytes())
    number = (654_321).to_bytes(3)
    assert content.count(number) == 1
    content[content.index(number) + 2] ^= 1
    Path(path).write_bytes(content)
    assert run_sql(path, "PRAGMA integrity_check") == [("ok",)]
    with DataManager(path) as dm:
        assert dm.get_model_requests("m", limit=1)[0].input_tokens == 654_320
        assert findings(dm) == ([("error", 51, CHANGED)] if checksums else [])


@pytest.mark.parametrize("column", range(5))
def test_any_column(summed: DataManager, path: str, column: int) -> None:
    name = ("timestamp", "input_tokens", "output_tokens", "cache_n", "prompt_n")[column]
    summed.add_model_requests("m", [ROW] * 3)
    table = summed.get_safe_model_name("m") + "_requests"
    for value in (f"{name} + 1", f"-{name}", f"CAST({name} AS TEXT) || ' '"):
        run_sql(path, f"UPDATE {table} SET {name} = {value} WHERE id = 2")
        assert ("error", 2, CHANGED) in findings(summed)
    run_sql(path, f"UPDATE {table} SET {name} = (SELECT {name} FROM {table} WHERE id = 1)")
    assert findings(summed) == []


def test_every_way_in(summed: DataManager, path: str) -> None:
    columns = {name: [1, 2] for name in ("timestamp", "input_tokens", "output_tokens", "cache_n")}
    summed.add_model_request("m", ROW)
    summed.add_model_request("m", ROW, duration=1, request_id="a")
    summed.add_model_request("m", [0, 0, 2**53, 0, 1e3])
    summed.add_model_requests("m", [ROW] * 5000)
    summed.add_model_requests("m", {**columns, "prompt_n": [3, 4], "request_id": ["a", "b"]})
    with summed.batch():
        summed.add_model_request("new", ROW)
        summed.add_model_requests("m", [ROW] * 3, request_ids=["b", None, "c"])
    with DataManager(path) as plain:  # that the file has them counts
        plain.add_model_request("newer", ROW)
        plain.add_model_requests("newest", [ROW] * 3)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: summed.add_model_request("m", ROW), range(200)))
    summed.rename_model("newest", "other")
    summed.rename_model("m", "other")
    assert findings(summed) == []
    counts = [
        run_sql(path, f"SELECT count(*) FROM {table}")[0][0] for (table,) in run_sql(path, TABLES)
    ]
    assert sorted(counts) == [1, 1, 5209]
    assert len(summed.get_model_requests("other")) == 5209
    summed.delete_model_tables("other")
    assert len(run_sql(path, TABLES)) == 2 and findings(summed) == []


def test_who_does_not_ask_has_none(dm: DataManager, path: str) -> None:
    dm.add_model_requests("m", [ROW])
    assert run_sql(path, TABLES) == []


def test_when_they_may_be_asked_for(path: str, tmp_path: Path) -> None:
    with DataManager(path) as empty:
        with DataManager(path, checksums=True, models=["m"]) as one:
            assert one.add_model_request("m", ROW) == 1
        empty.add_model_request("m", ROW)
        with DataManager(path, checksums=True) as again, DataManager(path, read_only=True) as two:
            assert findings(again) == findings(two) == []
        assert len(run_sql(path, TABLES)) == 1
    with DataManager(":memory:", checksums=True) as memory:
        memory.add_model_request("m", ROW)
        assert findings(memory) == []
    late = tmp_path / "late.db"
    with DataManager(late, models=["m"]):
        pass
    with pytest.raises(InvalidDataError, match=r"checksums: .*late\.db was made without them"):
        DataManager(late, checksums=True)
    with pytest.raises(InvalidDataError, match="checksums"):
        DataManager(path, checksums="yes")  # type: ignore[arg-type]


def test_what_others_do(summed: DataManager, path: str) -> None:
    summed.add_model_requests("m", [ROW] * 3)
    safe = summed.get_safe_model_name("m")
    run_sql(
        path,
        f"DELETE FROM {safe}_requests WHERE id = 2",
        f"INSERT INTO {safe}_requests VALUES (9, 1, 1, 1, 1, 1)",
    )
    summed.add_model_request("m", ROW)
    assert findings(summed) == [
        ("warning", 9, "the row has no checksum: another program wrote it"),
        ("warning", 2, "the request of this checksum is missing"),
    ]
    assert summed.check(quick=True) == []
    run_sql(path, f"DROP TABLE {safe}_checksums")
    assert findings(summed) == [("warning", None, "the table is missing: nothing can be compared")]
    assert summed.add_model_request("m", ROW) == 11
    assert summed.add_model_requests("m", [ROW] * 2) == range(12, 14)


def test_restored_under_an_open_handle(tmp_path: Path) -> None:
    """Whether there are checksums is the file's to say, also when it becomes another."""
    for name, checksums in (("with", True), ("without", False)):
        with DataManager(tmp_path / f"{name}.db", checksums=checksums) as dm:
            dm.add_model_requests("m", [ROW] * 3)
            dm.backup(tmp_path / f"{name}.backup")
    for name, other in (("with", "without"), ("without", "with")):
        with DataManager(tmp_path / f"{name}.db") as dm:
            dm.add_model_request("m", ROW)
            for source in (other, name, other):
                datamanager.restore(tmp_path / f"{source}.backup", tmp_path / f"{name}.db")
                assert dm.add_model_request("m", ROW) == 4
                assert dm.add_model_request("m", ROW) == 5
                assert dm.add_model_requests("m", [ROW]) == range(6, 7)
                assert findings(dm) == []


@pytest.mark.parametrize("checksums", [True, False])
@pytest.mark.parametrize("request_id", [None, "a"])
def test_restored_before_the_first_request(
    path: str, tmp_path: Path, checksums: bool, request_id: str | None
) -> None:
    """The writer knows the model by the file of before, and has prepared no insert into it yet."""
    with DataManager(tmp_path / "other.db", checksums=not checksums, models=["m", "n"]) as other:
        other.backup(tmp_path / "backup.db")
    with DataManager(path, checksums=checksums, models=["m", "n"]) as dm:
        datamanager.restore(tmp_path / "backup.db", path)
        dm.add_model_request("n", ROW)  # the writer sees the tables of now
        assert dm.add_model_request("m", ROW, request_id=request_id) == 1
        assert dm.add_model_request("m", ROW) == 2
        assert len(dm.get_model_requests("m")) == 2
        assert findings(dm) == []


def test_a_table_that_others_drop_before_the_first_request(path: str) -> None:
    with DataManager(path, checksums=True, models=["m", "n"]) as dm:
        run_sql(path, f"DROP TABLE {dm.get_safe_model_name('m')}_checksums")
        dm.add_model_request("n", ROW)
        assert dm.add_model_request("m", ROW, request_id="a") == 1
        assert len(dm.get_model_requests("m")) == 1


def test_a_row_is_never_committed_without_its_checksum(path: str) -> None:
    """The table comes while the insert of the handle is ready to commit by itself."""
    with DataManager(path, models=["m"]) as dm:
        dm.add_model_request("m", ROW)
        table = dm.get_safe_model_name("m") + "_checksums"
        run_sql(path, f"CREATE TABLE {table} (request_id INTEGER PRIMARY KEY CHECK(0), checksum)")
        with pytest.raises(datamanager.DataManagerError):
            dm.add_model_request("m", ROW)
        assert len(dm.get_model_requests("m")) == 1


KILLED = """
import sys, datamanager
dm = datamanager.DataManager(sys.argv[1], checksums=True)
while True:
    dm.add_model_request("m", [1, 2, 3, 4, 5])
    dm.add_model_requests("m", [[1, 2, 3, 4, 5]] * 3)
    print("", flush=True)
"""


def test_killed(path: str) -> None:
    command = [sys.executable, "-c", KILLED, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(50):
            child.stdout.readline()
        child.kill()
    assert child.returncode == -signal.SIGKILL and os.path.getsize(path) > 0
    with DataManager(path) as dm:
        assert len(dm.get_model_requests("m")) >= 200 and findings(dm) == []
