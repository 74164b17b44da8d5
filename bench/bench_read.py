"""All requests of a model: as columns, and as records."""

from __future__ import annotations

import multiprocessing
import sqlite3
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from common import Result, interleave, limit, plain, ratio, scratch
from data import MODEL, filled

from datamanager import DataManager

Run = Callable[[str, str], tuple[float, int]]


def _ours(path: str) -> float:
    with DataManager(path) as dm:
        dm.get_model_requests(MODEL, limit=1)
        begin = time.perf_counter()
        requests = dm.get_model_requests(MODEL)
        seconds = time.perf_counter() - begin
        assert requests[-1].id == 1
    return seconds


def _records(path: str, table: str) -> tuple[float, int]:
    with DataManager(path) as dm:
        begin = time.perf_counter()
        total = 0
        for request in dm.get_model_requests(MODEL):
            total += request.output_tokens
        return time.perf_counter() - begin, total


def _fetchall(path: str, table: str) -> tuple[float, int]:
    db = sqlite3.connect(path)
    begin = time.perf_counter()
    total = 0
    for row in db.execute(f"SELECT * FROM {table} ORDER BY id DESC").fetchall():
        total += row[3]
    seconds = time.perf_counter() - begin
    db.close()
    return seconds, total


def _peak_mib() -> float:
    """Of this process alone: ru_maxrss of a child begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _child(pipe: Connection, run: Run, path: str, table: str) -> None:
    before = _peak_mib()
    try:
        seconds, total = run(path, table)
        pipe.send((seconds, total, _peak_mib() - before))
    finally:
        pipe.close()


class InChild:
    """A process for each run: its memory is its own."""

    def __init__(self, run: Run, path: str, table: str) -> None:
        self.run, self.path, self.table = run, path, table
        self.total, self.mib = 0, list[float]()

    def __call__(self) -> float:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        child = context.Process(target=_child, args=(there, self.run, self.path, self.table))
        child.start()
        there.close()  # so that a child that fails ends the wait
        seconds, self.total, mib = here.recv()
        child.join()
        self.mib.append(mib)
        return float(seconds)


def measure(rounds: int, quick: bool) -> list[Result]:
    count = 100_000 if quick else 1_000_000
    with scratch() as folder:
        path, table = filled(folder, count)
        records, fetched = InChild(_records, path, table), InChild(_fetchall, path, table)
        seen = interleave(
            rounds,
            {
                "limit": lambda: limit("scan", path, table),
                "ours": lambda: _ours(path),
                "all records": records,
                "stdlib fetchall": fetched,
            },
        )
    assert records.total == fetched.total
    return [
        *(plain(f"{count:,} rows: {name}", values, "s") for name, values in seen.items()),
        plain("all records: memory", records.mib, "MiB"),
        plain("stdlib fetchall: memory", fetched.mib, "MiB"),
        ratio("get_model_requests, of limit's time", seen["ours"], seen["limit"], 1.3, False),
        ratio(
            "fetchall, of the time for all records",
            seen["stdlib fetchall"],
            seen["all records"],
            2.0,
        ),
        ratio("all records, of fetchall's memory", records.mib, fetched.mib, 1 / 3, False),
    ]


if __name__ == "__main__":
    import run

    sys.exit(run.main(["--only", "read", *sys.argv[1:]]))
