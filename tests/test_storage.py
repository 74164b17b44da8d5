"""Renaming, orphans, room: what is moved stays whole, and what is given back was free."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from interrupting import once_locked
from test_backup import ROW, sound, start, writers

import datamanager
from datamanager import DataManager, InvalidDataError

TIERS = [[1, 0, 0, 2.0, 8.0, True, 0.5]]


def records(dm: DataManager, name: str) -> tuple[Any, ...]:
    return (
        list(dm.get_model_requests(name)),
        dm.performance(name)[0].duration_max,
        dm.get_model_runtime(name),
        dm.get_model_billing(name),
        dm.get_price_history(name),
    )


@pytest.fixture
def filled(dm: DataManager) -> DataManager:
    for number, name in enumerate(["old", "other"]):
        dm.add_model_requests(name, [[t, number, 2, 3, 4] for t in range(99)])
        dm.add_model_request(name, [99, number, 2, 3, 4], duration=5.0 - number)
        dm.add_model_runtime_start(name, 5.0 + number)
        dm.update_model_runtime_end(name, 9.0)
        dm.set_pricing(name, tiers=TIERS, hourly_price=1.0 + number)
        dm.update_hourly_price(name, 7.0, effective_from=3.0)
        dm.update_hourly_price(name, 1.0 + number, effective_from=4.0)
    return dm


@pytest.mark.parametrize("new", ["new", "模型 🦙", "a'b\"c", "OLD"])
def test_rename(filled: DataManager, path: str, new: str) -> None:
    before, other = records(filled, "old"), records(filled, "other")
    with DataManager(path) as second, DataManager(path, read_only=True) as reader:
        assert records(second, "old") == records(reader, "old") == before
        filled.rename_model("old", new)
        for handle in (filled, second, reader):
            assert handle.get_models() == [new, "other"]
            assert records(handle, new) == before and records(handle, "other") == other
            with pytest.raises(datamanager.ModelNotFoundError):
                handle.get_model_requests("old")
        assert filled.get_model_safe_name(new) == filled.get_safe_model_name(new)
        assert second.add_model_request(new, ROW) == 101
        assert second.add_model_request("old", ROW) == 1
    assert filled.check() == []


def contents(path: str) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        schema = connection.execute("SELECT type,name,tbl_name,sql FROM sqlite_schema").fetchall()
        return sorted([*map(str, schema), *connection.iterdump()])


@pytest.mark.parametrize("checksums", [True, False])
def test_few_rows_are_copied_to_the_same(tmp_path: Path, checksums: bool) -> None:
    """Ids, what stands beside the rows, and the numbers that were given. With an index of another's
    the tables are altered."""
    copied, altered = str(tmp_path / "copied.db"), str(tmp_path / "altered.db")
    with DataManager(copied, checksums=checksums) as dm:
        dm.add_model_requests("old", [[t, 1, 2, 3, 4] for t in range(20)])
        dm.add_model_request("old", [20, 1, 2, 3, 4], request_id="a", duration=1.0)
        dm.add_model_request("gone", ROW)
        dm.set_pricing("old", tiers=TIERS, hourly_price=1.0)
        dm.prune(5, models="old", tz="UTC")
        safe = dm.get_safe_model_name("old")
    with closing(sqlite3.connect(copied)) as connection:
        connection.execute(f"DELETE FROM {safe}_requests WHERE id>18")
        connection.commit()
        connection.execute("VACUUM INTO ?", (altered,))
    with closing(sqlite3.connect(altered)) as connection:
        connection.execute(f"CREATE INDEX theirs ON {safe}_requests(timestamp)")
    for path in (copied, altered):
        with DataManager(path, checksums=checksums) as dm:
            dm.rename_model("old", "new")
            assert dm.add_model_request("new", ROW, request_id="b") == 22
    with closing(sqlite3.connect(altered)) as connection:
        connection.execute("DROP INDEX theirs")
    assert contents(copied) == contents(altered)


@pytest.mark.parametrize(("rows", "copied"), [(1, True), (100, True), (5000, False)])
def test_few_rows_are_copied(dm: DataManager, path: str, rows: int, copied: bool) -> None:
    """Among many models that takes a hundredth of the time. New tables come last in the schema."""
    dm.add_model_requests("old", [ROW] * rows)
    dm.add_model_request("last", ROW)
    dm.rename_model("old", "new")
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")]
    new, last = (dm.get_safe_model_name(name) + "_requests" for name in ("new", "last"))
    assert (names.index(new) > names.index(last)) == copied


def test_many_rows_take_the_place_of_none(dm: DataManager, path: str) -> None:
    """The tables themselves, so that others need not wait for copies."""
    dm.add_model_requests("old", [ROW] * 5000)
    dm.add_model_request("old", ROW, request_id="a", duration=2.0)
    dm.add_model_runtime_start("old", 5.0)
    dm.set_pricing("old", hourly_price=7.0)
    dm.add_model_request("last", ROW)
    dm.set_pricing("new", tiers=TIERS)
    before, billing, history = (
        records(dm, "old"),
        dm.get_model_billing("new"),
        dm.get_price_history("new"),
    )
    dm.rename_model("old", "new")
    assert records(dm, "new") == (*before[:3], billing, history) and dm.check() == []
    assert dm.add_model_request("new", ROW, request_id="a") == 5001
    assert dm.add_model_request("new", ROW) == 5002 and dm.get_models() == ["last", "new"]
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")]
    new, last = (dm.get_safe_model_name(name) + "_requests" for name in ("new", "last"))
    assert names.index(new) < names.index(last)


def test_tables_with_an_index_are_not_replaced(dm: DataManager, path: str) -> None:
    dm.add_model_requests("old", [ROW] * 5000)
    dm.set_pricing("new", tiers=TIERS)
    with closing(sqlite3.connect(path)) as connection:
        table = dm.get_safe_model_name("new") + "_requests"
        connection.execute(f"CREATE INDEX theirs ON {table}(timestamp)")
        dm.rename_model("old", "new")
        found = connection.execute("SELECT tbl_name FROM sqlite_schema WHERE name='theirs'")
        assert found.fetchall() == [(table,)] and len(dm.get_model_requests("new")) == 5000


@pytest.mark.parametrize("what", ["a request", "a run", "a request that was pruned"])
def test_nothing_is_replaced(dm: DataManager, what: str) -> None:
    dm.add_model_requests("old", [ROW] * 5000)
    dm.set_pricing("new", tiers=TIERS)
    if what == "a run":
        dm.add_model_runtime_start("new", 5.0)
    else:
        dm.add_model_request("new", [5.0, *ROW[1:]])
    if what == "a request that was pruned":
        dm.prune(6.0, models="new", tz="UTC")
    dm.rename_model("old", "new")
    assert dm.usage("new")[0].requests == 5000 + (what != "a run") and dm.check() == []
    assert len(dm.get_model_runtime("new")) == (what == "a run")
    assert dm.add_model_request("new", ROW) == 5001 + (what != "a run")


def test_rename_and_back_and_to_itself(filled: DataManager) -> None:
    before = records(filled, "old")
    filled.rename_model("old", "old")
    filled.rename_model("old", "new")
    filled.rename_model("new", "old")
    assert records(filled, "old") == before and filled.get_models() == ["old", "other"]


def test_joining(filled: DataManager) -> None:
    """Ids of the new name stay; the newest run stays the one that started last."""
    other = records(filled, "other")
    filled.rename_model("old", "other")
    assert filled.get_models() == ["other"]
    requests, slowest, runs, billing, history = records(filled, "other")
    assert requests[100:] == other[0] and slowest == 5.0
    assert [(r.id, r.timestamp, r.input_tokens) for r in requests[:100]] == [
        (t + 101, t, 0) for t in range(99, -1, -1)
    ]
    assert [run.start_time for run in runs] == [6.0, 5.0]
    assert (billing, history) == other[3:]
    assert filled.add_model_request("other", ROW) == 201
    filled.add_model_runtime_start("other", 10.0)
    assert filled.get_model_runtime("other", limit=1)[0].start_time == 10.0
    assert filled.check() == []


def test_joining_one_that_started_later(filled: DataManager) -> None:
    filled.rename_model("other", "old")
    assert [run.start_time for run in filled.get_model_runtime("old")] == [6.0, 5.0]
    assert filled.get_model_billing("old").hourly_price == 1.0


def test_joining_one_without_prices(filled: DataManager) -> None:
    filled.add_model_request("bare", ROW)
    before = records(filled, "old")
    filled.rename_model("old", "bare")
    assert records(filled, "bare")[1:] == before[1:]
    assert len(filled.get_model_requests("bare")) == 101
    assert filled.check() == []


def test_joining_one_with_nothing_but_defaults(filled: DataManager) -> None:
    """What is set but costs nothing does not make the past free."""
    cost, history = filled.usage("old")[0].cost, filled.get_price_history("old")
    assert cost > 0
    filled.update_billing_method("bare", use_tier_pricing=True)
    filled.update_hourly_price("bare", 0.0)
    filled.rename_model("old", "bare")
    assert filled.get_price_history("bare") == history
    assert filled.usage("bare")[0].cost == cost and filled.check() == []


def test_joining_two_without_prices(dm: DataManager) -> None:
    for name, tiers in (("old", True), ("new", False)):
        dm.update_billing_method(name, tiers)
    dm.rename_model("old", "new")
    assert not dm.get_model_billing("new").use_tier_pricing and dm.check() == []


def test_joining_one_that_was_made_free(filled: DataManager) -> None:
    filled.set_pricing("free", tiers=[[1, 0, 0, 0.0, 0.0, False, 0.0]])
    filled.rename_model("old", "free")
    assert filled.usage("free")[0].cost == 0


def test_ids_that_were_used_are_not_used_again(filled: DataManager, path: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        safe = filled.get_safe_model_name("other")
        connection.execute(f"DELETE FROM {safe}_requests WHERE id>10")
        connection.commit()
    filled.rename_model("old", "other")
    assert [r.id for r in filled.get_model_requests("other")][-11:] == [101, *range(10, 0, -1)]


def test_renaming_in_a_batch(filled: DataManager) -> None:
    with filled.batch() as batch:
        filled.add_model_request("old", ROW)
        filled.rename_model("".join(["o", "ld"]), "".join(["n", "ew"]))  # names that go at once
        filled.add_model_request("new", ROW)
    assert batch.ids == [101, None, 102]
    with pytest.raises(datamanager.ModelNotFoundError), filled.batch():
        filled.rename_model("new", "newer")
        filled.rename_model("nobody", "newest")
    assert filled.get_models() == ["new", "other"]
    assert len(filled.get_model_requests("new")) == 102


def test_what_renaming_refuses(filled: DataManager) -> None:
    with pytest.raises(datamanager.ModelNotFoundError, match="'nobody'"):
        filled.rename_model("nobody", "new")
    for wrong in ("", "a\0b", "x" * 1025):
        with pytest.raises(datamanager.InvalidDataError, match="new_name"):
            filled.rename_model("old", wrong)
    assert filled.get_models() == ["old", "other"]


@pytest.mark.parametrize("known", [True, False])
def test_a_name_that_another_program_deleted(dm: DataManager, path: str, known: bool) -> None:
    """What is left of its ids, timings, sums and prices is not the renamed model's."""
    dm.add_model_requests("new", [ROW] * 3, request_ids=["a", "b", "c"])
    dm.prune(ROW[0] + 1, models="new", tz="UTC")
    dm.add_model_request("new", ROW, duration=7.0, request_id="d")
    dm.set_pricing("new", tiers=TIERS)
    safe = dm.get_safe_model_name("new")
    with closing(sqlite3.connect(path)) as connection:
        for suffix in ("runtime", "requests", "billing", "tier_pricing"):
            connection.execute(f"DROP TABLE {safe}_{suffix}")
        connection.execute("DELETE FROM model_name_mapping")
        connection.commit()
    dm.add_model_requests("old", [ROW] * 4)
    if known:
        dm.add_model_request("old", ROW, duration=1.0, request_id="x")
        dm.set_pricing("old", hourly_price=2.0)
    history = dm.get_price_history("old")
    dm.rename_model("old", "new")
    assert dm.get_price_history("new") == history and dm.check() == []
    assert dm.usage("new")[0].requests == 4 + known
    assert dm.performance("new")[0].duration_max == (1.0 if known else None)
    assert dm.add_model_request("new", ROW, request_id="a") == 5 + known


def test_foreign_views_do_not_matter(filled: DataManager, path: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE VIEW broken AS SELECT * FROM nowhere")
    filled.rename_model("old", "new")
    assert len(filled.get_model_requests("new")) == 100


def test_renaming_under_other_processes(filled: DataManager, path: str) -> None:
    """Their connections remember the old name: no row of theirs is lost, or under a third name."""
    with writers(path, 2):
        while "b" not in filled.get_models():
            pass
        for number in range(10):
            filled.rename_model("a", f"a{number}")
            while "a" not in filled.get_models():
                pass
    names = [name for name in filled.get_models() if name.startswith("a")]
    total = sum(len(filled.get_model_requests(name)) for name in names)
    assert total == len(filled.get_model_requests("b")) > 20
    assert filled.check() == []


def test_orphans(filled: DataManager) -> None:
    assert filled.get_orphaned_models([]) == ["old", "other"]
    assert filled.get_orphaned_models(iter(["other", "unused"])) == ["old"]
    assert filled.get_orphaned_models({"old": 1, "other": 2}) == []
    filled.set_pricing("empty", hourly_price=1.0)
    assert filled.get_orphaned_models(["old", "other"]) == ["empty"]
    for wrong, said in (
        ("old", "an iterable of names, not one str"),
        (None, "an iterable of names, not None"),
        (["old", 5], "names, not 5"),
        ([[]], r"names, not \[\]"),
    ):
        with pytest.raises(datamanager.InvalidDataError, match=f"configured must .*{said}"):
            filled.get_orphaned_models(wrong)  # type: ignore[arg-type]


def test_storage(filled: DataManager, path: str) -> None:
    filled.add_model_requests("big", [ROW] * 50_000)
    stats = filled.get_storage_stats()
    assert list(stats) == ["file_bytes", "free_bytes", "log_bytes", "models"]
    assert stats["log_bytes"] == os.path.getsize(path + "-wal")
    models = stats["models"]
    assert list(models) == ["old", "other", "big"]
    assert {name: (m["requests"], m["runs"]) for name, m in models.items()} == {
        "old": (100, 1),
        "other": (100, 1),
        "big": (50_000, 0),
    }
    assert models["old"]["bytes"] == models["other"]["bytes"] >= 4 * 4096
    assert 1e6 < models["big"]["bytes"] < stats["file_bytes"]
    assert stats["free_bytes"] == 0
    filled.delete_model_tables("big")
    after = filled.get_storage_stats()
    assert after["free_bytes"] == 0
    assert after["file_bytes"] <= stats["file_bytes"] - models["big"]["bytes"] + 3 * 4096
    filled.close()
    assert os.path.getsize(path) == after["file_bytes"]


def test_storage_of_memory_and_of_a_read_only_handle(filled: DataManager, path: str) -> None:
    with DataManager(":memory:", models=["m"]) as memory:
        assert memory.get_storage_stats()["models"]["m"]["requests"] == 0
        assert memory.get_storage_stats()["log_bytes"] == 0
        assert memory.vacuum()[0] > 0
    with DataManager(path, read_only=True) as reader:
        assert reader.get_storage_stats() == filled.get_storage_stats()
        with pytest.raises(datamanager.ReadOnlyError):
            reader.vacuum()


def free_much(dm: DataManager, path: str, in_steps: bool, rows: int = 50_000) -> None:
    """Room in the middle of the file, as other programs make it; then all is in the file."""
    dm.add_model_requests("big", [ROW] * rows)
    dm.add_model_requests("other", [ROW] * 5_000)
    safe = dm.get_safe_model_name("big")
    dm.close()
    with closing(sqlite3.connect(path)) as other:
        other.execute(f'DELETE FROM "{safe}_requests"')
        other.commit()
        if not in_steps:
            other.execute("PRAGMA auto_vacuum=NONE")
            other.execute("VACUUM")
            other.execute("CREATE TABLE room AS SELECT randomblob(2000000)")
            other.execute("DROP TABLE room")


@pytest.mark.parametrize("in_steps", [True, False])
def test_vacuum(filled: DataManager, path: str, in_steps: bool) -> None:
    kept, told = records(filled, "old"), []
    free_much(filled, path, in_steps)
    with DataManager(path) as filled, DataManager(path) as second:
        free = filled.get_storage_stats()["free_bytes"]
        assert records(second, "old") == kept and free > 1e6
        before, after = filled.vacuum(lambda done, total: told.append((done, total)))
        pages = free // 4096
        assert told == sorted(told) and (told[-1] == (pages, pages) if in_steps else not told)
        assert records(second, "old") == kept
        assert second.add_model_request("old", ROW) == 101
        assert after <= before - free + 2 * 4096  # what tells of the pages
        assert filled.get_storage_stats()["free_bytes"] == 0
        assert os.path.getsize(path) <= after + 4096  # written back already: nobody was reading
        assert filled.check() == []
        assert filled.vacuum(lambda *_: told.append(None)) == (after, after)
        assert told[-1] is None  # from now on it goes in steps in any case


def test_vacuum_stopped(filled: DataManager, path: str) -> None:
    free_much(filled, path, True, 500_000)
    with DataManager(path) as dm:
        kept, free = records(dm, "old"), dm.get_storage_stats()["free_bytes"]
        with pytest.raises(ZeroDivisionError):
            dm.vacuum(lambda done, total: 1 // (done - done))
        assert 0 < dm.get_storage_stats()["free_bytes"] < free
        assert records(dm, "old") == kept and dm.check() == []


@pytest.mark.slow
def test_ctrl_c_ends_a_vacuum_of_a_file_from_elsewhere(
    filled: DataManager, path: str, ctrl_c: Callable[[], None]
) -> None:
    """In its one long transaction: afterwards the file is as it was."""
    kept = records(filled, "old")
    filled.add_model_requests("large", [ROW] * 1_000_000)
    free_much(filled, path, False)
    with DataManager(path) as dm, closing(sqlite3.connect(path)) as other:
        free = dm.get_storage_stats()["free_bytes"]
        with pytest.raises(KeyboardInterrupt), once_locked(path, ctrl_c):
            dm.vacuum()
        assert other.execute("PRAGMA auto_vacuum").fetchone() == (0,)
        assert dm.get_storage_stats()["free_bytes"] == free
        assert records(dm, "old") == kept and dm.check() == []
        before, after = dm.vacuum()
        assert before - after >= free - 4096 * 100


def test_room_in_a_batch_comes_back_later(filled: DataManager) -> None:
    filled.add_model_requests("big", [ROW] * 50_000)
    with filled.batch():
        filled.delete_model_tables("big")
    assert filled.get_storage_stats()["free_bytes"] > 1e6
    filled.delete_model_tables("other")
    assert filled.get_storage_stats()["free_bytes"] == 0


def test_vacuum_waits_for_the_lock(path: str) -> None:
    with DataManager(path, busy_timeout=0.05, models=["m"]) as dm:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(datamanager.BusyError):
                dm.vacuum()
        assert dm.vacuum()[0] > 0
        assert dm.add_model_request("m", ROW) == 1


@pytest.mark.slow
def test_vacuum_killed(filled: DataManager, path: str) -> None:
    filled.add_model_requests("big", [ROW] * 100_000)
    kept = records(filled, "old")
    code = (
        "import sys, datamanager\ndm = datamanager.DataManager(sys.argv[1])\n"
        "print('ready', flush=True)\nwhile True: dm.vacuum()"
    )
    for number in range(10):
        child = start(code, path)
        try:
            child.wait(number * 0.005)  # the moment of the kill, not a synchronisation
        except subprocess.TimeoutExpired:
            child.kill()
        child.communicate()
        assert child.returncode == -9
        assert records(filled, "old") == kept
    filled.close()
    sound(Path(path))


def test_other_processes_survive_a_vacuum(filled: DataManager, path: str) -> None:
    with writers(path, 2):
        while "b" not in filled.get_models():
            pass
        for _ in range(5):
            filled.vacuum()
    with DataManager(path) as dm:
        assert len(dm.get_model_requests("a")) == len(dm.get_model_requests("b"))


def test_a_merge_that_is_not_wanted(dm: DataManager) -> None:
    dm.add_model_request("a", [1, 1, 1, 0, 1])
    dm.add_model_request("b", [2, 1, 1, 0, 1])
    with pytest.raises(InvalidDataError, match=r"^there is a model 'b' already"):
        dm.rename_model("a", "b", merge=False)
    with pytest.raises(InvalidDataError, match=r"^there is a model 'b' already"), dm.batch():
        dm.add_model_request("a", [3, 1, 1, 0, 1])
        dm.rename_model("a", "b", merge=False)
    assert [len(dm.get_model_requests(name)) for name in ("a", "b")] == [1, 1]
    dm.rename_model("a", "a", merge=False)
    dm.rename_model("a", "c", merge=False)
    with dm.batch():
        dm.rename_model("c", "b", merge=True)
    assert dm.get_models() == ["b"] and len(dm.get_model_requests("b")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("call", ["delete", "rename"])
def test_what_ctrl_c_ends_is_undone(
    dm: DataManager, path: str, ctrl_c: Callable[[], None], call: str
) -> None:
    """Though SQLite drops a table in one breath. A loaded machine may be late: the best of ten."""
    dm.add_model_requests("small", [ROW] * 10)
    for _ in range(10):
        dm.add_model_requests("large", [ROW] * 500_000)
        small = len(dm.get_model_requests("small"))
        with pytest.raises(KeyboardInterrupt), once_locked(path, ctrl_c):
            if call == "delete":
                dm.delete_model_tables("large")
            else:
                dm.rename_model("large", "small")
        if "large" in dm.get_models():
            break
    assert len(dm.get_model_requests("large")) == 500_000
    assert len(dm.get_model_requests("small")) == small and dm.check() == []
