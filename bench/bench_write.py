"""A call for each row: one thread, and many."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import Result, interleave, limit, plain, ratio, scratch
from data import MODEL, fresh
from peers import ROWS

from datamanager import DataManager


class Threads:
    """`threads` callers of one handle; what is asked for of a run is kept here."""

    def __init__(self, folder: Path, durability: str, threads: int, calls: int) -> None:
        self.folder, self.durability = folder, durability
        self.threads, self.calls = threads, calls
        self.p99_ms: list[float] = []
        self.slowest_share: list[float] = []

    def _work(self, dm: DataManager, spent: list[float], done: list[float]) -> None:
        clock = time.perf_counter
        for i in range(self.calls):
            begin = clock()
            dm.add_model_request(MODEL, [i, 2, 3, 4, 5])
            spent.append(clock() - begin)
        done.append(clock())

    def __call__(self) -> float:
        path, _ = fresh(self.folder)
        spent: list[list[float]] = [[] for _ in range(self.threads)]
        done: list[float] = []
        with DataManager(path, durability=self.durability) as dm:  # type: ignore[arg-type]
            dm.add_model_request(MODEL, [1, 2, 3, 4, 5])
            threads = [
                threading.Thread(target=self._work, args=(dm, times, done)) for times in spent
            ]
            begin = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.perf_counter() - begin
            stored = len(dm.get_model_requests(MODEL))
        assert stored == self.threads * self.calls + 1, stored
        calls = sorted(second for times in spent for second in times)
        self.p99_ms.append(calls[int(len(calls) * 0.99)] * 1e3)
        # 1.0: all end together; near 0: some had no turn until the others had ended.
        self.slowest_share.append((min(done) - begin) / (max(done) - begin))
        return self.threads * self.calls / seconds


def _peer(folder: Path, run: Callable[..., float], durability: str, count: int) -> float:
    path, table = fresh(folder)
    return count / run(path, table, durability, count)


def _limit(folder: Path, durability: str, count: int) -> float:
    path, table = fresh(folder)
    return count / limit("rows", path, table, durability, count)


def _one_thread(
    folder: Path, rounds: int, durability: str, count: int, goal: float
) -> list[Result]:
    runs: dict[str, Callable[[], float]] = {
        "limit": lambda: _limit(folder, durability, count),
        "ours": Threads(folder, durability, 1, count),
    }
    for name, peer in ROWS.items():
        calls = count // 10 if name == "older" else count  # it is that slow
        runs[name] = partial(_peer, folder, peer, durability, calls)
    seen = interleave(rounds, runs)
    results = [plain(f"1 thread, {durability}: {name}", seen[name], "rows/s") for name in runs]
    results.append(
        ratio(f"1 thread, {durability}: ours of limit", seen["ours"], seen["limit"], goal)
    )
    return results


def _many(folder: Path, rounds: int, count: int) -> list[Result]:
    many = {8: Threads(folder, "full", 8, count // 2), 32: Threads(folder, "full", 32, count // 4)}
    runs: dict[str, Callable[[], float]] = {"limit": lambda: _limit(folder, "full", count)}
    runs |= {str(threads): run for threads, run in many.items()}
    seen = interleave(rounds, runs)
    results = []
    for threads, goal in ((8, 3.5), (32, 8.0)):
        name, run = f"{threads} threads, full", many[threads]
        results += [
            plain(f"{name}: ours", seen[str(threads)], "rows/s"),
            ratio(f"{name}: ours of limit's one", seen[str(threads)], seen["limit"], goal),
            plain(f"{name}: p99 of a call", run.p99_ms, "ms", goal=5.0, at_least=False),
            Result(f"{name}: first to end of last", statistics.median(run.slowest_share), "x"),
        ]
    return results


def measure(rounds: int, quick: bool) -> list[Result]:
    scale = 10 if quick else 1
    with scratch() as folder:
        return [
            *_one_thread(folder, rounds, "full", 3000 // scale, 0.95),
            *_one_thread(folder, rounds, "normal", 30000 // scale, 0.8),
            *_many(folder, rounds, 6000 // scale),
        ]


if __name__ == "__main__":
    import run

    sys.exit(run.main(["--only", "write", *sys.argv[1:]]))
