"""Interleaved rounds, medians, goals, and what the machine is."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import datamanager

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"


@dataclass
class Result:
    """One measured thing; ``goal`` is a bound on ``value``, where there is one."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = True
    spread: tuple[float, float] | None = None

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


def interleave(rounds: int, runs: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Each run once a round, in turn, so that what else the machine does hits all alike."""
    seen: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seen[name].append(run())
    return seen


def ratio(
    name: str,
    ours: list[float],
    theirs: list[float],
    goal: float | None = None,
    at_least: bool = True,
) -> Result:
    """The ratio of the medians; the spread is that of the ratios round by round."""
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    value = statistics.median(ours) / statistics.median(theirs)
    return Result(name, value, "x", goal, at_least, (min(each), max(each)))


def plain(name: str, values: list[float], unit: str, **goal: object) -> Result:
    return Result(name, statistics.median(values), unit, spread=(min(values), max(values)), **goal)  # type: ignore[arg-type]


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk of the build, not in memory."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        yield Path(folder)


def limit(*arguments: object) -> float:
    """Run the C program of what SQLite itself can do: the seconds of its work."""
    program = BUILD / "limit"
    source = ROOT / "bench" / "c" / "limit.c"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O2", source, "-o", program, "-lsqlite3"], check=True)
    done = subprocess.run(
        [program, *map(str, arguments)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def sync_us() -> float:
    """A 4 KiB append and fdatasync: the floor of a durable commit, median of 200."""
    with scratch() as folder:
        file = os.open(folder / "sync", os.O_WRONLY | os.O_CREAT)
        times = []
        for _ in range(200):
            begin = time.perf_counter()
            os.write(file, bytes(4096))
            os.fdatasync(file)
            times.append(time.perf_counter() - begin)
        os.close(file)
    return statistics.median(times) * 1e6


def machine() -> dict[str, object]:
    info = datamanager.sqlite_info()
    return {
        "datamanager": datamanager.__version__,
        "sqlite": info["version"],
        "sqlite shared with the stdlib": info["shared_with_stdlib"],
        "stdlib sqlite3": sqlite3.sqlite_version,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "4 KiB append and fdatasync, us": round(sync_us(), 1),
    }
