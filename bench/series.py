"""Requests, tokens, cost and percentiles by day and model, of a hundred models in one file: ours,
and what others make of the same file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from datamanager import DataManager

MODELS, DAYS, DAY_S = 100, 30, 86400
START = 19676 * DAY_S  # a midnight of UTC
PERCENTILES = (0.5, 0.9, 0.95, 0.99)
BOUND, LOW, HIGH = 8192, (2.0, 8.0, 0.4), (4.0, 16.0, 0.8)  # prices of input, output and hits
TIERS = [
    [number, start, end, price, output, True, hit]
    for number, start, end, (price, output, hit) in ((1, 0, BOUND, LOW), (2, BOUND, 0, HIGH))
]


def filled(folder: Path, count: int) -> str:
    path = str(folder / "series.db")
    random = np.random.default_rng(2)
    each = count // MODELS
    with DataManager(path) as dm:
        for number in range(MODELS):
            hits, computed = random.integers(0, 20_000, (2, each))
            rows = {
                "timestamp": START + np.sort(random.random(each)) * DAYS * DAY_S,
                "input_tokens": hits + computed,
                "output_tokens": random.integers(0, 2_000, each),
                "cache_n": hits,
                "prompt_n": computed,
            }
            dm.add_model_requests(f"model {number}", rows)
            dm.set_pricing(f"model {number}", tiers=TIERS, use_tier_pricing=True)
    return path


def ours(dm: DataManager) -> tuple[int, float]:
    window: dict[str, Any] = {"start": START, "end": START + DAYS * DAY_S, "by": "day", "tz": "UTC"}
    usage, speed = dm.usage(**window), dm.performance(**window)
    assert len(usage) == len(speed) == MODELS * DAYS
    return usage.total.requests, usage.total.cost


def _tables(path: str) -> list[str]:
    db = sqlite3.connect(path)
    names = [row[0] for row in db.execute("SELECT safe_name FROM model_name_mapping")]
    db.close()
    return [f"{name}_requests" for name in names]


def rows_sql(path: str, table: Callable[[str], str]) -> str:
    return " UNION ALL ".join(
        f"SELECT {number} AS model, timestamp, input_tokens, output_tokens, cache_n"
        f" FROM {table(name)}"
        for number, name in enumerate(_tables(path))
    )


def costs(given: Any, produced: Any, hits: Any, least: Callable[[Any, Any], Any]) -> Any:
    """Graduated, two tiers: hits fill the lower one first."""
    low, low_hits, low_out = least(given, BOUND), least(hits, least(given, BOUND)), produced
    high, high_hits = given - low, least(hits - low_hits, given - low)
    cost = (low - low_hits) * LOW[0] + low_hits * LOW[2] + low_out * LOW[1]
    return (cost + (high - high_hits) * HIGH[0] + high_hits * HIGH[2]) / 1e6


def pandas(path: str) -> object:
    import pandas as pd

    db = sqlite3.connect(path)
    rows = pd.read_sql(rows_sql(path, str), db)
    db.close()
    rows["day"] = rows["timestamp"].to_numpy().astype(np.int64) // DAY_S
    rows["cost"] = costs(
        rows["input_tokens"].to_numpy(),
        rows["output_tokens"].to_numpy(),
        rows["cache_n"].to_numpy(),
        np.minimum,
    )
    groups = rows.groupby(["model", "day"])
    sums = groups[["input_tokens", "output_tokens", "cache_n", "cost"]].sum()
    tokens = groups[["input_tokens", "output_tokens"]]
    return sums, tokens.quantile(list(PERCENTILES), interpolation="higher"), tokens.max()


def polars(path: str) -> object:
    import polars as pl

    rows = pl.read_database_uri(rows_sql(path, str), f"sqlite:///{path}", engine="adbc")
    given, produced, hits = (pl.col(n) for n in ("input_tokens", "output_tokens", "cache_n"))
    percentiles = [
        column.quantile(q, "higher").alias(f"{column.meta.output_name()}_{q}")
        for column in (given, produced)
        for q in PERCENTILES
    ]
    return (
        rows.lazy()
        .with_columns(
            (pl.col("timestamp") // DAY_S).alias("day"),
            costs(given, produced, hits, pl.min_horizontal).alias("cost"),
        )
        .group_by("model", "day")
        .agg(
            pl.len(),
            pl.sum("input_tokens", "output_tokens", "cache_n", "cost"),
            pl.max("input_tokens", "output_tokens").name.suffix("_max"),
            *percentiles,
        )
        .collect()
    )


def split_sql(rows: str, least: str) -> str:
    """The same as `costs`, of SQL that calls the smaller of two `least`."""
    return f"""
        WITH rows AS ({rows}), low AS (
            SELECT *, {least}(input_tokens, {BOUND}) AS low,
                {least}(cache_n, {least}(input_tokens, {BOUND})) AS low_hits FROM rows
        ), split AS (
            SELECT *, input_tokens - low AS high,
                {least}(cache_n - low_hits, input_tokens - low) AS high_hits FROM low
        )"""


SUMS_SQL = f"""count(*), sum(input_tokens), sum(output_tokens), sum(cache_n),
            sum((low - low_hits) * {LOW[0]} + low_hits * {LOW[2]} + output_tokens * {LOW[1]}
                + (high - high_hits) * {HIGH[0]} + high_hits * {HIGH[2]}) / 1e6"""


def duckdb_open() -> Any:
    import duckdb as dk
    from duckdb_extensions import import_extension

    import_extension("sqlite_scanner")
    db = dk.connect()
    db.execute("LOAD sqlite_scanner")
    return db


def scanned(path: str) -> Callable[[str], str]:
    return lambda name: f"sqlite_scan('{path}', '{name}')"


def duckdb(path: str) -> object:
    db = duckdb_open()
    shares = list(PERCENTILES)
    found = db.execute(
        f"""
        {split_sql(rows_sql(path, scanned(path)), "least")}
        SELECT model, floor(timestamp / {DAY_S}) AS day, {SUMS_SQL},
            quantile_disc(input_tokens, {shares}), max(input_tokens),
            quantile_disc(output_tokens, {shares}), max(output_tokens)
        FROM split GROUP BY model, day
        """
    ).fetchall()
    assert len(found) == MODELS * DAYS
    return found


def stdlib(path: str) -> object:
    """SQL for sums and cost; it has no percentiles, so they are sorted out in Python."""
    db = sqlite3.connect(path)
    groups: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    cost = 0.0
    for model, time_s, given, produced, hits in db.execute(rows_sql(path, str)):
        inputs, outputs = groups.setdefault((model, int(time_s) // DAY_S), ([], []))
        inputs.append(given)
        outputs.append(produced)
        cost += costs(given, produced, hits, min)
    db.close()
    for inputs, outputs in groups.values():
        inputs.sort()
        outputs.sort()
    return cost, groups


PEERS: dict[str, Callable[[str], object]] = {
    "pandas": pandas,
    "polars": polars,
    "duckdb": duckdb,
    "stdlib": stdlib,
}
