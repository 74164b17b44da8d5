"""stats(): what is counted did happen, and what happened is counted."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from typing import Any

import pytest
from test_backup import ROW

import datamanager
from datamanager import DataManager

GAUGES = {"pool_size", "handles", "connections", "reading", "wal_reset_race", "largest_commit"}


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """What has been counted in between, without what has not."""
    names = [name for name in after if name not in GAUGES and not name.startswith("oldest_read")]
    return {name: after[name] - before[name] for name in names if after[name] != before[name]}


def test_writes(dm: DataManager) -> None:
    dm.add_model_request("m", ROW)
    before = dm.stats()
    for _ in range(3):
        dm.add_model_request("m", ROW)
    found = difference(before, dm.stats())
    assert found == {"commits": 3, "operations": 3, "statement_hits": 3}
    before = dm.stats()
    with dm.batch():
        dm.add_model_request("m", ROW)
        dm.add_model_requests("m", [ROW] * 5)
    found = difference(before, dm.stats())
    assert (found["commits"], found["operations"]) == (1, 2)
    before = dm.stats()
    with pytest.raises(datamanager.RunNotFoundError):
        dm.update_model_runtime_end("m", 5.0)
    found = difference(before, dm.stats())
    assert found["failed_operations"] == 1 and "commits" not in found


def test_statements(dm: DataManager) -> None:
    dm.add_model_request("m", ROW)
    dm.get_model_requests("m")
    before = dm.stats()
    for _ in range(10):
        dm.get_model_requests("m")
    found = difference(before, dm.stats())
    assert found["statement_hits"] >= 10 and "statement_misses" not in found
    dm.add_model_runtime_start("m", 1.0)
    assert difference(before, dm.stats())["statement_misses"] >= 1


def test_handles_and_connections(dm: DataManager, path: str) -> None:
    with DataManager(path, pool_size=12):
        stats = dm.stats()
        assert (stats["handles"], stats["pool_size"]) == (2, 12)
    dm.get_models()
    stats = dm.stats()
    assert (stats["handles"], stats["connections"], stats["reading"]) == (1, 1, 0)
    assert stats["oldest_read_seconds"] is None and stats["oldest_read_thread"] is None
    assert stats["wal_reset_race"] == datamanager.sqlite_info()["wal_reset_race"]


def test_a_shared_commit(dm: DataManager, path: str) -> None:
    """While another program holds the lock, callers gather; then one commit serves them."""
    dm.add_model_request("m", ROW)
    before = dm.stats()
    threads = [threading.Thread(target=dm.add_model_request, args=("m", ROW)) for _ in range(8)]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for thread in threads:
            thread.start()
        while dm.stats()["write_waits"] - before["write_waits"] < 7:
            pass
        other.execute("ROLLBACK")
    for thread in threads:
        thread.join()
    after = dm.stats()
    found = difference(before, after)
    assert found["operations"] == 8 and found["write_waits"] == 7
    assert found["commits"] <= 2 and after["largest_commit"] >= 4


def test_busy(path: str) -> None:
    with DataManager(path, models=["m"], busy_timeout=0.05) as dm:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(datamanager.BusyError):
                dm.add_model_request("m", ROW)
        assert dm.stats()["busy_retries"] > 1
        assert dm.stats()["failed_operations"] == 1


def test_checkpoints_and_an_old_reader(dm: DataManager, path: str) -> None:
    rows = [ROW] * 150_000  # more than a log's worth
    dm.add_model_requests("m", rows)
    assert dm.stats()["checkpoints"] > 0 and dm.stats()["checkpoint_held_pages"] == 0
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT 1 FROM model_name_mapping").fetchone()
        dm.add_model_requests("m", rows)
        assert dm.stats()["checkpoint_held_pages"] > 100
        reader.execute("ROLLBACK")
    dm.add_model_requests("m", rows)
    assert dm.stats()["checkpoint_held_pages"] == 0


# What a checkpoint of another process holds while it runs: a byte of SQLite's file format.
CHECKPOINTING = """
import fcntl, sys
with open(sys.argv[1], "r+b") as shared:
    fcntl.lockf(shared, fcntl.LOCK_EX, 1, 121)
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_checkpoint_that_is_skipped(dm: DataManager, path: str) -> None:
    dm.add_model_request("m", ROW)
    command = [sys.executable, "-c", CHECKPOINTING, f"{path}-shm"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"locked\n"
        before = dm.stats()
        dm.add_model_requests("m", [ROW] * 150_000)
        found = difference(before, dm.stats())
        assert found["checkpoints_skipped"] == 1 and "checkpoints" not in found
        other.communicate()
    before = dm.stats()
    dm.add_model_request("m", ROW)
    found = difference(before, dm.stats())
    assert found["checkpoints"] == 1 and "checkpoints_skipped" not in found


def test_an_old_reader_is_named(dm: DataManager, path: str, tmp_path: Any) -> None:
    dm.add_model_requests("m", [ROW] * 1000)
    seen: list[dict[str, Any]] = []

    def look(done: int, total: int) -> None:
        seen.append(dm.stats())

    thread = threading.Thread(target=dm.backup, args=(tmp_path / "copy.db", look))
    thread.start()
    thread.join()
    assert seen[0]["reading"] == 1 and 0 < seen[0]["oldest_read_seconds"] < 60
    assert seen[0]["oldest_read_thread"] == thread.native_id
    assert dm.stats()["reading"] == 0


def test_waiting_for_a_connection(path: str, tmp_path: Any) -> None:
    with DataManager(path, pool_size=1) as dm:
        dm.add_model_requests("m", [ROW] * 200_000)
        while dm.stats()["read_waits"] == 0:
            threads = [threading.Thread(target=dm.get_model_requests, args="m") for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert dm.stats()["connections"] == 1


def test_in_memory_and_after_a_fork(dm: DataManager) -> None:
    with DataManager(":memory:") as memory:
        memory.add_model_request("m", ROW)
        assert memory.stats()["commits"] == 1
    dm.add_model_request("m", ROW)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            commits = dm.stats()["commits"]
            dm.add_model_request("m", ROW)
            code = 0 if dm.stats()["commits"] == commits + 1 and not dm.stats()["reading"] else 1
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
