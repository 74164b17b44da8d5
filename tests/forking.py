"""A program that forks while it is busy, and ends before its children.

forking.py KIND METHOD FOLDER. Children print "ready" when they have written beside the parent; the
parent ends when its input does, printing how many rows it wrote and how many microseconds the
longest fork took, while which its other threads wait; they write again and print "done" and how
many of their rows were acknowledged.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import sqlite3
import sys
import threading
import time
from typing import Any

import datamanager

CHILDREN, ROWS = 20, 10
PARENT = CHILDREN  # the children are 0, 1, ...


class Ours:
    """A handle of this package."""

    inherits = True
    harm: tuple[type[Exception], ...] = ()

    def __init__(self, path: str) -> None:
        self.dm = datamanager.DataManager(path)

    def add(self, number: int, n: int) -> None:
        assert self.dm.add_model_request("m", [number, n, 0, 0, 0]) is not None

    def count(self, number: int) -> int:
        requests = self.dm.get_model_requests("m", start=number, end=number + 1)
        return len({r.input_tokens for r in requests})

    def others(self, other: str) -> None:
        """What else a thread may be at when another one forks."""
        assert not self.dm.closed
        with self.dm.batch():
            self.dm.update_program_runtime_end(1.0)
        datamanager.DataManager(other).close()


class LeakAndReopen:
    """The usual advice: the child lets the inherited connection be, and opens its own."""

    inherits = False
    harm = (sqlite3.Error, AssertionError)  # of a file that is damaged, too

    def __init__(self, path: str) -> None:
        self.db = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS t(number, n)")

    def add(self, number: int, n: int) -> None:
        self.db.execute("INSERT INTO t VALUES(?, ?)", (number, n))

    def count(self, number: int) -> int:
        rows = self.db.execute("SELECT count(DISTINCT n) FROM t WHERE number = ?", (number,))
        return int(rows.fetchone()[0])

    def others(self, other: str) -> None:
        pass


KINDS: dict[str, Any] = {"ours": Ours, "leak-and-reopen": LeakAndReopen}


def child(kind: str, folder: str, number: int, parent: int, inherited: Any) -> None:
    parent_ends = os.pidfd_open(parent)
    store = KINDS[kind]
    handles = [inherited] if inherited and store.inherits else []
    acknowledged = 0
    for phase in range(2):
        try:
            if phase == 0:
                handles += [store(os.path.join(folder, name)) for name in ("a.db", "other.db")]
            for i, handle in enumerate(handles):
                for n in range(ROWS):
                    handle.add(number, phase * 1000 + i * 100 + n)
                    acknowledged += 1
                assert handle.count(number) >= ROWS
        except store.harm:
            pass
        if phase == 0:
            os.write(1, b"ready\n")
            select.select([parent_ends], [], [])
    os.write(1, b"done %d\n" % acknowledged)


def start_child(method: str, *arguments: Any) -> float:
    """How long the parent was held up, in seconds."""
    begun = time.monotonic()
    if method != "os.fork":
        context: Any = multiprocessing.get_context(method)
        inherited = arguments[-1] if method == "fork" else None
        context.Process(target=child, args=(*arguments[:-1], inherited)).start()
    elif os.fork() == 0:
        try:
            child(*arguments)
        finally:
            os._exit(0)
    return time.monotonic() - begun


def main(kind: str, method: str, folder: str) -> None:
    handle = KINDS[kind](os.path.join(folder, "a.db"))
    other = os.path.join(folder, "other.db")
    handle.add(PARENT, 0)
    stop = threading.Event()
    counts = [0] * 4

    def work(i: int) -> None:
        while not stop.is_set():
            handle.add(PARENT, counts[i])
            counts[i] += 1
            handle.others(other)

    if isinstance(handle, Ours):
        handle.dm.add_program_runtime_start(0.0)
        threads = [threading.Thread(target=work, args=[i]) for i in range(4)]
    else:
        threads = []  # no lock may be held at the fork, or the children wait for it for ever
    for thread in threads:
        thread.start()
    pause = max(
        start_child(method, kind, folder, number, os.getpid(), handle) for number in range(CHILDREN)
    )
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    os.write(1, b"busy %d %d\n" % (sum(counts) + 1, pause * 1e6))
    if isinstance(handle, LeakAndReopen):
        handle.db.close()
    if method != "os.fork":
        os._exit(0)  # multiprocessing would wait for the children


if __name__ == "__main__":
    main(*sys.argv[1:])
