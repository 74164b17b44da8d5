"""How long a prune keeps others waiting: ``python bench/prune.py [ROWS]``.

One writer in this process and one in another add a request at a time, durably, while a million are
pruned; each notes how long its slowest call took, then again with nothing else going on.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from datamanager import DataManager

BEGIN = 1_700_000_000
DAY = 86400
OTHER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from prune import DataManager, Writer
with DataManager(sys.argv[1]) as dm:
    writer = Writer(dm, "other")
    print("ready", flush=True)
    writer.run(lambda: not Path(sys.argv[1] + ".stop").exists())
print(writer, flush=True)
"""


class Writer:
    """Adds requests, with a millisecond between, and notes how long each call took."""

    def __init__(self, dm: DataManager, model: str) -> None:
        self.took: list[float] = []
        self._dm, self._model = dm, model

    def run(self, going_on: Callable[[], bool]) -> None:
        while going_on():
            began = time.perf_counter()
            self._dm.add_model_request(self._model, [time.time(), 1000, 100, 0, 1000])
            self.took.append(time.perf_counter() - began)
            time.sleep(0.001)

    def __str__(self) -> str:
        took = sorted(self.took)
        shown = [took[int(len(took) * share)] * 1000 for share in (0.5, 0.99)] + [took[-1] * 1000]
        return "{:,} calls, median {:.1f} ms, p99 {:.1f} ms, max {:.1f} ms".format(
            len(took), *shown
        )


def fill(dm: DataManager, count: int) -> None:
    rnd = random.Random(1)
    step = 300 * DAY / count
    for first in range(0, count, 50_000):
        dm.add_model_requests(
            "m",
            [
                [BEGIN + i * step, rnd.randrange(8000), rnd.randrange(900), 0, 100]
                for i in range(first, min(first + 50_000, count))
            ],
        )


def measured(path: str, prune: bool) -> float:
    """With both writers going on; how long it took."""
    stop = Path(path + ".stop")
    command = [sys.executable, "-c", OTHER, path, str(Path(__file__).parent)]
    with (
        DataManager(path) as dm,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other,
    ):
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        over = threading.Event()
        writer = Writer(dm, "mine")
        thread = threading.Thread(target=writer.run, args=(lambda: not over.is_set(),))
        thread.start()
        began = time.perf_counter()
        steps: list[int] = []
        if prune:
            dm.prune(BEGIN + 300 * DAY, progress=lambda done, total: steps.append(done))
        else:
            time.sleep(5)
        took = time.perf_counter() - began
        over.set()
        thread.join()
        stop.touch()
        theirs = other.stdout.readline().strip()
        stop.unlink()
    print(f"  {len(steps):,} steps in {took:.1f} s" if prune else "  alone")
    print(f"  this process:    {writer}")
    print(f"  another process: {theirs}")
    return took


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = str(Path(folder) / "usage.db")
        with DataManager(path, durability="normal") as dm:
            fill(dm, count)
            size = dm.vacuum()[1]
        measured(path, prune=False)
        took = measured(path, prune=True)
        with DataManager(path) as dm:
            began = time.perf_counter()
            requests = dm.usage("m")[0].requests
            asked = time.perf_counter() - began
            _, left = dm.vacuum()
        print(f"{count:,} rows, {size:,} bytes: {count / took:,.0f} a second; {left:,} bytes left")
        print(f"usage of the {requests:,} in {asked * 1000:.0f} ms")


if __name__ == "__main__":
    main()
