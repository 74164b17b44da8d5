"""The soak: four processes of eight threads, and every operation of one database, for DM_SECONDS.

No call may fail or take a second; memory and file handles stay flat; at the end each request that
was acknowledged is there, as a row or in a sum. DM_PLANT, one of PLANTS, is a control: a fault of
its own that must be found. DM_FOLDER is where the files are: by default in memory, where nothing is
told but the price of waiting for each other.

The allocator has one arena. With glibc's default, an arena or so for each thread, what is in use
stays as flat, but each arena keeps what others could use: it tells of the allocator, not of us.
For the same reason all begins as it would be in the end: databases with the sums of EARLIER
requests, 6 bytes each; all connections that there may be, each with its cache of pages, 2 MB, full;
and what takes the most memory has been done by all threads at once. With time all that comes by
itself: by chance, and thus slowly.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from memory import allocated_bytes, resident_bytes, sqlite_bytes

import datamanager
from datamanager import DataManager

PROCESSES, THREADS = 4, 8
SECONDS = float(os.environ.get("DM_SECONDS", "30"))
PLANT = os.environ.get("DM_PLANT", "")
PLANTS = ("error", "slow", "memory", "handles", "lost")
MODELS = [f"shared {i}" for i in range(4)]
WORST_SECONDS = 1.0
PAUSE_SECONDS = 0.2  # at most, between two calls of a thread: 32 threads share the processors
AGE_SECONDS = 5.0  # of what is pruned
EARLIER = 500_000
SAMPLES = 400

# What each process has, in which unit it is told, and by how much it may grow: in all, and without
# SQLite, whose caches of pages keep from the kernel, as free, what a small leak would fill.
MEASURES: dict[str, tuple[Callable[[], int], int, float]] = {
    "memory": (resident_bytes, 1 << 20, 1.1),
    "memory but SQLite's": (lambda: allocated_bytes() - sqlite_bytes(), 1 << 20, 1.1),
    "handles": (lambda: len(os.listdir("/proc/self/fd")), 1, 1.1),
}

BEGUN = time.monotonic()
Moment = tuple[float, float]  # how long, and how long after the beginning: seconds
NEVER = (0.0, 0.0)

Tier = list[Any]
TIERS: list[Tier] = [[1, 0, 1000, 1.0, 2.0, True, 0.5], [2, 1000, -1, 2.0, 4.0, False, None]]


class Timed:
    """A data manager of which each call is timed: the worst of each, and when it was."""

    def __init__(self, dm: DataManager, worst: dict[str, Moment]) -> None:
        self._dm, self._worst = dm, worst

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._dm, name)
        return self.timed(name, found) if callable(found) else found

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timing(*arguments: Any, **options: Any) -> Any:
            begun = time.monotonic()
            try:
                return call(*arguments, **options)
            finally:
                took = time.monotonic() - begun
                self._worst[name] = max(self._worst.get(name, NEVER), (took, begun - BEGUN))

        return timing


class Worker:
    """One thread: its own models beside those of all, and what it was told is stored."""

    def __init__(self, process: Process, number: int) -> None:
        self.worst: dict[str, Moment] = {}
        self.dm, self.side = Timed(process.dm, self.worst), Timed(process.side, self.worst)
        self.process = process
        self.random = random.Random(number)
        self.name = f"of {number}"
        self.file = str(process.folder / f"file-{number}")
        self.serial = itertools.count(number << 32)
        self.added = 0
        self.calls: Counter[str] = Counter()
        self.errors: list[str] = []

    def model(self) -> str:
        return self.random.choice(MODELS)

    def row(self) -> list[float]:
        return [time.time(), self.random.randrange(3000), self.random.randrange(500), 10, 20]

    # ---- operations ----

    def add(self) -> None:
        self.dm.add_model_request(self.model(), self.row(), duration=1.5, first_token=0.5)
        self.added += 1

    def add_once(self) -> None:
        model, row, request_id = self.model(), self.row(), str(next(self.serial))
        first = self.dm.add_model_request(model, row, request_id=request_id)
        assert self.dm.add_model_request(model, row, request_id=request_id) == first
        self.added += 1

    def add_many(self) -> None:
        self.dm.add_model_requests(self.model(), [self.row() for _ in range(50)])
        self.added += 50

    def add_batch(self) -> None:
        with self.dm.batch():
            self.dm.add_model_request(self.model(), self.row())
            self.dm.add_model_requests(self.model(), [self.row() for _ in range(5)])
            self.dm.add_model_runtime_start(self.name, time.time())
        self.added += 6

    def add_response(self) -> None:
        usage = {"prompt_tokens": 5, "completion_tokens": 6}
        self.dm.add_response(self.model(), {"usage": usage}, timestamp=time.time())
        self.added += 1

    def run(self) -> None:
        self.dm.add_program_runtime_start(time.time())
        self.dm.add_model_runtime_start(self.name, time.time())
        self.dm.update_model_runtime_end(self.name, time.time())

    def prices(self) -> None:
        self.dm.set_pricing(self.name, tiers=TIERS, hourly_price=1.5, strategy="volume")
        self.dm.set_tier_pricing(self.name, TIERS[0])
        self.dm.update_hourly_price(self.name, 2.5)
        self.dm.update_billing_method(self.name, self.random.random() < 0.5)
        self.dm.get_price_history(self.name)
        self.dm.get_model_billing(self.name)

    def read(self) -> None:
        model = self.model()
        requests = self.dm.get_model_requests(model, minutes=1)
        assert len(requests.timestamp) == len(requests)
        self.dm.get_model_runtime(model)
        self.dm.get_program_runtime(limit=5)

    def ask(self) -> None:
        self.dm.usage()
        self.dm.performance(minutes=1)
        self.dm.get_status(minutes=1)
        self.dm.stats()

    def bill(self) -> None:
        self.dm.invoice(self.model())
        self.dm.cost(self.model(), 100, 100)

    def rename_and_delete(self) -> None:
        self.dm.add_model_requests(self.name, [self.row()] * 20)
        self.dm.rename_model(self.name, f"{self.name} renamed")
        self.dm.delete_model_tables(f"{self.name} renamed")
        self.dm.add_model_request(self.name, self.row())

    def prune(self) -> None:
        self.dm.prune(time.time() - AGE_SECONDS)
        self.dm.prune(time.time() - AGE_SECONDS, keep=None, models=self.name)

    def backup(self) -> None:
        self.dm.backup(f"{self.file}.db", overwrite=True)

    def restore(self) -> None:
        """Into another database, which others of this process have open."""
        if not os.path.exists(f"{self.file}.db"):
            self.backup()
        restore = self.side.timed("restore", datamanager.restore)
        kept = restore(f"{self.file}.db", self.side.db_path)
        self.side.usage()
        assert kept is not None
        os.unlink(kept)

    def copy(self) -> None:
        self.dm.export(f"{self.file}.csv", start=time.time() - 1, overwrite=True)
        self.side.import_requests(f"{self.file}.csv")

    def care(self) -> None:
        assert self.dm.check(quick=self.random.random() < 0.8) == []
        self.dm.get_storage_stats()

    def vacuum(self) -> None:
        self.dm.vacuum()

    def reopen(self) -> None:
        with DataManager(self.dm.db_path) as other, DataManager(other.db_path, read_only=True) as r:
            other.add_model_request(self.model(), self.row())
            r.get_models()
        self.added += 1

    # ----

    def call(self, operation: Callable[[Worker], None]) -> None:
        name = operation.__name__
        try:
            operation(self)
            plant(self)
        except Exception as error:
            self.errors.append(f"{name}: {type(error).__name__}: {error}")
        self.calls[name] += 1

    def work(self) -> None:
        self.call(Worker.run)  # of a model that others need
        while time.monotonic() < self.process.until:
            self.call(self.random.choice(OPERATIONS))
            time.sleep(self.random.uniform(0, PAUSE_SECONDS))


OPERATIONS = [
    *[Worker.add] * 120, *[Worker.add_once] * 24, *[Worker.add_many] * 16, *[Worker.add_batch] * 24,
    *[Worker.add_response] * 16, *[Worker.run] * 24, *[Worker.prices] * 8, *[Worker.read] * 48,
    *[Worker.ask] * 24, *[Worker.bill] * 12, *[Worker.rename_and_delete] * 2, *[Worker.prune] * 8,
    Worker.backup, Worker.restore, Worker.copy, Worker.care, Worker.vacuum, *[Worker.reopen] * 8,
]  # fmt: skip


HEAVY = [Worker.backup, Worker.restore, Worker.copy, Worker.care, Worker.vacuum, Worker.reopen]

kept: list[Any] = []
keeping = threading.Lock()


def begins_to_keep(worker: Worker) -> bool:
    """Once, in the middle: more than a process is given by beginning, however short the soak is."""
    return time.monotonic() > worker.process.until - SECONDS / 2 and keeping.acquire(False)


def plant(worker: Worker) -> None:
    if PLANT == "error" and worker.random.random() < 0.01:
        worker.dm.get_model_requests("unknown")
    elif PLANT == "slow" and worker.random.random() < 0.01:
        worker.dm.timed("slow", time.sleep)(WORST_SECONDS)
    elif PLANT == "memory" and begins_to_keep(worker):
        kept.append(b"kept" * 50_000_000)
    elif PLANT == "handles" and begins_to_keep(worker):
        kept.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(400))
    elif PLANT == "lost" and worker.calls.total() == 9:
        worker.added += 1


def connect_all(dm: DataManager) -> None:
    """Each of its connections that read has read all that there is."""
    most = dm.stats()["pool_size"]
    with ThreadPoolExecutor(most) as threads:
        while dm.stats()["connections"] < most:
            list(threads.map(lambda _: dm.usage(), range(most)))
        list(threads.map(lambda _: dm.usage(), range(10 * most)))


class Process:
    """One of the four: its threads, and what it looks like from outside while they work."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.dm = DataManager(folder / "usage.db", models=MODELS)
        self.dm.backup(folder / f"side-{number}.db")
        self.side = DataManager(folder / f"side-{number}.db")
        self.workers = [Worker(self, number * THREADS + i) for i in range(THREADS)]
        self.samples: dict[str, list[int]] = {what: [] for what in MEASURES}
        self.until = 0.0

    def warm_up(self) -> None:
        for dm in (self.dm, self.side):
            connect_all(dm)
        with ThreadPoolExecutor(THREADS) as threads:
            for operation in HEAVY:
                list(threads.map(operation, self.workers))
        for worker in self.workers:
            worker.worst.clear()

    def sample(self) -> None:
        """Evenly over the time: where this thread was late, it was as before."""
        moment = min(int((1 - (self.until - time.monotonic()) / SECONDS) * SAMPLES), SAMPLES)
        for what, (measure, _, _) in MEASURES.items():
            samples = self.samples[what]
            samples.extend(samples[-1:] * (moment - len(samples)))
            samples.append(measure())

    def run(self) -> dict[str, Any]:
        self.warm_up()
        self.until = time.monotonic() + SECONDS
        threads = [threading.Thread(target=worker.work) for worker in self.workers]
        for thread in threads:
            thread.start()
        while time.monotonic() < self.until:
            self.sample()
            time.sleep(SECONDS / SAMPLES)
        self.sample()
        for thread in threads:
            thread.join()
        self.side.close()
        self.dm.close()
        worst: dict[str, Moment] = {}
        for worker in self.workers:
            for name, took in worker.worst.items():
                worst[name] = max(worst.get(name, NEVER), took)
        return {
            "added": sum(worker.added for worker in self.workers),
            "errors": [error for worker in self.workers for error in worker.errors],
            "calls": sum((worker.calls for worker in self.workers), Counter()),
            "worst": worst,
            "samples": self.samples,
        }


# ---- what is said of all of them ----


def prepare(path: Path) -> None:
    chance, now = random.Random(0), time.time()
    rows = [
        [now - 7200 + i / EARLIER, chance.randrange(3000), chance.randrange(500), 10, 20]
        for i in range(EARLIER)
    ]
    with DataManager(path, models=MODELS) as dm:
        dm.add_model_requests(MODELS[0], rows)
        dm.prune(now - AGE_SECONDS)


def growth(samples: list[int]) -> float:
    """Of the last quarter against the second; the first is for warming up."""
    quarter = len(samples) // 4
    return statistics.median(samples[-quarter:]) / statistics.median(samples[quarter : 2 * quarter])


def judge(results: list[dict[str, Any]], found: int) -> list[str]:
    faults = [error for result in results for error in result["errors"]][:20]
    for number, result in enumerate(results):
        for name, (took, when) in result["worst"].items():
            if took >= WORST_SECONDS:
                faults.append(f"process {number}: {name} took {took:.3f} s, {when:.0f} s on")
        for what, (_, _, most) in MEASURES.items():
            if (by := growth(result["samples"][what])) > most:
                faults.append(f"process {number}: {what} grew to {by:.2f} of what it was")
    if found != (added := acknowledged(results)):
        faults.append(f"{added} requests were acknowledged, and {found} are there")
    return faults


def acknowledged(results: list[dict[str, Any]]) -> int:
    return EARLIER + sum(result["added"] for result in results)


def report(results: list[dict[str, Any]], found: int) -> None:
    calls = sum((Counter(result["calls"]) for result in results), Counter())
    print(*(f"{name} {count}" for name, count in sorted(calls.items())), sep=", ")
    for name in sorted({name for result in results for name in result["worst"]}):
        worst, when = max(tuple(result["worst"].get(name, NEVER)) for result in results)
        print(f"{name:26} worst {worst * 1000:4.0f} ms, {when:.0f} s on")
    for what, (_, unit, _) in MEASURES.items():
        all_samples = [result["samples"][what] for result in results]
        said = [f"{max(samples) / unit:.0f} ({growth(samples):.2f})" for samples in all_samples]
        print(f"{what:26} at most {', '.join(said)}")
    print(f"{found} requests are there, of {acknowledged(results)}")


def main() -> int:
    if len(sys.argv) == 3:
        json.dump(Process(Path(sys.argv[1]), int(sys.argv[2])).run(), sys.stdout)
        return 0
    place = os.environ.get("DM_FOLDER", "/dev/shm")
    with tempfile.TemporaryDirectory(dir=place, prefix="dm-soak-") as folder:
        prepare(Path(folder) / "usage.db")
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, folder, str(number)],
                env={**os.environ, "MALLOC_ARENA_MAX": "1"},
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(PROCESSES)
        ]
        results = [json.loads(process.communicate()[0]) for process in processes]
        with DataManager(Path(folder) / "usage.db") as dm:
            found = dm.usage(MODELS).total.requests
            wrong = [str(finding) for finding in dm.check()]
    report(results, found)
    faults = judge(results, found) + wrong
    print(*faults, f"soak of {SECONDS:.0f} s: {len(faults)} faults", sep="\n")
    return len(faults) > 0


if __name__ == "__main__":
    sys.exit(main())
