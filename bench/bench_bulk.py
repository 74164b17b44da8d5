"""Many rows in one call."""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from common import Result, interleave, limit, plain, ratio, scratch
from data import MODEL, columns, fresh, rows
from peers import INSERT

from datamanager import DataManager


def _ours(folder: Path, given: Any, count: int) -> float:
    path, _ = fresh(folder)
    with DataManager(path) as dm:
        begin = time.perf_counter()
        ids = dm.add_model_requests(MODEL, given)
        seconds = time.perf_counter() - begin
    assert ids == range(1, count + 1)
    return count / seconds


def _limit(folder: Path, count: int) -> float:
    path, table = fresh(folder)
    return count / limit("bulk", path, table, count)


def _executemany(folder: Path, given: list[list[Any]]) -> float:
    path, table = fresh(folder)
    db = sqlite3.connect(path, isolation_level=None)
    begin = time.perf_counter()
    db.execute("BEGIN IMMEDIATE")
    db.executemany(INSERT.format(table), given)
    db.execute("COMMIT")
    seconds = time.perf_counter() - begin
    (stored,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    db.close()
    assert stored == len(given)
    return len(given) / seconds


def measure(rounds: int, quick: bool) -> list[Result]:
    count = 100_000 if quick else 1_000_000
    arrays, lists = columns(count), rows(count)
    with scratch() as folder:
        seen = interleave(
            rounds,
            {
                "limit": lambda: _limit(folder, count),
                "ours, NumPy columns": lambda: _ours(folder, arrays, count),
                "ours, list of lists": lambda: _ours(folder, lists, count),
                "stdlib executemany": lambda: _executemany(folder, lists),
            },
        )
    return [
        *(plain(f"{count:,} rows: {name}", values, "rows/s") for name, values in seen.items()),
        ratio("NumPy columns, of limit", seen["ours, NumPy columns"], seen["limit"], 0.9),
        ratio(
            "list of lists, of executemany",
            seen["ours, list of lists"],
            seen["stdlib executemany"],
            2.0,
        ),
    ]


if __name__ == "__main__":
    import run

    sys.exit(run.main(["--only", "bulk", *sys.argv[1:]]))
