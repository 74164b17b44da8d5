"""fork: no connection is open across one, and whoever did not announce it is refused."""

from __future__ import annotations

import ctypes
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest
from forking import CHILDREN, PARENT, ROWS

from datamanager import DataManager, ForkedStoreError

HANG_SECONDS = 120


def run(kind: str, method: str, folder: Path) -> tuple[int, float, int]:
    """How many rows the parent wrote, the longest fork, and how many of the children's rows were
    acknowledged; nothing hung, and no child failed."""
    program = str(Path(__file__).with_name("forking.py"))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", program, kind, method, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin and process.stdout and process.stderr
    watchdog = threading.Timer(HANG_SECONDS, os.killpg, [process.pid, signal.SIGKILL])
    watchdog.start()
    ready = [process.stdout.readline() for _ in range(CHILDREN)]
    process.stdin.close()
    last = process.stdout.read().split(b"\n")  # ends when the last child has
    errors = process.stderr.read().decode()
    process.stdout.close()
    process.stderr.close()
    watchdog.cancel()
    assert process.wait() == 0 and errors == "", errors
    assert ready == [b"ready\n"] * CHILDREN
    acknowledged = [int(line.split()[1]) for line in last if line.startswith(b"done")]
    assert len(acknowledged) == CHILDREN
    busy, pause_us = last[0].split()[1:]  # the parent's line comes first: they wait for its end
    return int(busy), int(pause_us) / 1e6, sum(acknowledged)


@pytest.mark.parametrize("method", ["os.fork", "fork", "spawn"])
def test_all_rows_of_all(tmp_path: Path, method: str) -> None:
    busy, _, _ = run("ours", method, tmp_path)
    all_rows_are_there(tmp_path, method, busy)


def all_rows_are_there(folder: Path, method: str, busy: int) -> None:
    handles = {"a.db": 1 if method == "spawn" else 2, "other.db": 1}
    for name, count in handles.items():
        with DataManager(folder / name) as dm:
            children = [
                (r.timestamp, r.input_tokens) for r in dm.get_model_requests("m", end=PARENT)
            ]
            assert len(children) == len(set(children)) == CHILDREN * 2 * ROWS * count
            assert len(dm.get_model_requests("m", start=PARENT)) == (busy if name == "a.db" else 0)


def test_leak_and_reopen_loses_rows(tmp_path: Path) -> None:
    """The control: SQLite's list of locks, inherited, lies to a child that opens the file anew."""
    busy, _, written = run("leak-and-reopen", "os.fork", tmp_path)
    assert busy == 1
    found = 0
    for name in ("a.db", "other.db"):
        with closing(sqlite3.connect(tmp_path / name)) as db, suppress(sqlite3.DatabaseError):
            found += db.execute("SELECT count(*) FROM t WHERE number < ?", (PARENT,)).fetchone()[0]
    print(f"leak and reopen: {written - found} of {written} acknowledged rows are lost")
    assert found < written


ANOTHER_THREAD = """
import os, sys, threading
def look():
    thread = threading.Thread(target=lambda: seen.append(dm.closed), daemon=True)
    thread.start()
    thread.join(10)
os.register_at_fork(before=look)  # such hooks run backwards: this one after datamanager's
import datamanager
seen = []
dm = datamanager.DataManager(sys.argv[1])
if os.fork() == 0:
    os._exit(0)
os.wait()
print(seen)
"""


def test_other_threads_run_on_between_the_hooks(path: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", ANOTHER_THREAD, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[False]\n"


GARBAGE = """
import gc, os, sys
made = []
# Runs between the hooks of the store, as those of random, logging and threading do.
def other_hook(): made.extend([[]] for _ in range(1000))
os.register_at_fork(before=other_hook, after_in_parent=other_hook, after_in_child=other_hook)
import datamanager
gc.set_threshold(10)
dm = datamanager.DataManager(sys.argv[1])
for number in range(20):
    with_handle = {"handle": datamanager.DataManager(sys.argv[1])}
    with_handle["itself"] = with_handle
    del with_handle
    if (child := os.fork()) == 0:
        assert gc.isenabled()
        dm.add_model_request("m", [number, 1, 1, 0, 1])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0 and gc.isenabled()
print(len(dm.get_model_requests("m")))
"""


def test_a_close_after_a_fork_leaves_one_file(tmp_path: Path) -> None:
    """Also where nothing was asked since, so that no connection is open."""
    with DataManager(tmp_path / "usage.db") as dm:
        dm.add_model_request("m", [1, 2, 3, 4, 5])
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)
    assert os.listdir(tmp_path) == ["usage.db"]


IN_A_BATCH = """
import os, sys, datamanager
dm = datamanager.DataManager(sys.argv[1])
with dm.batch():
    dm.add_model_request("parent", [1, 1, 1, 0, 1])
    if (child := os.fork()) == 0:
        assert dm.add_model_request("child", [2, 1, 1, 0, 1]) == 1
        with dm.batch():
            dm.add_model_request("child", [3, 1, 1, 0, 1])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    dm.add_model_request("parent", [4, 1, 1, 0, 1])
try:
    with dm.batch():
        dm.add_model_request("parent", [5, 1, 1, 0, 1])
        child = os.fork()
except datamanager.DataManagerError as error:
    assert child == 0 and "no batch open here" in str(error)
    os._exit(0)
assert child and os.waitpid(child, 0)[1] == 0
"""


def test_in_a_batch(path: str) -> None:
    """It is the parent's: stored once, by it alone; and what the child writes does not wait."""
    command = [sys.executable, "-W", "ignore", "-c", IN_A_BATCH, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    with DataManager(path) as dm:
        assert [r.timestamp for r in dm.get_model_requests("parent")] == [5, 4, 1]
        assert [r.timestamp for r in dm.get_model_requests("child")] == [3, 2]


def test_garbage_during_a_fork(path: str) -> None:
    """A collection between the hooks finds a handle; freeing it must not wait for the fork."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GARBAGE, path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "20\n"), done.stderr


def test_fork_without_hooks(path: str) -> None:
    with DataManager(path) as dm:
        dm.add_model_request("m", [1, 2, 3, 4, 5])
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            code = 1
            try:
                dm.add_model_request("m", [1, 2, 3, 4, 5])
            except ForkedStoreError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert dm.add_model_request("m", [1, 2, 3, 4, 5]) == 2


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("dropped", [False, True])
def test_a_new_handle_after_a_fork_without_hooks(path: str, dropped: bool, read_only: bool) -> None:
    """It would be opened in the inherited table of locks, whatever became of the handle before."""
    held = [DataManager(path)]
    held[0].add_model_request("m", [1, 2, 3, 4, 5])
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        code = 1
        try:
            if dropped:
                held.clear()
            DataManager(path, read_only=read_only)
        except ForkedStoreError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    held[0].close()
