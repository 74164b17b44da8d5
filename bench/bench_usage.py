"""Questions over many requests: totals with cost, a series by day and model, the last hour."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import series
from common import Result, interleave, limit, plain, ratio, scratch
from data import MODEL, columns, filled

from datamanager import DataManager

TIERS = [[1, 0, 8192, 2.0, 8.0, True, 0.4], [2, 8192, 0, 4.0, 16.0, True, 0.8]]
EVER = {"start": 0, "end": 4e9}
HOUR_S = 3600


def timed(question: Callable[[], object]) -> float:
    begin = time.perf_counter()
    question()
    return time.perf_counter() - begin


def _totals(rounds: int, folder: Path, count: int) -> list[Result]:
    path, table = filled(folder, count)
    with DataManager(path) as dm:
        dm.set_pricing(MODEL, tiers=TIERS, use_tier_pricing=True)

    apart = shutil.copy(path, folder / "cold.db")  # handles on one file share what they have read

    def cold() -> float:
        with DataManager(apart) as dm:
            dm.get_model_billing(MODEL)  # the file is open
            return timed(lambda: dm.usage(MODEL, **EVER))

    with DataManager(path) as warm:
        warm.usage(MODEL, **EVER)

        def again() -> float:
            warm.add_model_requests(MODEL, [[1.7e9, 5, 6, 7, 8]] * 10)
            return timed(lambda: warm.usage(MODEL, **EVER))

        seen = interleave(
            rounds, {"limit": lambda: limit("sums", path, table), "cold": cold, "again": again}
        )
    again_ms = [seconds * 1000 for seconds in seen["again"]]
    return [
        *(plain(f"totals of {count:,}: {name}", values, "s") for name, values in seen.items()),
        ratio("totals, of limit's time without cost", seen["cold"], seen["limit"], 1.1, False),
        plain("totals again after ten rows", again_ms, "ms", goal=5.0, at_least=False),
    ]


def _series(rounds: int, folder: Path, count: int) -> list[Result]:
    path = series.filled(folder, count, TIERS)
    # Some of them bring an SQLite of their own, which must not share a file with ours.
    theirs = shutil.copy(path, folder / "theirs.db")

    apart = shutil.copy(path, folder / "cold.db")

    def cold() -> float:
        with DataManager(apart) as dm:
            dm.get_models()
            return timed(lambda: series.ours(dm))

    with DataManager(path) as warm:
        series.ours(warm)

        def again() -> float:
            warm.add_model_requests("model 7", [[series.START + 5, 5, 6, 7, 8]] * 10)
            return timed(lambda: series.ours(warm))

        peers = {
            name: lambda peer=peer: timed(lambda: peer(theirs))
            for name, peer in series.PEERS.items()
        }
        seen = interleave(rounds, {"cold": cold, "again": again, **peers})
    fastest = min((seen[name] for name in peers), key=lambda values: sorted(values)[rounds // 2])
    return [
        *(plain(f"series of {count:,}: {name}", values, "s") for name, values in seen.items()),
        ratio("series, fastest peer's time by ours", fastest, seen["cold"], 1.0),
        ratio("series again, fastest peer's time by ours", fastest, seen["again"], 20.0),
    ]


def _last_hour(rounds: int, folder: Path, count: int) -> list[Result]:
    path = str(folder / "hour.db")
    rows = columns(count)
    end = float(rows["timestamp"][-1]) + 1
    with DataManager(path) as dm:
        dm.add_model_requests(MODEL, rows)
        dm.set_pricing(MODEL, tiers=TIERS, use_tier_pricing=True)
        dm.usage(MODEL, start=end - HOUR_S, end=end)
        values = [
            timed(lambda: dm.usage(MODEL, start=end - HOUR_S, end=end)) * 1000
            for _ in range(max(rounds, 5))
        ]
    name = f"the last hour of {count:,}, asked again"
    return [plain(name, values, "ms", goal=1.0, at_least=False)]


def measure(rounds: int, quick: bool) -> list[Result]:
    count = 100_000 if quick else 1_000_000
    results: list[Result] = []
    for part, rows in ((_totals, count), (_series, count), (_last_hour, 10 * count)):
        with scratch() as folder:
            results += part(rounds, folder, rows)
    return results


if __name__ == "__main__":
    import run

    sys.exit(run.main(["--only", "usage", *sys.argv[1:]]))
