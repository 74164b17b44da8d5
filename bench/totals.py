"""Count, tokens and cost of all requests of a file of one model: what others make of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import numpy as np
from series import SUMS_SQL, costs, duckdb_open, rows_sql, scanned, split_sql

COLUMNS = ("input_tokens", "output_tokens", "cache_n")


def pandas(path: str) -> float:
    import pandas as pd

    db = sqlite3.connect(path)
    rows = pd.read_sql(rows_sql(path, str), db)
    db.close()
    rows["cost"] = costs(*(rows[name].to_numpy() for name in COLUMNS), np.minimum)
    return float(rows.groupby("model")[[*COLUMNS, "cost"]].sum()["cost"].sum())


def polars(path: str) -> float:
    import polars as pl

    rows = pl.read_database_uri(rows_sql(path, str), f"sqlite:///{path}", engine="adbc")
    cost = costs(*map(pl.col, COLUMNS), pl.min_horizontal).alias("cost")
    found = rows.lazy().with_columns(cost).select(pl.len(), pl.sum(*COLUMNS, "cost")).collect()
    return float(found["cost"][0])


def duckdb(path: str) -> float:
    rows = split_sql(rows_sql(path, scanned(path)), "least")
    return float(duckdb_open().execute(f"{rows} SELECT {SUMS_SQL} FROM split").fetchone()[-1])


def stdlib(path: str) -> float:
    db = sqlite3.connect(path)
    rows = split_sql(rows_sql(path, str), "min")
    found = db.execute(f"{rows} SELECT {SUMS_SQL} FROM split").fetchone()
    db.close()
    return float(found[-1])


PEERS: dict[str, Callable[[str], float]] = {
    "pandas": pandas,
    "polars": polars,
    "duckdb": duckdb,
    "stdlib": stdlib,
}
