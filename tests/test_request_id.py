"""Exactly once: a request with an id is there one time, however often, and by whom, it is sent."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamanager import BusyError, CorruptDataError, DataManager, InvalidDataError

ROW = [1_700_000_000.5, 150, 80, 5, 145]
COLUMNS = ("timestamp", "input_tokens", "output_tokens", "cache_n", "prompt_n")
SIDE_TABLES = "SELECT name FROM sqlite_schema WHERE name LIKE '%_request_ids' ORDER BY 1"


def names(path: str, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as file, file:
        return [row[0] for row in file.execute(query)]


def test_a_repeat_adds_nothing(dm: DataManager) -> None:
    assert dm.add_model_request("m", ROW, request_id="a") == 1
    assert dm.add_model_request("m", [9, 9, 9, 9, 9], request_id="a", duration=5) == 1
    assert dm.add_model_request("m", ROW) == 2
    assert dm.add_model_request("m", ROW, request_id="b", duration=1) == 3
    assert dm.add_model_request("m", ROW, request_id=None) == 4
    assert dm.add_model_request("n", ROW, request_id="a") == 1  # of another model
    requests = dm.get_model_requests("m")
    assert [request.id for request in requests] == [4, 3, 2, 1]
    assert set(requests.timestamp) == {ROW[0]}
    assert dm.performance("m")[0].duration_max == 1.0
    assert dm.check() == []


def test_many_at_once(dm: DataManager) -> None:
    ids = ["a", None, "b", "a", None, "b"]
    assert dm.add_model_requests("m", [ROW] * 6, request_ids=ids) == [1, 2, 3, 1, 4, 3]
    assert dm.add_model_requests("m", [ROW] * 3, request_ids=["b", "c", "a"]) == [3, 5, 1]
    assert dm.add_model_requests("m", [ROW] * 2, request_ids=["a", "a"]) == [1, 1]
    assert dm.add_model_requests("m", [ROW] * 2, request_ids=[None, None]) == [6, 7]
    assert dm.add_model_requests("m", [], request_ids=[]) == []
    assert dm.add_model_requests("m", [ROW] * 2) == range(8, 10)
    assert len(dm.get_model_requests("m")) == 9


def test_columns(dm: DataManager) -> None:
    columns: dict[str, Any] = {name: [1, 2, 3] for name in COLUMNS}
    columns["duration"] = [10.0, 20.0, None]
    first = {**columns, "request_id": ["a", "a", "b"]}
    assert dm.add_model_requests("m", first) == [1, 1, 2]
    arrays = {name: numpy.array([4, 5, 6]) for name in COLUMNS}
    ids = numpy.array(["b", "c", "模型 🦙"])
    assert dm.add_model_requests("m", {**arrays, "request_id": ids}) == [2, 3, 4]
    requests = dm.get_model_requests("m")
    assert list(requests.timestamp) == [6.0, 5.0, 3.0, 1.0]
    (row,) = dm.performance("m")
    assert (row.duration_max, row.requests) == (10.0, 4)  # the second of "a" did not count


def test_batches(dm: DataManager) -> None:
    dm.add_model_request("m", ROW, request_id="a")
    with dm.batch() as batch:
        assert dm.add_model_request("m", ROW, request_id="b") is None
        assert dm.add_model_request("m", ROW, request_id="a") is None
        ids = ["b", None, "c", "c"]
        assert dm.add_model_requests("m", [ROW] * 4, request_ids=ids) is None
        ids[:] = ["x"] * 4  # what was given counts
        assert dm.add_model_requests("m", [], request_ids=[]) == []
        with pytest.raises(KeyError), dm.batch():
            dm.add_model_request("m", ROW, request_id="undone")
            raise KeyError
        dm.add_model_requests("m", [ROW])
    assert batch.ids == [2, 1, [2, 3, 4, 4], [], 5]
    assert dm.add_model_request("m", ROW, request_id="undone") == 6


def test_what_was_undone_is_not_known(dm: DataManager, path: str) -> None:
    dm.add_model_request("m", ROW, request_id="a")
    with pytest.raises(InvalidDataError, match=r"^row 1: input_tokens"):
        dm.add_model_requests("m", [ROW, [1, -1, 1, 1, 1]], request_ids=["b", "c"])
    with DataManager(path, busy_timeout=0.01) as other, closing(sqlite3.connect(path)) as file:
        file.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError):
            other.add_model_request("m", ROW, request_id="b")
        file.rollback()
    assert dm.add_model_requests("m", [ROW] * 2, request_ids=["b", "c"]) == [2, 3]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("", "request_id must not be empty"),
        ("é" * 128, "request_id must have at most 255 bytes of UTF-8, not 256"),
        ("a\0b", "request_id must not hold a NUL character"),
        ("\udc80", "request_id must not hold lone surrogates"),
        (7, r"request_id must be a str, not 7$"),
        (b"a", "request_id must be a str, not b'a'"),
    ],
)
def test_refused(dm: DataManager, bad: Any, said: str) -> None:
    with pytest.raises(InvalidDataError, match=f"^{said}"):
        dm.add_model_request("m", ROW, request_id=bad)
    with pytest.raises(InvalidDataError, match=f"^row 1: {said}"):
        dm.add_model_requests("m", [ROW] * 2, request_ids=["a", bad])
    assert dm.get_models() == []


def test_bad_lists(dm: DataManager) -> None:
    columns = {name: [1] for name in COLUMNS}
    for rows, ids, said in [
        ([ROW], "a", "request_ids must be a sequence of str or None, not str"),
        ([ROW], 5, "request_ids must be a sequence of str or None, not int"),
        ([ROW], {"a"}, "request_ids must be a sequence of str or None, not set"),
        ([ROW], frozenset("a"), "request_ids must be a sequence of str or None, not frozenset"),
        ([ROW], {"a": 1}, "request_ids must be a sequence of str or None, not dict"),
        ({**columns, "request_id": {"a"}}, None, "request_ids must be a sequence .*, not set"),
        ([ROW], [], "request_ids has 0 values, but there are 1 rows"),
        ({**columns, "request_id": ["a"]}, ["a"], "rows has a column request_id, and"),
        ({**columns, "request_id": ["a"], "x": [1]}, None, "and no others: 7 given"),
    ]:
        with pytest.raises(InvalidDataError, match=said):
            dm.add_model_requests("m", rows, request_ids=ids)  # type: ignore[arg-type]


def test_the_longest(dm: DataManager) -> None:
    longest = "模" * 85
    assert dm.add_model_request("m", ROW, request_id=longest) == 1
    assert dm.add_model_request("m", ROW, request_id=longest) == 1


def test_who_does_not_use_it_has_no_table(dm: DataManager, path: str) -> None:
    dm.add_model_request("m", ROW, request_id=None)
    dm.add_model_requests("m", [ROW] * 3)
    assert names(path, SIDE_TABLES) == []


def test_threads_at_once(dm: DataManager) -> None:
    """In groups that share commits, alone and in bulk: each id gets one row, and all agree."""
    dm.add_model_request("m", ROW)
    turns, start = 150, threading.Barrier(8)

    def send(number: int) -> dict[str, int | None]:
        chance = random.Random(number)
        found: dict[str, int | None] = {}
        start.wait()
        for turn in range(turns):
            mine = [f"{turn}-{n}" for n in range(3)]
            chance.shuffle(mine)
            if number % 2:
                ids = dm.add_model_requests("m", [ROW] * 3, request_ids=mine)
                found |= zip(mine, ids or [], strict=True)
            else:
                found |= {name: dm.add_model_request("m", ROW, request_id=name) for name in mine}
        return found

    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(send, range(8))
    assert all(other == first for other in others)
    assert len(set(first.values())) == len(first) == 3 * turns
    assert len(dm.get_model_requests("m")) == 3 * turns + 1


SENDER = """
import sys, datamanager
path, turns = sys.argv[1], int(sys.argv[2])
with datamanager.DataManager(path) as dm:
    print("ready", flush=True)
    sys.stdin.readline()
    ids = []
    for turn in range(turns):
        ids.append(dm.add_model_request("m", [turn, 1, 1, 1, 1], request_id=f"one {turn}"))
        some = [f"many {turn}", f"many {turn + 1}"]
        ids += dm.add_model_requests("m", [[turn, 2, 2, 2, 2]] * 2, request_ids=some)
    print(ids)
"""


def test_processes_at_once(path: str) -> None:
    turns = 200
    command = [sys.executable, "-c", SENDER, path, str(turns)]
    pipe = subprocess.PIPE
    senders = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for sender in senders:
        assert sender.stdout is not None and sender.stdout.readline() == "ready\n"
    for sender in senders:
        assert sender.stdin is not None
        sender.stdin.write("go\n")
        sender.stdin.flush()
    first, second = (sender.communicate(timeout=120)[0] for sender in senders)
    assert first == second and [sender.returncode for sender in senders] == [0, 0]
    with DataManager(path) as dm:
        assert len(dm.get_model_requests("m")) == turns + turns + 1
        assert dm.check() == []


def test_renamed_and_joined(dm: DataManager, path: str) -> None:
    dm.add_model_requests("old", [ROW] * 3, request_ids=["a", "b", None])
    dm.rename_model("old", "new")
    assert dm.add_model_request("new", ROW, request_id="b") == 2
    dm.add_model_requests("other", [ROW] * 2, request_ids=["b", "c"])
    dm.rename_model("other", "new")
    ids = dm.add_model_requests("new", [ROW] * 4, request_ids=["a", "b", "c", "d"])
    assert ids == [1, 2, 5, 6]  # row 4 was the other's "b": both are kept, the first has the id
    dm.add_model_requests("plain", [ROW])
    dm.rename_model("new", "plain")
    assert dm.add_model_requests("plain", [ROW] * 2, request_ids=["d", "e"]) == [7, 8]
    assert names(path, SIDE_TABLES) == [f"{dm.get_safe_model_name('plain')}_request_ids"]
    assert dm.check() == []


@pytest.mark.parametrize("pruned", ["old", "new", "both"])
def test_pruned_and_joined(dm: DataManager, path: str, pruned: str) -> None:
    """Ids of rows that were pruned are known under the other name, too."""
    new = dm.get_safe_model_name("new")
    dm.add_model_requests("old", [ROW] * 3, request_ids=["x", None, "y"])
    dm.add_model_requests("new", [ROW] * 2, request_ids=["y", "z"])
    for number, name in enumerate(["old", "new"]):
        if pruned in (name, "both"):
            assert dm.prune(ROW[0] + 1, models=name, tz="UTC").total.requests == 3 - number
    dm.rename_model("old", "new")
    assert dm.add_model_requests("new", [ROW] * 3, request_ids=["x", "y", "z"]) == [3, 1, 2]
    assert dm.usage("new")[0].requests == 5 and dm.check() == []
    assert dm.add_model_requests("new", [ROW] * 2, request_ids=["x", "w"]) == [3, 6]
    assert dm.check() == []
    # As it was left by versions that did not number on: it is found.
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"DELETE FROM {new}_requests WHERE id > 2")
        file.execute(f"UPDATE sqlite_sequence SET seq = 2 WHERE name = '{new}_requests'")
    assert [(found.severity, found.table, found.row) for found in dm.check()] == [
        ("error", f"{new}_request_ids", 3),
        ("error", f"{new}_request_ids", 6),
    ]


def test_numbers_of_rows_that_are_used_up(dm: DataManager, path: str) -> None:
    """As another program can leave them. SQLite says that the disk is full, which it is not."""
    dm.add_model_request("m", ROW)
    table = f"{dm.get_safe_model_name('m')}_requests"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (2**63 - 2, table))
    said = f"^{path}: {table}: the numbers of rows are used up"
    with pytest.raises(CorruptDataError, match=said):
        dm.add_model_requests("m", [ROW] * 2)
    assert dm.add_model_request("m", ROW) == 2**63 - 1
    for call in (
        lambda: dm.add_model_request("m", ROW),
        lambda: dm.add_model_request("m", ROW, request_id="a"),
        lambda: dm.add_model_requests("m", [ROW]),
    ):
        with pytest.raises(CorruptDataError, match=said):
            call()
    dm.add_model_request("other", ROW)
    assert [(f.table, f.text) for f in dm.check()] == [
        (table, "the numbers of rows are used up: no request can be added")
    ]


def test_numbers_of_rows_that_two_models_use_up(dm: DataManager, path: str) -> None:
    for name in ("a", "b"):
        dm.add_model_request(name, ROW)
    tables = [f"{dm.get_safe_model_name(name)}_requests" for name in ("b", "a")]
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE sqlite_sequence SET seq = ?", (2**62,))
    said = f"^{path}: {tables[0]} and {tables[1]}: the numbers of rows are used up"
    with pytest.raises(CorruptDataError, match=said):
        dm.rename_model("a", "b", merge=True)
    assert dm.get_models() == ["a", "b"]


@pytest.mark.parametrize("known", [True, False])
def test_joined_where_others_have_begun_anew(dm: DataManager, path: str, known: bool) -> None:
    """What they left of rows that they dropped does not take the place of what comes in."""
    dm.add_model_requests("new", [ROW] * 2, request_ids=["gone", "x"])
    dm.add_model_request("new", ROW, duration=5.0)
    table = f"{dm.get_safe_model_name('new')}_requests"
    with closing(sqlite3.connect(path)) as file, file:
        (sql,) = file.execute("SELECT sql FROM sqlite_schema WHERE name = ?", [table]).fetchone()
        file.execute(f"DROP TABLE {table}")
        file.execute(sql)
    ids = ["x", "y", "z", "gone"]
    for id in ids[:3]:
        if known:
            dm.add_model_request("old", ROW, request_id=id, duration=1.0)
        else:
            dm.add_model_request("old", ROW)
    dm.rename_model("old", "new")
    first = 1 if known else 4
    assert dm.add_model_requests("new", [ROW] * 4, request_ids=ids) == [
        *range(first, first + 4),
    ]
    (row,) = dm.performance("new")
    assert row.duration_max == (1.0 if known else None) and dm.check() == []


def test_joined_from_where_others_have_begun_anew(dm: DataManager, path: str) -> None:
    """What they left of rows that they dropped does not meet the rows that come afterwards."""
    dm.add_model_requests("old", [ROW] * 3, request_ids=["x", "y", "z"])
    dm.add_model_request("old", ROW, duration=5.0)
    table = f"{dm.get_safe_model_name('old')}_requests"
    with closing(sqlite3.connect(path)) as file, file:
        (sql,) = file.execute("SELECT sql FROM sqlite_schema WHERE name = ?", [table]).fetchone()
        file.execute(f"DROP TABLE {table}")
        file.execute(sql)
    dm.add_model_requests("new", [ROW] * 2)
    dm.rename_model("old", "new")
    assert dm.check() == []
    dm.add_model_requests("new", [ROW] * 5)
    assert dm.add_model_requests("new", [ROW] * 3, request_ids=["x", "y", "z"]) == [8, 9, 10]
    assert dm.performance("new")[0].duration_max is None


def test_deleted(dm: DataManager, path: str) -> None:
    dm.add_model_request("m", ROW, request_id="a")
    dm.delete_model_tables("m")
    assert names(path, SIDE_TABLES) == []
    assert dm.add_model_requests("m", [ROW] * 2) == range(1, 3)
    assert dm.add_model_request("m", ROW, request_id="a") == 3


def test_what_another_program_deletes(dm: DataManager, path: str) -> None:
    """A row's id stays known; a model's go with its tables, and so when others drop those."""
    dm.add_model_requests("m", [ROW] * 3, request_ids=["a", "b", "c"])
    safe = dm.get_safe_model_name("m")
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"DELETE FROM {safe}_requests WHERE id = 3")
    assert dm.add_model_request("m", ROW, request_id="c") == 3
    assert dm.add_model_request("m", ROW, request_id="d") == 4
    assert len(dm.get_model_requests("m")) == 3 and dm.check() == []
    with closing(sqlite3.connect(path)) as file, file:  # as the older class does it
        for suffix in ("runtime", "requests", "billing", "tier_pricing"):
            file.execute(f"DROP TABLE {safe}_{suffix}")
        file.execute("DELETE FROM model_name_mapping")
    assert [finding.table for finding in dm.check()] == [f"{safe}_request_ids"]
    assert dm.add_model_request("m", ROW, request_id="c") == 1
    assert len(dm.get_model_requests("m")) == 1 and dm.check() == []


def test_tables_that_another_program_makes_anew(dm: DataManager, path: str) -> None:
    """Their rows are numbered from 1 again: ids of before are not those of the new ones."""
    dm.add_model_requests("m", [ROW] * 3, request_ids=["a", "b", "c"])
    table = f"{dm.get_safe_model_name('m')}_requests"
    with closing(sqlite3.connect(path)) as file, file:
        (sql,) = file.execute("SELECT sql FROM sqlite_schema WHERE name = ?", [table]).fetchone()
        file.execute(f"DROP TABLE {table}")
        file.execute(sql)
    assert dm.add_model_request("m", ROW, request_id="c") == 1
    assert dm.add_model_requests("m", [ROW] * 2, request_ids=["c", "b"]) == [1, 2]
    assert len(dm.get_model_requests("m")) == 2


def test_the_side_table_may_be_dropped(dm: DataManager, path: str) -> None:
    dm.add_model_request("m", ROW, request_id="a")
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"DROP TABLE {dm.get_safe_model_name('m')}_request_ids")
    assert dm.add_model_request("m", ROW, request_id="a") == 2
    assert dm.add_model_requests("m", [ROW] * 2, request_ids=["a", "b"]) == [2, 3]
    assert len(dm.get_model_requests("m")) == 3


def test_checked_and_counted(dm: DataManager, path: str) -> None:
    dm.add_model_requests("m", [ROW] * 3, request_ids=["a", "b", "c"])
    table = f"{dm.get_safe_model_name('m')}_request_ids"
    before = dm.get_storage_stats()["models"]["m"]["bytes"]
    dm.add_model_requests("m", [ROW] * 500, request_ids=[f"{n:0200}" for n in range(500)])
    grown = dm.get_storage_stats()["models"]["m"]["bytes"] - before
    assert grown > 2 * 500 * 200  # the table and its index
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"UPDATE {table} SET request_id = x'61' WHERE row_id = 1")
        file.execute(f"UPDATE {table} SET request_id = '' WHERE row_id = 2")
    assert [(found.severity, found.table, found.row, found.text) for found in dm.check()] == [
        ("error", table, 1, "request_id must be text"),
        ("error", table, 2, "request_id must not be empty"),
    ]


def test_backups_know_the_ids(dm: DataManager, tmp_path: Path) -> None:
    dm.add_model_request("m", ROW, request_id="a")
    dm.backup(tmp_path / "copy.db")
    with DataManager(tmp_path / "copy.db") as copy:
        assert copy.add_model_request("m", ROW, request_id="a") == 1


IDS = st.none() | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(IDS, max_size=6)), max_size=6))
def test_as_a_dict_would(calls: list[tuple[bool, list[str | None]]]) -> None:
    known: dict[str, int] = {}
    rows = 0
    with DataManager(":memory:", models=["m"]) as dm:
        for in_bulk, ids in calls:
            wanted = []
            for name in ids:
                if name is None or name not in known:
                    rows += 1
                wanted.append(rows if name is None else known.setdefault(name, rows))
            if in_bulk:
                assert dm.add_model_requests("m", [ROW] * len(ids), request_ids=ids) == wanted
            else:
                assert [dm.add_model_request("m", ROW, request_id=n) for n in ids] == wanted
        assert len(dm.get_model_requests("m")) == rows
