"""A long table, which two connections read at once: as if one had read it."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from datamanager import CorruptDataError, DataManager

STRETCH = 1 << 16  # ids that a connection reads before it is the other's turn
TIERS = [[1, 0, 1000, 1.0, 2.0, True, 0.5], [2, 1000, 0, 3.0, 4.0, False, 0.0]]
COUNT = 4 * STRETCH + 777
IDS: dict[str, list[int]] = {
    "one after the other": list(range(1, COUNT)),
    "of which some are gone": [
        i for i in range(1, COUNT) if i % 7 and not STRETCH + 50 < i < 3 * STRETCH - 50
    ],
    "of which the first are gone": list(range(10**15, 10**15 + COUNT)),
    "below zero": list(range(-STRETCH - 5, COUNT)),
    "in the end far apart": [*range(1, 2 * STRETCH + 9), *range(10**9, 10**17, 10**13)],
}


def build(path: str, ids: list[int]) -> None:
    rng = random.Random(8)
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=TIERS, strategy="cumulative")
        safe = dm.get_safe_model_name("m")
    rows = (
        (
            i,
            1e9 + 20 * at + rng.randrange(-50, 50),
            rng.randrange(3000),
            rng.randrange(900),
            at % 99,
        )
        for at, i in enumerate(ids)
    )
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany(f"INSERT INTO {safe}_requests VALUES (?,?,?,?,?,0)", rows)


def answers(dm: DataManager) -> list[Any]:
    return [
        dm.usage("m", by="month", tz="UTC"),
        dm.usage("m", start=1.0004e9, end=1.003e9, strategy="graduated"),
        dm.performance("m"),
    ]


@pytest.mark.parametrize("kind", IDS)
def test_as_one(path: str, kind: str) -> None:
    build(path, IDS[kind])
    with DataManager(path, pool_size=1) as alone:
        wanted = answers(alone)
        rows = list(alone.get_model_requests("m"))
    assert len(rows) == len(IDS[kind]) == wanted[0].total.requests
    for first in ({}, {"cache_bytes": 0}):
        with DataManager(path, **first) as dm:  # type: ignore[arg-type]
            assert answers(dm) == wanted
            assert dm.stats()["connections"] == 2
            assert answers(dm) == wanted  # from memory, where it is kept
    with DataManager(path) as dm:
        assert list(dm.get_model_requests("m")) == rows


@pytest.mark.parametrize("at", [STRETCH - 3, 2 * STRETCH - 3, 3 * STRETCH - 3])
def test_what_breaks_the_rules_is_named(path: str, at: int) -> None:
    build(path, IDS["one after the other"])
    with DataManager(path) as dm:
        table = f"{dm.get_safe_model_name('m')}_requests"
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(f"UPDATE {table} SET input_tokens = 'many' WHERE id = {at}")
        for _ in range(2):
            with pytest.raises(CorruptDataError, match=f"{table} row {at}: input_tokens"):
                dm.usage("m")
