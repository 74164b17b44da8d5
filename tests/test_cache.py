"""Rows that are kept in memory: always those of the file, whoever writes it, and never too many."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamanager import DataManager, restore

CHUNK_ROWS = 4096
TIERS = [[1, 0, 1000, 1.0, 2.0, True, 0.5], [2, 1000, 0, 3.0, 4.0, False, 0.0]]
COLUMNS = ("timestamp", "input_tokens", "output_tokens", "cache_n", "prompt_n")


def columns(count: int, seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    rows = {name: random.integers(0, 3000, count) for name in COLUMNS}
    return rows | {"timestamp": 1000.0 + np.arange(count) + random.integers(-50, 50, count)}


def table(dm: DataManager, model: str = "m") -> str:
    return f'"{dm.get_model_safe_name(model)}_requests"'


def by_sql(path: str, name: str, start: float, end: float) -> tuple[int, ...]:
    with closing(sqlite3.connect(path)) as db:
        sums = ",".join(f"ifnull(sum({column}),0)" for column in COLUMNS[1:])
        window = "timestamp >= ? AND timestamp < ?"
        found = db.execute(f"SELECT count(*),{sums} FROM {name} WHERE {window}", (start, end))
        return tuple(found.fetchone())


def asked(dm: DataManager, start: float = 0, end: float = 1e9) -> tuple[int, ...]:
    total = dm.usage("m", start=start, end=end).total
    return (
        total.requests,
        total.input_tokens,
        total.output_tokens,
        total.cache_n,
        total.prompt_n,
    )


def drops(dm: DataManager) -> int:
    return int(dm.stats()["cache_drops"])


@pytest.fixture
def store(path: str) -> Iterator[DataManager]:
    with DataManager(path) as dm:
        dm.set_pricing("m", tiers=TIERS, use_tier_pricing=True)
        dm.add_model_requests("m", columns(2 * CHUNK_ROWS + 100))
        yield dm


def foreign(path: str, sql: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql)


# ---- writes of this process leave it alone ----

WRITES: dict[str, Callable[[DataManager], object]] = {
    "one": lambda dm: dm.add_model_request("m", [5, 1, 2, 3, 4]),
    "timed": lambda dm: dm.add_model_request("m", [5, 1, 2, 3, 4], duration=1, first_token=0.5),
    "many": lambda dm: dm.add_model_requests("m", columns(5000, 2)),
    "other model": lambda dm: dm.add_model_request("new", [5, 1, 2, 3, 4]),
    "run": lambda dm: dm.add_model_runtime_start("m", 5.0),
    "program": lambda dm: dm.add_program_runtime_start(5.0),
    "price": lambda dm: dm.update_hourly_price("m", 2.0),
    "tier": lambda dm: dm.delete_tier_pricing("m", 1),
}


@pytest.mark.parametrize("kind", WRITES)
def test_own_writes_keep_it(store: DataManager, kind: str) -> None:
    asked(store)
    before, rows = drops(store), asked(store)[0]
    WRITES[kind](store)
    added = {"one": 1, "timed": 1, "many": 5000}.get(kind, 0)
    assert asked(store)[0] == rows + added
    assert drops(store) == before


def test_heartbeats_keep_it(store: DataManager) -> None:
    store.add_model_runtime_start("m", 5.0)
    store.add_program_runtime_start(5.0)
    asked(store)
    before = drops(store)
    for second in range(6, 20):
        store.update_model_runtime_end("m", second)
        store.update_program_runtime_end(second)
        with store.batch():
            store.add_model_request("m", [second, 1, 1, 1, 1])
        asked(store)
    assert drops(store) == before


def test_failed_writes_keep_what_is_true(store: DataManager) -> None:
    asked(store)
    rows = asked(store)
    with pytest.raises(KeyError), store.batch():
        store.add_model_request("m", [5, 1, 2, 3, 4])
        raise KeyError
    with pytest.raises(ValueError, match="input_tokens"):
        store.add_model_requests("m", [[1, 2, 3, 4, 5], [1, -2, 3, 4, 5]])
    assert asked(store) == rows


# ---- whatever others do is seen ----

FOREIGN = {
    "delete": "DELETE FROM {} WHERE id IN (3, 5000)",
    "delete last": "DELETE FROM {} WHERE id > 8000",
    "delete all": "DELETE FROM {}",
    "update": "UPDATE {} SET input_tokens = 2999999 WHERE id = 17",
    "update time": "UPDATE {} SET timestamp = 1.5 WHERE id = 4000",
    "insert": "INSERT INTO {} (timestamp,input_tokens,output_tokens,cache_n,prompt_n)"
    " VALUES (2000, 1, 2, 3, 4)",
    "insert before": "INSERT INTO {} VALUES (-7, 2000, 1, 2, 3, 4)",
    "move": "UPDATE {} SET id = id + 100000 WHERE id < 10",
}


@pytest.mark.parametrize("writes_between", [False, True])
@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_changes_are_seen(
    store: DataManager, path: str, kind: str, writes_between: bool
) -> None:
    name = table(store)
    assert asked(store) == asked(store) == by_sql(path, name, 0, 1e9)
    foreign(path, FOREIGN[kind].format(name))
    if writes_between:
        store.add_model_request("m", [2000, 1, 2, 3, 4])
    for window in ((0, 1e9), (0, 2), (1500, 2500), (9000, 1e9)):
        assert asked(store, *window) == by_sql(path, name, *window)


def test_deleting_and_renaming(store: DataManager, path: str) -> None:
    rows = asked(store)
    assert rows[0] == 2 * CHUNK_ROWS + 100
    store.rename_model("m", "other")
    store.add_model_requests("m", columns(10))
    assert asked(store)[0] == 10
    assert store.usage("other", start=0, end=1e9).total.requests == rows[0]
    store.rename_model("other", "m")
    assert asked(store)[0] == rows[0] + 10
    store.delete_model_tables("m")
    store.add_model_requests("m", columns(20))
    assert asked(store)[0] == 20 == by_sql(path, table(store), 0, 1e9)[0]


def test_another_model_of_the_same_name(store: DataManager, path: str) -> None:
    """Its rows have the ids of those before."""
    rows = asked(store)
    store.delete_model_tables("m")
    store.add_model_requests("m", columns(2 * CHUNK_ROWS + 200, 7))
    assert asked(store) == by_sql(path, table(store), 0, 1e9) != rows
    store.rename_model("m", "other")
    store.add_model_requests("m", columns(2 * CHUNK_ROWS + 300, 8))
    assert asked(store) == by_sql(path, table(store), 0, 1e9)


def test_restored_file(store: DataManager, path: str, tmp_path: Path) -> None:
    saved = str(tmp_path / "saved.db")
    store.backup(saved)
    rows = asked(store)
    store.add_model_requests("m", columns(CHUNK_ROWS, 5))
    assert asked(store)[0] == rows[0] + CHUNK_ROWS
    restore(saved, path)
    assert asked(store) == rows


def test_read_only_handles_see_what_others_write(store: DataManager, path: str) -> None:
    with DataManager(path, read_only=True) as reader:
        assert asked(reader) == asked(reader) == asked(store)
        before = drops(reader)
        asked(reader)
        assert drops(reader) == before
        store.add_model_request("m", [5, 1, 2, 3, 4])
        foreign(path, f"DELETE FROM {table(store)} WHERE id = 9")
        assert asked(reader) == by_sql(path, table(store), 0, 1e9) == asked(store)


def test_in_memory() -> None:
    with DataManager(":memory:") as dm:
        dm.add_model_requests("m", columns(5000))
        first = asked(dm)
        assert asked(dm) == first
        dm.add_model_requests("m", columns(5000))
        assert asked(dm) == tuple(2 * value for value in first)
        dm.delete_model_tables("m")
        dm.add_model_requests("m", columns(5000))
        assert asked(dm) == first


def test_fork(store: DataManager, path: str) -> None:
    rows = asked(store)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            same = asked(store) == rows
            foreign(path, f"DELETE FROM {table(store)} WHERE id = 9")
            code = 0 if same and asked(store)[0] == rows[0] - 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert asked(store)[0] == rows[0] - 1


# ---- windows, bounds and what does not fit ----


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 9000), st.integers(0, 60), st.integers(1, 2**31)), max_size=6
    ),
    window=st.tuples(st.integers(900, 9000), st.integers(1, 9000)),
    limit=st.sampled_from([0, 1, 150_000, 64 << 20]),
)
def test_any_window(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[int, int, int]],
    window: tuple[int, int],
    limit: int,
) -> None:
    path = str(tmp_path_factory.mktemp("cache") / "usage.db")
    start, end = window[0], window[0] + window[1]
    with DataManager(path, cache_bytes=limit, durability="normal") as dm:
        dm.add_model_requests("m", columns(1))
        for rows, late, seed in steps:
            added = columns(rows, seed)
            added["timestamp"][: min(late, rows)] = start + 0.5
            dm.add_model_requests("m", added)
            assert asked(dm, start, end) == by_sql(path, table(dm), start, end)
            assert asked(dm) == by_sql(path, table(dm), 0, 1e9)
            kept = [row.id for row in dm.get_model_requests("m", start=start, end=end)]
            assert kept == sorted(kept, reverse=True)
            assert len(kept) == asked(dm, start, end)[0]
            assert dm.stats()["cached_bytes"] <= limit


def test_memory_is_bounded_and_the_newest_stay(path: str) -> None:
    limit = 3 * CHUNK_ROWS * 28 + 1000
    with DataManager(path, cache_bytes=limit) as dm:
        dm.add_model_requests("m", columns(20 * CHUNK_ROWS))
        for _ in range(2):
            assert asked(dm)[0] == 20 * CHUNK_ROWS
            assert limit // 2 < dm.stats()["cached_bytes"] <= limit
        dm.add_model_requests("n", columns(CHUNK_ROWS))
        assert dm.usage("n", start=0, end=1e9).total.requests == CHUNK_ROWS
        assert dm.stats()["cached_bytes"] <= limit
        assert asked(dm)[0] == 20 * CHUNK_ROWS


def test_no_memory_wanted(path: str) -> None:
    with DataManager(path, cache_bytes=0) as dm:
        dm.add_model_requests("m", columns(CHUNK_ROWS))
        assert asked(dm) == asked(dm) == by_sql(path, table(dm), 0, 1e9)
        assert dm.stats()["cached_bytes"] == 0


def test_values_that_do_not_fit(path: str) -> None:
    with DataManager(path) as dm:
        dm.add_model_requests("m", columns(CHUNK_ROWS + 5))
        dm.add_model_request("m", [5, 2**53, 2**33, 2**32, 2**32 - 1])
        dm.add_model_requests("m", columns(CHUNK_ROWS))
        for _ in range(3):
            assert asked(dm) == by_sql(path, table(dm), 0, 1e9)
        foreign(path, f"UPDATE {table(dm)} SET id = id * 1000000000 WHERE id > 100")
        for _ in range(3):
            assert asked(dm) == by_sql(path, table(dm), 0, 1e9)


def test_memory_goes_with_the_last_handle(path: str) -> None:
    with DataManager(path) as dm:
        dm.add_model_requests("m", columns(CHUNK_ROWS))
        with DataManager(path) as second:
            asked(second)
        assert dm.stats()["cached_bytes"] > 0
    with DataManager(path) as dm:
        assert dm.stats()["cached_bytes"] == 0


def test_timings(path: str) -> None:
    timed = columns(CHUNK_ROWS + 10)
    timed["duration"] = np.where(np.arange(CHUNK_ROWS + 10) % 3, np.nan, 2.0)
    with DataManager(path) as dm:
        dm.add_model_requests("m", columns(CHUNK_ROWS))
        dm.add_model_requests("m", timed)
        with DataManager(path, read_only=True, cache_bytes=0) as cold:
            for _ in range(3):
                ours = dm.performance("m", start=0, end=1e9, buckets=3)
                assert list(ours) == list(cold.performance("m", start=0, end=1e9, buckets=3))
                dm.add_model_request("m", [1500, 7, 7, 7, 7], duration=9.0)


# ---- at once ----

MOVING = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
name, rows = sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
for step in range(1, 400):
    a, b = step * 7919 % rows + 1, step * 104729 % rows + 1
    db.execute("BEGIN IMMEDIATE")
    db.execute(f"UPDATE {name} SET input_tokens = input_tokens + 1 WHERE id = ?", (a,))
    db.execute(f"UPDATE {name} SET input_tokens = input_tokens - 1 WHERE id = ?", (b,))
    db.execute("COMMIT")
"""


def test_another_process_moves_tokens_all_the_while(path: str) -> None:
    """Each of its transactions leaves the sum as it is; a mix of two moments would not."""
    rows = 3 * CHUNK_ROWS
    tokens = {name: np.full(rows, 1000) for name in COLUMNS}
    with DataManager(path) as dm:
        dm.add_model_requests("m", tokens)
        mover = subprocess.Popen(
            [sys.executable, "-c", MOVING, path, table(dm), str(rows)], stdout=subprocess.PIPE
        )
        assert mover.stdout is not None
        assert mover.stdout.readline() == b"ready\n"
        added, questions = 0, 0
        while mover.poll() is None or questions < 50:
            total = dm.usage("m", start=0, end=1e9).total
            assert total.requests == rows + added
            assert total.input_tokens == 1000 * (rows + added)
            questions += 1
            if questions % 3 == 0:
                dm.add_model_request("m", [5, 1000, 0, 0, 0])
                added += 1
        mover.stdout.close()
        assert mover.returncode == 0


def test_threads_write_delete_and_ask(path: str) -> None:
    """What a thread has written it sees at once, whoever else reads or fills the memory."""
    failures: list[BaseException] = []
    with DataManager(path, durability="normal") as dm:
        dm.add_model_requests("m", columns(CHUNK_ROWS - 50))

        def own(number: int) -> None:
            try:
                kept = 0
                for n in range(1, 60):
                    dm.add_model_request(f"own {number}", [n, 1, 1, 1, 1])
                    kept += 1
                    dm.add_model_request("m", [5, 1, 1, 1, 1])
                    assert dm.usage(f"own {number}", start=0, end=1e9).total.requests == kept
                    if n % 20 == 19:  # and its first row comes again, with the same id
                        dm.delete_model_tables(f"own {number}")
                        kept = 0
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=own, args=[number]) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures[0]
        assert asked(dm)[0] == CHUNK_ROWS - 50 + 6 * 59


def test_a_limit_needs_one_connection(path: str) -> None:
    """Each more would parse the schema, which of a thousand models takes longer than the read."""
    with DataManager(path) as dm:
        dm.add_model_request("m", [1, 2, 3, 4, 5])
    with DataManager(path) as dm:
        assert len(dm.get_model_requests("m", limit=1)) == 1
        files = [Path(entry) for entry in Path("/proc/self/fd").iterdir()]
        assert [os.readlink(file) for file in files if file.exists()].count(path) == 1


def test_ids_as_far_apart_as_can_be(path: str) -> None:
    with DataManager(path) as dm:
        dm.add_model_request("m", [1, 2, 3, 4, 5])
        with closing(sqlite3.connect(path)) as db, db:
            for id in (-(2**63) + 1, 2**63 - 1):
                db.execute(f"INSERT INTO {table(dm)} VALUES({id}, 1, 2, 3, 4, 5)")
        for _ in range(2):
            assert dm.usage("m", start=0, end=9).total.input_tokens == 6
