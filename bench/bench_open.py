"""What it takes to begin: a second handle, the import, a file of many models."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from common import Result, interleave, limit, plain, ratio, scratch
from data import fresh

from datamanager import DataManager


def _second_handle_us(path: str, count: int) -> float:
    with DataManager(path):
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            DataManager(path).close()
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e6


def _start_ms(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
    return (time.perf_counter() - begin) * 1e3


def _open(path: str) -> float:
    begin = time.perf_counter()
    dm = DataManager(path)
    dm.get_model_requests("model 500", limit=1)
    dm.close()
    return time.perf_counter() - begin


def measure(rounds: int, quick: bool) -> list[Result]:
    models = [f"model {number}" for number in range(1000)]
    with scratch() as folder:
        path, _ = fresh(folder)
        second = [_second_handle_us(path, 2000) for _ in range(rounds)]
        starts = interleave(
            3 * rounds,
            {"bare": lambda: _start_ms("pass"), "ours": lambda: _start_ms("import datamanager")},
        )
        with DataManager(path, models=models) as dm:
            dm.add_model_request("model 500", [1, 2, 3, 4, 5])
            table = f"{dm.get_safe_model_name('model 500')}_requests"
        opens = interleave(
            5 * rounds,
            {"limit": lambda: limit("open", path, table), "ours": lambda: _open(path)},
        )
    more = [ours - bare for ours, bare in zip(starts["ours"], starts["bare"], strict=True)]
    return [
        plain("a second handle, opened and closed", second, "us", goal=20.0, at_least=False),
        plain("import datamanager, more than bare Python", more, "ms", goal=15.0, at_least=False),
        plain("1,000 models: limit opens and reads a row", opens["limit"], "s"),
        plain("1,000 models: ours", opens["ours"], "s"),
        ratio("1,000 models: ours of limit's time", opens["ours"], opens["limit"], 1.5, False),
    ]


if __name__ == "__main__":
    import run

    sys.exit(run.main(["--only", "open", *sys.argv[1:]]))
