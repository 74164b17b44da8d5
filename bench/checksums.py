"""What checksums and ids of requests cost: ``python bench/checksums.py [ROWS]``.

The same requests without, with checksums and with ids: one at a time, in bulk, on the disk and in a
check, as ratios to those without: medians of interleaved rounds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common import ratio

from datamanager import DataManager

BEGIN = 1_700_000_000
ROUNDS = 7
ALONE = 5_000
KINDS = {"without": (False, False), "checksums": (True, False), "ids": (False, True)}


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measured(path: Path, checksums: bool, ids: bool, count: int) -> dict[str, float]:
    """Seconds, and bytes, of one kind of database."""
    rows = [[BEGIN + i, 1000 + i % 977, i % 499, i % 7, 900] for i in range(count)]
    names = [f"chatcmpl-{i:025d}" for i in range(count + ALONE)]
    path.unlink(missing_ok=True)
    with DataManager(path, durability="normal", checksums=checksums) as dm:
        bulk = seconds(
            lambda: dm.add_model_requests("m", rows, request_ids=names[:count] if ids else None)
        )
        size = dm.get_storage_stats()["models"]["m"]["bytes"]

        def alone() -> None:
            for i in range(ALONE):
                dm.add_model_request("m", rows[i], request_id=names[count + i] if ids else None)

        return {
            "bulk": bulk,
            "alone": seconds(alone),
            "check": seconds(dm.check),
            "bytes": float(size),
        }


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    found: dict[str, list[dict[str, float]]] = {name: [] for name in KINDS}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for _ in range(ROUNDS):
            for name, kind in KINDS.items():
                found[name].append(measured(Path(folder) / f"{name}.db", *kind, count))
    for name in list(KINDS)[1:]:
        for what in ("alone", "bulk", "check", "bytes"):
            ours, theirs = ([one[what] for one in found[kind]] for kind in (name, "without"))
            result = ratio(f"{name}, {what}", ours, theirs)
            assert result.spread is not None
            low, high = result.spread
            print(f"{result.name:18} {result.value:5.2f} x ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
