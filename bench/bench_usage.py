"""Questions over many requests: totals with cost, a series by day and model, the last hour; and
what they cost those who write."""

from __future__ import annotations

import math
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import series
import totals
from common import Result, interleave, limit, plain, ratio, scratch
from data import MODEL, columns, filled
from series import TIERS

from datamanager import DataManager

EVER = {"start": 0, "end": 4e9}
HOUR_S = 3600
GOAL = 1.1 if os.cpu_count() == 1 else 0.65  # both cores read one table


def timed(question: Callable[[], object]) -> float:
    begin = time.perf_counter()
    question()
    return time.perf_counter() - begin


def quickest(seen: dict[str, list[float]], names: Iterable[str]) -> list[float]:
    return min((seen[name] for name in names), key=statistics.median)


def _totals(rounds: int, folder: Path, count: int) -> list[Result]:
    path, table = filled(folder, count)
    with DataManager(path) as dm:
        dm.set_pricing(MODEL, tiers=TIERS, use_tier_pricing=True)

    apart = shutil.copy(path, folder / "cold.db")  # handles on one file share what they have read
    # Some of the peers bring an SQLite of their own, which must not share a file with ours.
    theirs = shutil.copy(path, folder / "theirs.db")

    def cold() -> float:
        with DataManager(apart) as dm:
            dm.get_model_billing(MODEL)  # the file is open
            return timed(lambda: dm.usage(MODEL, **EVER))

    with DataManager(path) as warm:
        wanted = warm.usage(MODEL, **EVER)[0].cost

        def again() -> float:
            warm.add_model_requests(MODEL, [[1.7e9, 5, 6, 7, 8]] * 10)
            return timed(lambda: warm.usage(MODEL, **EVER))

        def asked(peer: Callable[[str], float]) -> float:
            begin = time.perf_counter()
            cost = peer(theirs)
            seconds = time.perf_counter() - begin
            assert math.isclose(cost, wanted, rel_tol=1e-9), (cost, wanted)  # they add floats
            return seconds

        peers = {name: partial(asked, peer) for name, peer in totals.PEERS.items()}
        runs = {"limit": lambda: limit("sums", path, table), "cold": cold, "again": again}
        seen = interleave(rounds, {**runs, **peers})
    again_ms = [seconds * 1000 for seconds in seen["again"]]
    fastest = quickest(seen, peers)
    return [
        *(plain(f"totals of {count:,}: {name}", values, "s") for name, values in seen.items()),
        ratio("totals, of limit's time without cost", seen["cold"], seen["limit"], GOAL, False),
        ratio("totals, fastest peer's time by ours", fastest, seen["cold"], 1.0),
        plain("totals again after ten rows", again_ms, "ms", goal=5.0, at_least=False),
    ]


def _series(rounds: int, folder: Path, count: int) -> list[Result]:
    path = series.filled(folder, count)
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
    fastest = quickest(seen, peers)
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
        last = {name: values[rows["timestamp"] >= end - HOUR_S] for name, values in rows.items()}
        dm.add_model_requests("alone", last)

        def ask(model: str) -> float:
            return timed(lambda: dm.usage(model, start=end - HOUR_S, end=end)) * 1000

        first = ask(MODEL)
        seen = interleave(max(rounds, 5), {name: partial(ask, name) for name in (MODEL, "alone")})
    more = [a - b for a, b in zip(seen[MODEL], seen["alone"], strict=True)]
    return [
        Result(f"the last hour of {count:,}, asked first", first, "ms"),
        plain(f"the last hour of {count:,}, asked again", seen[MODEL], "ms"),
        plain("the last hour, more than its own rows take", more, "ms", goal=1.0, at_least=False),
    ]


def _writes(folder: Path, count: int, turns: int) -> list[Result]:
    """Calls of one thread, where nobody asks and where prices are set and all is kept in memory:
    in short turns, so that what else the machine does hits both alike."""
    paths = {name: filled(folder / name, count)[0] for name in ("never asked", "asked")}

    def write(dm: DataManager) -> None:
        for _ in range(count // 100):
            dm.add_model_request(MODEL, [1.7e9, 5, 6, 7, 8])

    with (
        DataManager(paths["never asked"], durability="normal", cache_bytes=0) as never,
        DataManager(paths["asked"], durability="normal") as asked,
    ):
        asked.set_pricing(MODEL, tiers=TIERS, use_tier_pricing=True)

        def after_a_question() -> float:
            asked.usage(MODEL)
            return timed(partial(write, asked))

        plainly = partial(timed, partial(write, never))
        seen = interleave(turns, {"never asked": plainly, "asked": after_a_question})
    name = "writes, time where asked by never asked"
    return [ratio(name, seen["asked"], seen["never asked"], 1.03, False)]


def measure(rounds: int, quick: bool) -> list[Result]:
    count = 100_000 if quick else 1_000_000
    results: list[Result] = []
    for part, rows in ((_totals, count), (_series, count), (_last_hour, 10 * count)):
        with scratch() as folder:
            results += part(rounds, folder, rows)
    with scratch() as folder:
        results += _writes(folder, count // 10, 10 * rounds)
    return results


if __name__ == "__main__":
    import run

    sys.exit(run.main(["--only", "usage", *sys.argv[1:]]))
