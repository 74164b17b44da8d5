"""Files and rows that every benchmark works on: the same at every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datamanager import DataManager

FIELDS = ("timestamp", "input_tokens", "output_tokens", "cache_n", "prompt_n")
MODEL = "bench"


def columns(count: int) -> dict[str, Any]:
    random = np.random.default_rng(1)
    hits, computed = random.integers(0, 20_000, (2, count))
    return {
        "timestamp": 1.7e9 + np.arange(count) * 1.3,
        "input_tokens": hits + computed,
        "output_tokens": random.integers(0, 2_000, count),
        "cache_n": hits,
        "prompt_n": computed,
    }


def rows(count: int) -> list[list[Any]]:
    return [list(row) for row in zip(*(c.tolist() for c in columns(count).values()), strict=True)]


def fresh(folder: Path) -> tuple[str, str]:
    """A new file of ours with one empty model: its path, and its table of requests."""
    path = str(folder / "bench.db")
    for suffix in ("", "-wal", "-shm"):
        Path(path + suffix).unlink(missing_ok=True)
    with DataManager(path, models=[MODEL]) as dm:
        return path, f"{dm.get_safe_model_name(MODEL)}_requests"


def filled(folder: Path, count: int) -> tuple[str, str]:
    path, table = fresh(folder)
    with DataManager(path) as dm:
        dm.add_model_requests(MODEL, columns(count))
    return path, table
