"""check(): every kind of fault is found and named, and only what loses nothing is mended."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from interrupting import once_locked
from test_backup import ROW, writers

import datamanager
from datamanager import DataManager, Finding

NAME = "Qwen3-Coder-30B"
TIERS = [[1, 0, 1000, 1.0, 2.0, False, 0.0], [2, 1000, 0, 3.0, 4.0, True, 0.5]]


def safe(name: str) -> str:
    with DataManager(":memory:") as dm:
        return dm.get_safe_model_name(name)


SAFE = safe(NAME)


def build(path: str) -> None:
    with DataManager(path, models=["other"]) as dm:
        dm.add_program_runtime_start(5.0)
        dm.add_model_runtime_start(NAME, 6.0)
        dm.add_model_requests(NAME, [ROW] * 500)
        dm.add_model_request(NAME, ROW, duration=3.0, first_token=0.5, request_id="first")
        dm.set_pricing(NAME, tiers=TIERS, hourly_price=0.5, use_tier_pricing=False)


def alter(path: str, *statements: str) -> None:
    """As another program would: with no regard for our rules, nor for SQLite's."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        for statement in statements:
            connection.execute(statement.replace("{safe}", SAFE))


def brief(findings: Iterable[Finding]) -> list[tuple[str, str | None, int | None]]:
    return [
        (found.severity, found.table and found.table.replace(SAFE, "{safe}"), found.row)
        for found in findings
        if not found.repaired
    ]


@pytest.mark.parametrize("quick", [True, False])
def test_nothing_is_wrong(path: str, quick: bool) -> None:
    build(path)
    with DataManager(path) as dm, DataManager(path, read_only=True) as reader:
        assert dm.check(quick) == reader.check(quick=quick) == dm.check(quick, repair=True) == []
    with DataManager(":memory:") as memory:
        memory.add_model_request("m", ROW)
        memory.set_pricing("m", tiers=TIERS)
        assert memory.check(quick, repair=True) == []
        assert memory.add_model_request("m", ROW) == 2


REQUESTS, RUNS, BILLING = "{safe}_requests", "{safe}_runtime", "{safe}_billing"
TIMINGS = "{safe}_timings"
IDS = "{safe}_request_ids"
TIER_TABLE, CHANGES = "{safe}_tier_pricing", "datamanager_price_changes"


def redeclare(table: str, what: str, instead: str) -> str:
    replaced = f"replace(sql, '{what}', '{instead}')"
    return f"UPDATE sqlite_schema SET sql={replaced} WHERE name='{table}'"


# what another program does; what is found by the whole check; is it found by the quick one?
FAULTS: dict[str, tuple[str, tuple[str, str | None, int | None], str, bool]] = {
    "negative tokens": (
        f"UPDATE {REQUESTS} SET input_tokens=-3 WHERE id=7",
        ("error", REQUESTS, 7),
        "input_tokens must be from 0 to 9007199254740992, not -3",
        False,
    ),
    "too many tokens": (
        f"UPDATE {REQUESTS} SET prompt_n=9007199254740993 WHERE id=8",
        ("error", REQUESTS, 8),
        "prompt_n must be from 0",
        False,
    ),
    "text": (
        f"UPDATE {REQUESTS} SET output_tokens='many' WHERE id=9",
        ("error", REQUESTS, 9),
        "output_tokens must be a whole number, not many",
        False,
    ),
    "part of a token": (
        f"UPDATE {REQUESTS} SET cache_n=0.5 WHERE id=10",
        ("error", REQUESTS, 10),
        "cache_n must be a whole number, not 0.5",
        False,
    ),
    "infinite time": (
        f"UPDATE {REQUESTS} SET timestamp=9e999 WHERE id=11",
        ("error", REQUESTS, 11),
        "timestamp must be a finite number",
        False,
    ),
    "milliseconds": (
        f"UPDATE {REQUESTS} SET timestamp=1760000000333 WHERE id=12",
        ("warning", REQUESTS, 12),
        "timestamp 1760000000333 is not before the year 10000: it may be milliseconds",
        False,
    ),
    "run in milliseconds": (
        f"UPDATE {RUNS} SET end_time=1760000000333 WHERE id=1",
        ("warning", RUNS, 1),
        "end_time 1760000000333 is not before the year 10000",
        False,
    ),
    "time of bytes": (
        f"UPDATE {RUNS} SET start_time=x'00ff' WHERE id=1",
        ("error", RUNS, 1),
        "start_time must be a finite number",
        False,
    ),
    "negative duration": (
        f"UPDATE {TIMINGS} SET duration=-1",
        ("error", TIMINGS, 501),
        "duration must be a finite number of seconds",
        False,
    ),
    "timing of no request": (
        f"UPDATE {TIMINGS} SET request_id=502",
        ("warning", TIMINGS, 502),
        "the request that was timed is missing",
        False,
    ),
    "timings with another column": (
        f"ALTER TABLE {TIMINGS} RENAME COLUMN request_id TO another",
        ("error", TIMINGS, None),
        "there is no column request_id",
        True,
    ),
    "end before start": (
        f"UPDATE {RUNS} SET end_time=1 WHERE id=1",
        ("error", RUNS, 1),
        "end_time 1.000000 is before start_time 6.000000",
        False,
    ),
    "program's run": (
        "UPDATE program_runtime SET end_time=1",
        ("error", "program_runtime", 1),
        "before start_time",
        False,
    ),
    "negative price": (
        f"UPDATE {BILLING} SET hourly_price=-1",
        ("error", TIER_TABLE, None),
        "hourly_price must be a finite price",
        True,
    ),
    "price by the hour beyond all": (
        f"UPDATE {BILLING} SET hourly_price=1e27",
        ("error", BILLING, None),
        "hourly_price must be a price from 0 to 1e26, not 1e",
        True,
    ),
    "price of a tier beyond all": (
        f"UPDATE {TIER_TABLE} SET input_price_per_million=1e27 WHERE tier_index=1",
        ("error", TIER_TABLE, 1),
        "input_price_per_million must be a price from 0 to 1e26, not 1e",
        True,
    ),
    "price of the history beyond all": (
        f"UPDATE {CHANGES} SET hourly_price=1e27",
        ("error", CHANGES, 1),
        "hourly_price must be a price from 0 to 1e26, not 1e",
        True,
    ),
    "two billing rows": (
        f"INSERT INTO {BILLING} VALUES(1, 7.0)",
        ("warning", BILLING, None),
        "there are 2 rows: the first counts",
        True,
    ),
    "overlapping tiers": (
        f"UPDATE {TIER_TABLE} SET start_tokens=500 WHERE tier_index=2",
        ("error", TIER_TABLE, 2),
        "would overlap tier 1",
        True,
    ),
    "gap before the tiers": (
        f"UPDATE {TIER_TABLE} SET start_tokens=10 WHERE tier_index=1",
        ("warning", TIER_TABLE, None),
        "no tier covers the tokens from 1 to 10",
        True,
    ),
    "gap between tiers": (
        f"UPDATE {TIER_TABLE} SET end_tokens=900 WHERE tier_index=1",
        ("warning", TIER_TABLE, None),
        "no tier covers the tokens from 901 to 1000",
        True,
    ),
    "end of a tier": (
        f"UPDATE {TIER_TABLE} SET end_tokens=900 WHERE tier_index=2",
        ("error", TIER_TABLE, 2),
        "end_tokens must be above start_tokens 1000",
        True,
    ),
    "unknown strategy": (
        f"UPDATE {CHANGES} SET strategy='guess'",
        ("error", CHANGES, None),
        "there is no strategy guess",
        True,
    ),
    "tiers of the history": (
        "UPDATE datamanager_price_tiers SET start_tokens=1 WHERE tier_index=2",
        ("error", "datamanager_price_tiers", 1),
        "would overlap",
        True,
    ),
    "tiers of no change": (
        "INSERT INTO datamanager_price_tiers VALUES('{safe}', 9, 1, 0, 0, 1, 1, 0, 0)",
        ("warning", "datamanager_price_tiers", 9),
        "the change that they belong to is missing",
        True,
    ),
    "prices of no model": (
        f"UPDATE {CHANGES} SET safe_name='gone'",
        ("warning", CHANGES, 1),
        "gone has prices, but is no model",
        True,
    ),
    "safe name": (
        "UPDATE model_name_mapping SET safe_name='a; b' WHERE original_name='other'",
        ("error", "model_name_mapping", 1),
        "safe_name must be at most 22 letters, digits and _, not a; b",
        True,
    ),
    "empty name": (
        "UPDATE model_name_mapping SET original_name='' WHERE original_name='other'",
        ("error", "model_name_mapping", 1),
        "model_name must not be empty",
        True,
    ),
    "name in no encoding": (
        "UPDATE model_name_mapping SET original_name=CAST(x'ff41' AS TEXT) WHERE id=1",
        ("error", "model_name_mapping", 1),
        "model_name must be valid UTF-8",
        True,
    ),
    "trigger": (
        f"CREATE TRIGGER planted AFTER INSERT ON {REQUESTS} BEGIN DELETE FROM {REQUESTS}; END",
        ("warning", REQUESTS, None),
        "there is a trigger planted, which is not ours",
        True,
    ),
    "view": ("CREATE VIEW v AS SELECT 1", ("warning", "v", None), "there is a view v", True),
    "table of no model": (
        "CREATE TABLE model_0_requests(prompt_n)",
        ("warning", "model_0_requests", None),
        "belongs to no model",
        True,
    ),
    "lost column": (
        f"ALTER TABLE {REQUESTS} RENAME prompt_n TO prompted",
        ("error", REQUESTS, None),
        "there is no column prompt_n",
        True,
    ),
    "type of a column": (
        f"UPDATE sqlite_schema SET sql=replace(sql, 'timestamp REAL', 'timestamp TEXT')"
        f" WHERE name='{REQUESTS}'",
        ("warning", REQUESTS, None),
        "column timestamp is declared as TEXT, not as REAL",
        True,
    ),
    "numbers that come again": (
        redeclare(REQUESTS, " AUTOINCREMENT", ""),
        ("error", REQUESTS, None),
        "column id must be AUTOINCREMENT",
        True,
    ),
    "numbers of runs": (
        redeclare(RUNS, "id INTEGER PRIMARY KEY AUTOINCREMENT", "id INTEGER"),
        ("error", RUNS, None),
        "column id must be the primary key",
        True,
    ),
    "nothing in a column": (
        redeclare(REQUESTS, "cache_n INTEGER NOT NULL", "cache_n INTEGER"),
        ("warning", REQUESTS, None),
        "column cache_n must be NOT NULL",
        True,
    ),
    "a rule": (
        redeclare(
            REQUESTS, "prompt_n INTEGER NOT NULL", "prompt_n INTEGER NOT NULL CHECK (prompt_n < 9)"
        ),
        ("warning", REQUESTS, None),
        "the table is not declared as ours: check ( prompt_n < 9",
        True,
    ),
    "a default that is computed": (
        redeclare(REQUESTS, "cache_n INTEGER NOT NULL", "cache_n INTEGER NOT NULL DEFAULT (1)"),
        ("warning", REQUESTS, None),
        "not declared as ours: default ( 1",
        True,
    ),
    "timings of another type": (
        redeclare(TIMINGS, "duration REAL", "duration TEXT"),
        ("warning", TIMINGS, None),
        "column duration is declared as TEXT, not as REAL",
        True,
    ),
    "another column": (
        f"ALTER TABLE {REQUESTS} ADD COLUMN more TEXT NOT NULL DEFAULT 'x'",
        ("warning", REQUESTS, None),
        "there is a column more, which is not ours",
        True,
    ),
    "another column of a side table": (
        f"ALTER TABLE {CHANGES} ADD COLUMN more",
        ("warning", CHANGES, None),
        "there is a column more, which is not ours",
        True,
    ),
    "lost column of a side table": (
        f"ALTER TABLE {CHANGES} RENAME strategy TO strategies",
        ("error", CHANGES, None),
        "there is no column strategy",
        True,
    ),
    "lost column of the ids": (
        f"ALTER TABLE {IDS} RENAME row_id TO another",
        ("error", IDS, None),
        "there is no column row_id",
        True,
    ),
    "lost column of the store": (
        "ALTER TABLE datamanager_store RENAME value TO values_",
        ("error", "datamanager_store", None),
        "there is no column value",
        True,
    ),
    "lost column of the eras": (
        "ALTER TABLE datamanager_eras RENAME last_row TO last",
        ("error", "datamanager_eras", None),
        "there is no column last_row",
        True,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(path: str, fault: str) -> None:
    """Found by name and row, by the quick check too where that promises it, and not mended."""
    statement, wanted, text, quickly = FAULTS[fault]
    build(path)
    alter(path, statement)
    with DataManager(path) as dm:
        found = [finding for finding in dm.check() if brief([finding]) == [wanted]]
        assert any(text in finding.text for finding in found), dm.check()
        assert (wanted in brief(dm.check(quick=True))) == quickly
        assert dm.check(repair=True) == dm.check()
        assert wanted in brief(dm.check())


def test_other_programs_tables_are_no_fault(path: str) -> None:
    build(path)
    alter(path, "CREATE TABLE http_requests(x)", "CREATE INDEX i ON {safe}_requests(timestamp)")
    with DataManager(path) as dm:
        assert dm.check() == []


def test_many_bad_rows_are_not_all_listed(path: str) -> None:
    build(path)
    alter(path, "UPDATE {safe}_requests SET input_tokens=-1")
    with DataManager(path) as dm:
        assert [finding.row for finding in dm.check()] == list(range(1, 101))


def test_a_table_of_two_models(path: str) -> None:
    """Names of tables are the same in any case."""
    build(path)
    alter(path, f"INSERT INTO model_name_mapping VALUES(9, 'twin', '{SAFE.upper()}', 0)")
    with DataManager(path) as dm:
        for quick in (False, True):
            (found,) = dm.check(quick)
            assert brief([found]) == [("error", "model_name_mapping", 9)]
            assert found.text == (
                "the safe_name is that of row 2, too: what is in its tables counts twice"
            )


def name_twice(path: str) -> None:
    """Its index was switched off while the other row came."""
    name = "sqlite_autoindex_model_name_mapping_1"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        query = "SELECT type, name, tbl_name, rootpage FROM sqlite_schema WHERE name=?"
        index = connection.execute(query, [name]).fetchone()
        query = "SELECT sql FROM sqlite_schema WHERE name='model_name_mapping'"
        (sql,) = connection.execute(query).fetchone()
    second, mapping = name[:-1] + "2", "model_name_mapping"
    alter(
        path,
        f"DELETE FROM sqlite_schema WHERE name='{name}'",
        f"UPDATE sqlite_schema SET name='{name}' WHERE name='{second}'",
        redeclare(mapping, "original_name TEXT UNIQUE", "original_name TEXT"),
    )
    alter(path, f"UPDATE {mapping} SET original_name='{NAME}' WHERE original_name='other'")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET name=? WHERE name=?", [second, name])
        connection.execute("UPDATE sqlite_schema SET sql=? WHERE name=?", [sql, mapping])
        rest = "(type, name, tbl_name, rootpage) VALUES(?, ?, ?, ?)"
        connection.execute(f"INSERT INTO sqlite_schema{rest}", index)


def test_a_name_that_is_there_twice(path: str) -> None:
    build(path)
    name_twice(path)
    with DataManager(path) as dm:
        assert ("error", "model_name_mapping", 2) in brief(dm.check(quick=True))
        texts = {finding.text for finding in dm.check()}
        assert "the original_name is that of row 1, too: only one of them is used" in texts


def test_all_that_is_found_has_an_end(path: str) -> None:
    build_pruned(path)
    numbers = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{}) "
    sums = "safe_name,start_time,end_time,runs,seconds"
    alter(
        path,
        numbers.format(3000)
        + f"INSERT INTO datamanager_uptime_sums({sums}) SELECT 'gone',1,0,1,1 FROM n",
        numbers.format(3000) + f"INSERT INTO {CHANGES} SELECT 'gone',i,NULL,1,1,1,NULL,0 FROM n",
        numbers.format(3000)
        + "INSERT INTO datamanager_price_tiers SELECT 'away',i,1,0,0,1,1,0,0 FROM n",
        numbers.format(20000)
        + "INSERT INTO model_name_mapping(original_name,safe_name) SELECT 'n'||i,'a;'||i FROM n",
    )
    with DataManager(path) as dm:
        found = brief(dm.check())
        tables = [(f[0], f[1]) for f in found]
        assert {key: tables.count(key) for key in set(tables)} == {
            ("warning", "datamanager_uptime_sums"): 100,
            ("error", "datamanager_uptime_sums"): 100,
            ("warning", CHANGES): 100,
            ("warning", "datamanager_price_tiers"): 100,
            ("error", "model_name_mapping"): 100,
        }
    alter(
        path,
        numbers.format(10100)
        + "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)"
        + " SELECT 'view','v'||i,'v'||i,0,'CREATE VIEW v'||i||' AS SELECT 1' FROM n",
    )
    with DataManager(path) as dm:
        found = dm.check()
        warnings = [finding for finding in found if finding.severity == "warning"]
        assert len(warnings) == 10_000 and len(found) == 10_200
        assert brief(warnings[-1:]) == [("warning", None, None)]
        assert warnings[-1].text == "and more, which are not listed"


def damage(path: str, change: Callable[[bytearray], None]) -> None:
    content = bytearray(Path(path).read_bytes())
    change(content)
    Path(path).write_bytes(content)


def root_page(path: str, name: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE name=?"
        return int(connection.execute(query, [name.replace("{safe}", SAFE)]).fetchone()[0])


def test_damaged_page(path: str) -> None:
    """The rest is checked all the same."""
    build(path)
    alter(path, "UPDATE {safe}_runtime SET end_time=1")
    page = root_page(path, REQUESTS)
    damage(
        path, lambda file: file.__setitem__(slice(page * 4096 - 4096, page * 4096), b"\xff" * 4096)
    )
    with DataManager(path) as dm:
        for findings in (dm.check(), dm.check(repair=True)):
            assert {finding.table for finding in findings} == {
                None,
                f"{SAFE}_requests",
                f"{SAFE}_runtime",
                f"{SAFE}_timings",  # each of which is looked for among the requests
                f"{SAFE}_request_ids",  # or before the next of them
            }
            assert not any(finding.repaired for finding in findings)
        assert {finding.table for finding in dm.check(quick=True)} == {None}


def test_damaged_index_is_built_anew(path: str) -> None:
    build(path)
    forget_an_entry(path)
    index = "sqlite_autoindex_model_name_mapping_1"
    with DataManager(path) as dm:
        assert dm.check()
        done = dm.check(repair=True)
        assert [(f.repaired, f.table, f.text) for f in done] == [
            (True, None, f"the index {index} was damaged: built anew")
        ]
        assert dm.check() == []
        assert sorted(dm.get_models()) == [NAME, "other"]
        assert len(dm.get_model_requests(NAME)) == 501


def test_what_cannot_be_read_of_an_index(path: str) -> None:
    """SQLite commits no transaction in which it has met that; a table is made again beside it."""
    build(path)
    index = "sqlite_autoindex_model_name_mapping_1"
    page = root_page(path, index)
    alter(path, "DROP TABLE {safe}_runtime")

    def spoil(file: bytearray) -> None:
        at = file.index(b"\x03\x17\x09other", (page - 1) * 4096)
        assert at < page * 4096
        file[at + 2] = 10  # no type that a row's id could have

    damage(path, spoil)
    with DataManager(path) as dm:
        assert [(f.repaired, f.table, f.text) for f in dm.check(repair=True)] == [
            (True, None, f"the index {index} was damaged: built anew"),
            (True, f"{SAFE}_runtime", "the table was missing: made again"),
        ]
        assert dm.check() == []


def forget_an_entry(path: str, index: str = "sqlite_autoindex_model_name_mapping_1") -> None:
    """In an index of the names, which holds both."""
    page = root_page(path, index)

    def forget(file: bytearray) -> None:
        at = (page - 1) * 4096
        assert file[at] == 10 and file[at + 4] == 2  # a leaf
        file[at + 4] = 1

    damage(path, forget)


@pytest.mark.parametrize(
    ("table", "row", "index"),
    [
        (IDS, "request_id='first'", f"sqlite_autoindex_{SAFE}_request_ids_1"),
        ("model_name_mapping", "original_name='other'", "sqlite_autoindex_model_name_mapping_1"),
    ],
)
def test_what_only_an_index_still_holds_is_left(
    path: str, table: str, row: str, index: str
) -> None:
    """The table's page is one that never had the row: a write that was lost."""
    build(path)
    with DataManager(path) as dm:
        dm.add_model_request(NAME, ROW, request_id="second")
    before, page = bytearray(Path(path).read_bytes()), root_page(path, table)
    alter(path, "PRAGMA journal_mode=DELETE", f"DELETE FROM {table} WHERE {row}")
    part = slice(page * 4096 - 4096, page * 4096)
    before[part] = Path(path).read_bytes()[part]
    Path(path).write_bytes(before)
    with DataManager(path) as dm:
        done = dm.check(repair=True)
        assert not any(f.repaired for f in done)
        (why,) = [f for f in done if "not built anew" in f.text and f"index {index} " in f.text]
        assert (why.severity, why.table) == ("error", table.replace("{safe}", SAFE))
        assert why.text.startswith(f"the index {index} has 1 entry whose row is missing")
        assert dm.add_model_request(NAME, ROW, request_id="first") == 501
        assert dm.check(repair=True) == done


# what only the program that made it can read; its name in the finding; is it found by the quick
# check; do a backup and a restore of it ask for it? Who only reads needs no rules.
FOREIGN = {
    "index by a collation": ("CREATE INDEX i ON {0}({1} COLLATE mine)", "mine", True, 2),
    "index by a function": ("CREATE INDEX i ON {0}(app({1}))", "app()", False, 1),
    "rule with a function": ("ALTER TABLE {0} ADD COLUMN x CHECK (app(x))", "app()", True, 0),
}


def build_foreign(path: str, fault: str, table: str, column: str) -> None:
    build(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_collation("mine", lambda a, b: (a > b) - (a < b))
        connection.create_function("app", 1, lambda value: value, deterministic=True)
        connection.execute("CREATE TABLE log(text)")
        connection.execute("INSERT INTO log VALUES('a')")
        connection.execute(FOREIGN[fault][0].format(table.replace("{safe}", SAFE), column))


@pytest.mark.parametrize("fault", FOREIGN)
def test_what_another_program_needs_is_no_damage(path: str, tmp_path: Path, fault: str) -> None:
    """There is a backup all the same, and a restore of it; damage of ours does not hide behind."""
    build_foreign(path, fault, "log", "text")
    copy, back = tmp_path / "copy.db", tmp_path / "back.db"
    _, word, quickly, _ = FOREIGN[fault]
    with DataManager(path) as dm:
        for quick in (False, True):
            found = [] if quick and not quickly else [("warning", "log", None)]
            assert brief(dm.check(quick)) == found
            assert all(word in finding.text for finding in dm.check(quick))
        dm.backup(copy)
    datamanager.restore(copy, back)
    with DataManager(back) as dm:
        assert len(dm.get_model_requests(NAME)) == 501
    forget_an_entry(path)
    with DataManager(path) as dm:
        assert {f.table for f in dm.check()} == {"log", "model_name_mapping"}
    with pytest.raises(datamanager.DamagedDatabaseError, match="the file is damaged"):
        datamanager.restore(path, tmp_path / "worse.db")


@pytest.mark.parametrize("fault", FOREIGN)
def test_what_another_program_needs_of_our_tables(path: str, tmp_path: Path, fault: str) -> None:
    build_foreign(path, fault, REQUESTS, "timestamp")
    with DataManager(path) as dm:
        found = [f for f in dm.check() if "cannot be checked" in f.text]
        assert brief(found) == [("error", REQUESTS, None)]
        if FOREIGN[fault][3] > 1:
            with pytest.raises(datamanager.CorruptDataError, match="_requests cannot be checked"):
                dm.backup(tmp_path / "copy.db")
    if FOREIGN[fault][3] > 0:
        with pytest.raises(datamanager.CorruptDataError, match="_requests cannot be checked"):
            datamanager.restore(path, tmp_path / "copy.db")


def test_an_index_that_cannot_be_built_anew(path: str) -> None:
    """Is told, and keeps nothing else from being mended."""
    build(path)
    name_twice(path)
    alter(path, "DROP TABLE {safe}_runtime")
    with DataManager(path) as dm:
        done = dm.check(repair=True)
        assert [f.table for f in done if f.repaired] == [f"{SAFE}_runtime"]
        (why,) = [f for f in done if "cannot be built anew" in f.text]
        assert why.severity == "error" and why.text.startswith(
            "the index sqlite_autoindex_model_name_mapping_1 cannot be built anew: "
        )
        assert dm.check() == [f for f in done if not f.repaired and f != why]


@pytest.mark.parametrize(
    "indexed",
    [
        "model_name_mapping(original_name)",
        "model_name_mapping(original_name) WHERE id>0",
        "datamanager_price_tiers(tier_index)",  # which has no row ids
    ],
)
def test_any_damaged_index_is_built_anew(path: str, indexed: str) -> None:
    build(path)
    alter(path, f"CREATE INDEX mine ON {indexed}")
    forget_an_entry(path, "mine")
    with DataManager(path) as dm:
        assert dm.check()
        done = dm.check(repair=True)
        assert [(f.repaired, f.text) for f in done] == [
            (True, "the index mine was damaged: built anew")
        ]
        assert dm.check() == []


@pytest.mark.parametrize("table", [REQUESTS, RUNS, BILLING, TIER_TABLE])
def test_missing_table_is_made_again(path: str, table: str) -> None:
    build(path)
    with DataManager(path) as dm:
        billing = dm.get_model_billing(NAME)
        alter(path, f"DROP TABLE {table}", "DROP TABLE {safe}_timings")
        assert brief(dm.check()) == [("error", table, None)]
        done = dm.check(repair=True)
        assert [(f.repaired, f.table, f.text) for f in done] == [
            (True, table.replace("{safe}", SAFE), "the table was missing: made again")
        ]
        assert dm.check() == []
        assert dm.get_model_billing(NAME) == billing  # its prices come from the history
        assert len(dm.get_price_history(NAME)) == 1
        assert dm.get_model_billing("other").tier_pricing == []
        assert len(dm.get_model_requests(NAME)) == (0 if table == REQUESTS else 501)
        assert dm.add_model_request(NAME, ROW)


def lose_requests(path: str) -> list[object]:
    """With sums, ids, a timing and checksums beside it. Returns what is to be paid for the sums."""
    with DataManager(path, checksums=True) as dm:
        dm.set_pricing(NAME, tiers=TIERS)
        for at in range(50):
            dm.add_model_request(
                NAME, [1000.0 + at, *ROW[1:]], request_id=f"id{at}" if at else None
            )
        dm.add_model_request(NAME, [90_000.0, *ROW[1:]], duration=2.0, request_id="new")
        dm.export(Path(path).with_suffix(".csv"))
        dm.prune(80_000.0, tz="UTC")
        usage = dm.usage(NAME, end=80_000.0, tz="UTC", start=0)[0]
        assert usage.requests == 50 and usage.cost > 0
        kept = [usage, dm.invoice(end=80_000.0, tz="UTC", start=0).total]
    alter(path, f"DROP TABLE {REQUESTS}")
    return kept


def make_again(dm: DataManager, path: str, how: str) -> None:
    if how == "repair":
        assert any(finding.repaired for finding in dm.check(repair=True))
    elif how == "models":
        dm.close()
        DataManager(path, models=[NAME]).close()
    elif how == "prices":
        dm.set_pricing(NAME, hourly_price=0.5)
    elif how == "run":
        dm.add_model_runtime_start(NAME, 100_000.0)
    else:
        dm.add_model_request(NAME, [100_000.0, *ROW[1:]])


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("how", ["repair", "models", "prices", "run", "request"])
def test_a_lost_table_of_requests_takes_nothing_with_it(path: str, how: str, seen: bool) -> None:
    """What was pruned is billed as before, and what is repeated is known."""
    kept = lose_requests(path)
    with DataManager(path) as dm:
        if seen:  # its statements are prepared
            with pytest.raises(datamanager.CorruptDataError):
                dm.get_model_requests(NAME)
        make_again(dm, path, how)
    with DataManager(path) as dm:
        window: Any = {"start": 0, "end": 80_000.0, "tz": "UTC"}
        assert [dm.usage(NAME, **window)[0], dm.invoice(**window).total] == kept
        ids = [f"id{at}" for at in range(1, 50)] + ["new", None]
        added = 1 + (how == "request")
        assert dm.add_model_requests(NAME, [ROW] * 51, request_ids=ids) == [
            *range(2, 52),
            51 + added,
        ]
        dm.import_requests(Path(path).with_suffix(".csv"))
        assert len(dm.get_model_requests(NAME)) == added
        gone = {f"{SAFE}_timings", f"{SAFE}_checksums"}  # the one that was lost, not pruned
        assert {(f.severity, f.table, f.row) for f in dm.check()} == {
            ("warning", table, 51) for table in gone
        }


@pytest.mark.parametrize("table", ["model_name_mapping", IDS])
def test_what_must_be_unique(path: str, table: str) -> None:
    """Made anew by somebody who knew only the columns."""
    build(path)
    name = table.replace("{safe}", SAFE)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        query = "SELECT sql FROM sqlite_schema WHERE name=?"
        (sql,) = connection.execute(query, [name]).fetchone()
        connection.execute(f"ALTER TABLE {name} RENAME TO old")
        connection.execute(sql.replace(" UNIQUE", ""))
        connection.execute(f"INSERT INTO {name} SELECT * FROM old")
        connection.execute("DROP TABLE old")
    columns = ["request_id"] if table == IDS else ["original_name", "safe_name"]
    wanted = {f"{column} must be UNIQUE: there can be two of one" for column in columns}
    with DataManager(path) as dm:
        for quick in (False, True):
            assert {f.text for f in dm.check(quick)} == wanted
            assert {(f.severity, f.table) for f in dm.check(quick)} == {("error", name)}


def test_the_programs_table_is_made_again(path: str) -> None:
    build(path)
    with DataManager(path) as dm:
        alter(path, "DROP TABLE program_runtime")
        assert brief(dm.check()) == [("error", "program_runtime", None)]
        done = dm.check(repair=True)
        assert [(f.repaired, f.table, f.text) for f in done] == [
            (True, "program_runtime", "the table was missing: made again")
        ]
        assert dm.add_program_runtime_start(7.0) == 1
        assert dm.check() == []


def test_the_mapping_is_made_again_where_no_name_is_lost(path: str) -> None:
    with DataManager(path) as dm:
        alter(path, "DROP TABLE model_name_mapping")
        assert [f.table for f in dm.check(repair=True) if f.repaired] == ["model_name_mapping"]
        assert dm.check() == []
        dm.add_model_request(NAME, ROW)
        alter(path, "DROP TABLE model_name_mapping")
        assert brief(dm.check(repair=True)) == [("error", "model_name_mapping", None)]


@pytest.mark.parametrize("checksums", [False, True])
def test_what_is_said_of_the_database_is_said_again(path: str, checksums: bool) -> None:
    """What is made after it has checksums where the others have."""
    with DataManager(path, checksums=checksums) as dm:
        dm.add_model_request(NAME, ROW)
        alter(path, "DROP TABLE datamanager_store")
        dm.add_model_request("meanwhile", ROW)
        assert brief(dm.check()) == [("error", "datamanager_store", None)]
        done = dm.check(repair=True)
        assert [f.table for f in done if f.repaired] == ["datamanager_store"]
        dm.add_model_request("other", ROW)
        alter(path, f"UPDATE {safe('other')}_requests SET input_tokens=input_tokens+1")
        found = {f.table for f in dm.check()}
        without = f"{safe('meanwhile')}_checksums"
        assert found == ({without, f"{safe('other')}_requests"} if checksums else set())


def build_pruned(path: str) -> None:
    build(path)
    with DataManager(path, durability="normal") as dm:
        dm.prune(ROW[0] + 1, keep="day", tz="UTC")
        assert dm.usage(NAME).total.requests == 501


def refused(dm: DataManager) -> dict[str, list[Callable[[], object]]]:
    return {
        "sums": [
            dm.usage,
            lambda: dm.prune(9e9, keep="day", tz="UTC"),
            lambda: dm.prune(9e9, keep=None),
            lambda: dm.rename_model(NAME, "new"),
        ],
        "price": [
            dm.usage,
            lambda: dm.get_price_history(NAME),
            lambda: dm.set_pricing(NAME, hourly_price=1.0),
            lambda: dm.rename_model(NAME, "new"),
        ],
    }


@pytest.mark.parametrize(
    "missing, other, kind",
    [
        ("datamanager_uptime_sums", "datamanager_usage_sums", "sums"),
        ("datamanager_usage_sums", "datamanager_uptime_sums", "sums"),
        ("datamanager_price_tiers", CHANGES, "price"),
        (CHANGES, "datamanager_price_tiers", "price"),
    ],
)
def test_one_table_of_two_is_missing(path: str, missing: str, other: str, kind: str) -> None:
    """What it held does not pass for nothing: neither for readers, nor for who writes to both."""
    build_pruned(path)
    with DataManager(path, durability="normal") as dm:
        alter(path, f"DROP TABLE {missing}")
        (found,) = dm.check()
        assert brief([found]) == [("error", missing, None)]
        assert found.text == f"the table is missing, though {other} is there: what it held is lost"
        assert dm.check(quick=True) == dm.check(repair=True) == [found]
        for call in refused(dm)[kind]:
            with pytest.raises(datamanager.CorruptDataError, match=f"{missing} is missing, though"):
                call()
        dm.delete_model_tables(NAME)
        alter(path, f"DROP TABLE {other}")
        assert dm.check() == []
        dm.usage()


@pytest.mark.parametrize(
    ("table", "first"),
    [("datamanager_usage_sums", "first_request"), ("datamanager_uptime_sums", "start_time")],
)
def test_a_sum_that_begins_before_its_bucket(path: str, table: str, first: str) -> None:
    """Every question refuses it."""
    with DataManager(path) as dm:
        dm.add_model_requests(NAME, [[90_000.0, *ROW[1:]], [90_001.0, *ROW[1:]]])
        dm.add_model_runtime_start(NAME, 90_000.0)
        dm.update_model_runtime_end(NAME, 90_010.0)
        dm.add_model_runtime_start(NAME, 200_000.0)
        dm.prune(180_000.0, tz="UTC")
        assert dm.check() == []
        alter(path, f"UPDATE {table} SET {first}=1000")
        (found,) = dm.check()
        assert (found.severity, found.table, found.row) == ("error", table, 1)
        assert f"{first} 1000 must not be before bucket_start 90000" in found.text


def test_tiers_that_no_change_set_are_made_again(path: str) -> None:
    with DataManager(path) as dm:
        dm.set_pricing(NAME, hourly_price=1.0, effective_from=100.0)
        dm.set_pricing(NAME, hourly_price=2.0, effective_from=200.0)
        history = dm.get_price_history(NAME)
        alter(path, "DROP TABLE datamanager_price_tiers")
        table = "datamanager_price_tiers"
        other = "though datamanager_price_changes is there: it held nothing"
        assert [f.text for f in dm.check()] == [f"the table is missing, {other}"]
        done = dm.check(repair=True)
        assert [(f.repaired, f.table, f.text) for f in done] == [
            (True, table, "the table was missing, and held nothing: made again")
        ]
        assert dm.check() == []
        assert dm.get_price_history(NAME) == history


def test_missing_billing_row_is_made_again(path: str) -> None:
    build(path)
    alter(path, "DELETE FROM {safe}_billing", f"DELETE FROM {safe('other')}_billing")
    with DataManager(path) as dm:
        assert [f.text for f in dm.check()] == ["the row is missing"] * 2
        done = dm.check(repair=True)
        assert [f.text for f in done] == ["the row was missing: made again"] * 2
        assert all(f.repaired for f in done) and dm.check() == []
        assert dm.get_model_billing(NAME).hourly_price == 0.5
        assert not dm.get_model_billing(NAME).use_tier_pricing
        assert dm.get_model_billing("other").use_tier_pricing


def test_a_view_in_a_tables_place_is_left(path: str) -> None:
    """And does not keep another model from being mended."""
    build(path)
    alter(
        path,
        "DROP TABLE {safe}_requests",
        "CREATE VIEW {safe}_requests AS SELECT 1 AS id",
        f"DROP TABLE {safe('other')}_requests",
        "DROP TABLE {safe}_runtime",
    )
    with DataManager(path) as dm:
        done = dm.check(repair=True)
        assert [f.table for f in done if f.repaired] == [f"{safe('other')}_requests"]
        assert {f.table for f in done if not f.repaired} == {f"{SAFE}_requests", f"{SAFE}_runtime"}


def adopt_prices(path: str) -> None:
    """Prices in the tables alone, as after an adoption, and then a change through us."""
    build(path)
    alter(path, "DROP TABLE datamanager_price_changes", "DROP TABLE datamanager_price_tiers")
    with DataManager(path) as dm:
        dm.update_hourly_price(NAME, 0.7)


@pytest.mark.parametrize(
    "loss",
    ["DELETE FROM {safe}_billing", "DROP TABLE {safe}_billing", "DROP TABLE {safe}_tier_pricing"],
)
def test_prices_come_back_where_they_began_in_the_tables(path: str, loss: str) -> None:
    adopt_prices(path)
    with DataManager(path) as dm:
        before = dm.get_model_billing(NAME), dm.get_price_history(NAME)
        assert (before[0].use_tier_pricing, before[0].hourly_price) == (False, 0.7)
        alter(path, loss)
        assert [f.repaired for f in dm.check(repair=True)] == [True]
        assert (dm.get_model_billing(NAME), dm.get_price_history(NAME)) == before
        assert dm.check() == []


@pytest.mark.parametrize("loss", ["DELETE FROM {safe}_billing", "DROP TABLE {safe}_tier_pricing"])
def test_what_is_made_again_beside_prices_of_before(path: str, loss: str) -> None:
    """The tables are behind a change that has come: half of it would pass for another's price."""
    build(path)
    with DataManager(path) as dm:
        tiers = [[1, 0, 0, 9.0, 9.0, False, 0.0]]
        later = time.time() + 1000
        dm.set_pricing(NAME, tiers=tiers, hourly_price=3.0, effective_from=later)
    alter(
        path,
        "UPDATE datamanager_price_changes SET changed_at=changed_at-2000,"
        "effective_from=effective_from-2000",
    )
    with DataManager(path) as dm:
        before = dm.get_model_billing(NAME), dm.get_price_history(NAME)
        assert before[0].hourly_price == 3.0
        alter(path, loss)
        assert [f.repaired for f in dm.check(repair=True)] == [True]
        assert (dm.get_model_billing(NAME), dm.get_price_history(NAME)) == before
        assert dm.check() == []


def test_tiers_of_the_change_that_was_in_the_tables(path: str) -> None:
    adopt_prices(path)
    alter(path, "UPDATE datamanager_price_tiers SET start_tokens=900 WHERE tier_index=2")
    with DataManager(path) as dm:
        (found,) = dm.check()
        assert (found.severity, found.table, found.row) == ("error", "datamanager_price_tiers", 0)
        assert "overlap" in found.text


def test_repairing_needs_a_handle_that_writes(path: str) -> None:
    build(path)
    with DataManager(path, read_only=True) as reader:
        with pytest.raises(datamanager.ReadOnlyError):
            reader.check(repair=True)


@pytest.mark.slow
def test_many_models(path: str) -> None:
    with DataManager(path, models=[f"m{number}" for number in range(1000)]) as dm:
        assert dm.check() == dm.check(quick=True) == []
        dm.backup(Path(path).parent / "copy.db")


@pytest.mark.slow
def test_while_others_write(dm: DataManager, path: str) -> None:
    with writers(path, 2):
        for _ in range(5):
            assert dm.check() == []


def test_ctrl_c_is_seen_inside(path: str, ctrl_c: Callable[[], None]) -> None:
    build(path)

    def interrupt() -> None:
        while dm.stats()["reading"] == 0:
            pass
        ctrl_c()

    with DataManager(path) as dm:
        dm.add_model_requests(NAME, [ROW] * 1_000_000)
        sender = threading.Thread(target=interrupt)
        sender.start()
        with pytest.raises(KeyboardInterrupt):
            dm.check()
        sender.join()
        assert dm.stats()["reading"] == 0
        assert dm.add_model_request("other", ROW) == 1


def forget_a_change(path: str, index: str, change: str) -> None:
    """An index that was switched off while the table was changed."""
    columns = "type,name,tbl_name,rootpage,sql"
    with closing(sqlite3.connect(path)) as connection:
        query = f"SELECT {columns} FROM sqlite_schema WHERE name=?"
        row = connection.execute(query, [index]).fetchone()
    alter(path, f"DELETE FROM sqlite_schema WHERE name='{index}'")
    alter(path, change)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(f"INSERT INTO sqlite_schema({columns}) VALUES(?,?,?,?,?)", row)


@pytest.mark.slow
def test_ctrl_c_ends_a_repair(path: str, ctrl_c: Callable[[], None]) -> None:
    """With nothing mended."""
    build(path)
    with DataManager(path) as dm:
        dm.add_model_requests(NAME, [ROW] * 500_000)
    alter(path, "CREATE INDEX mine ON {safe}_requests(output_tokens, id)")
    forget_a_change(path, "mine", "UPDATE {safe}_requests SET output_tokens=1 WHERE id=7")

    with DataManager(path) as dm:
        found = dm.check()
        with pytest.raises(KeyboardInterrupt), once_locked(path, ctrl_c):
            dm.check(repair=True)
        assert dm.check() == found != []
        assert any(finding.repaired for finding in dm.check(repair=True))
        assert dm.check() == []
