"""The other ways to write a request, each at its best or as it was."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

INSERT = "INSERT INTO {}(timestamp,input_tokens,output_tokens,cache_n,prompt_n) VALUES(?,?,?,?,?)"


def stdlib_rows(path: str, table: str, durability: str, count: int) -> float:
    """WAL, one connection, the statement cached by the module, a commit for each row."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA synchronous={durability}")
    sql = INSERT.format(table)
    begin = time.perf_counter()
    for i in range(count):
        db.execute(sql, (i, 2, 3, 4, 5))
    seconds = time.perf_counter() - begin
    db.close()
    return seconds


def apsw_rows(path: str, table: str, durability: str, count: int) -> float:
    import apsw

    db = apsw.Connection(path)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA synchronous={durability}")
    sql = INSERT.format(table)
    begin = time.perf_counter()
    for i in range(count):
        db.execute(sql, (i, 2, 3, 4, 5))
    seconds = time.perf_counter() - begin
    db.close()
    return seconds


def older_rows(path: str, table: str, durability: str, count: int) -> float:
    """The older design: a rollback journal, and for each call the name looked up and a
    transaction of its own."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode=DELETE")
    sql = INSERT.format(table)
    lookup = "SELECT safe_name FROM model_name_mapping WHERE original_name = ?"
    begin = time.perf_counter()
    for i in range(count):
        cursor = db.cursor()
        cursor.execute(lookup, ("bench",)).fetchone()
        cursor.execute(sql, (i, 2, 3, 4, 5))
        db.commit()
    seconds = time.perf_counter() - begin
    db.close()
    return seconds


Peer = Callable[[str, str, str, int], float]
ROWS: dict[str, Peer] = {"stdlib": stdlib_rows, "apsw": apsw_rows, "older": older_rows}
