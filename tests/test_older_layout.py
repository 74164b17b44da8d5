"""Databases of the class that this package replaces."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import datamanager
from datamanager import DataManager, Tariff, TierPricing

NAMES = ["Qwen3-Coder-30B", "模型 🦙", "plain"]


def safe(name: str) -> str:
    with DataManager(":memory:") as dm:
        return dm.get_safe_model_name(name)


def build_older(
    path: str, cache_columns: bool = True, rows: int = 50, names: list[str] = NAMES
) -> None:
    db = sqlite3.connect(path)
    db.execute(
        "CREATE TABLE model_name_mapping (id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " original_name TEXT UNIQUE NOT NULL, safe_name TEXT UNIQUE NOT NULL,"
        " created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"
    )
    db.execute(
        "CREATE TABLE program_runtime (id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " start_time REAL NOT NULL, end_time REAL NOT NULL)"
    )
    db.execute("INSERT INTO program_runtime(start_time, end_time) VALUES (1, 9)")
    more = (
        ", support_cache BOOLEAN NOT NULL DEFAULT 0,"
        " cache_hit_price_per_million REAL NOT NULL DEFAULT 0.0"
        if cache_columns
        else ""
    )
    for i, name in enumerate(names):
        s = safe(name)
        db.execute(
            "INSERT INTO model_name_mapping(original_name, safe_name) VALUES (?, ?)", [name, s]
        )
        db.executescript(
            f"CREATE TABLE {s}_runtime (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " start_time REAL NOT NULL, end_time REAL NOT NULL);"
            f"CREATE TABLE {s}_requests (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp REAL NOT"
            " NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,"
            " cache_n INTEGER NOT NULL, prompt_n INTEGER NOT NULL);"
            f"CREATE TABLE {s}_tier_pricing (tier_index INTEGER PRIMARY KEY,"
            " start_tokens INTEGER NOT NULL, end_tokens INTEGER NOT NULL,"
            " input_price_per_million REAL NOT NULL, output_price_per_million REAL NOT NULL"
            f"{more});"
            f"CREATE TABLE {s}_hourly_price (id INTEGER PRIMARY KEY CHECK (id = 1),"
            " hourly_price REAL NOT NULL DEFAULT 0);"
            f"CREATE TABLE {s}_billing_method (id INTEGER PRIMARY KEY CHECK (id = 1),"
            " use_tier_pricing BOOLEAN NOT NULL DEFAULT 1);"
            f"INSERT INTO {s}_hourly_price VALUES (1, {i}.5);"
            f"INSERT INTO {s}_billing_method VALUES (1, {i % 2});"
            f"INSERT INTO {s}_runtime(start_time, end_time) VALUES (1, 5), (6, 7);"
        )
        placeholder = i == 0
        values = [1, 0, 32768, 0.0, 0.0] if placeholder else [1, 0, 32768, 2.0, 8.0]
        if cache_columns:
            values += [0, 0.0] if placeholder else [1, 0.4]
        db.execute(f"INSERT INTO {s}_tier_pricing VALUES ({','.join('?' * len(values))})", values)
        db.executemany(
            f"INSERT INTO {s}_requests(timestamp, input_tokens, output_tokens, cache_n, prompt_n)"
            " VALUES (?, 2, 3, 4, 5)",
            [[float(t)] for t in range(rows)],
        )
    db.commit()
    db.close()


def check(path: str, cache_columns: bool = True, rows: int = 50) -> None:
    with DataManager(path) as dm:
        assert dm.get_models() == NAMES
        assert [(r.start_time, r.end_time) for r in dm.get_program_runtime()] == [(1.0, 9.0)]
        for i, name in enumerate(NAMES):
            billing = dm.get_model_billing(name)
            assert (billing.use_tier_pricing, billing.hourly_price) == (i % 2 == 1, i + 0.5)
            tier = TierPricing(1, 0, 32768, 2.0, 8.0, cache_columns, 0.4 if cache_columns else 0.0)
            assert billing.tier_pricing == ([] if i == 0 else [tier])
            assert dm.get_price_history(name) == [  # they have held since ever
                Tariff(None, i % 2 == 1, i + 0.5, "graduated", billing.tier_pricing)
            ]
            assert [r.timestamp for r in dm.get_model_requests(name)] == list(range(rows))[::-1]
            assert [r.id for r in dm.get_model_runtime(name)] == [2, 1]


@pytest.mark.parametrize("cache_columns", [True, False])
def test_adoption_twice(path: str, cache_columns: bool) -> None:
    build_older(path, cache_columns)
    check(path, cache_columns)
    check(path, cache_columns)
    with DataManager(path) as dm:  # a placeholder does not stand in the way
        assert dm.add_tier_pricing(NAMES[0], [1, 0, 10, 1, 1, False, None]) == 1


def test_the_older_class_comes_back(path: str) -> None:
    build_older(path)
    check(path)
    s = safe(NAMES[1])
    db = sqlite3.connect(path)
    db.execute(
        f"CREATE TABLE {s}_hourly_price (id INTEGER PRIMARY KEY, hourly_price REAL NOT NULL)"
    )
    db.execute(f"INSERT INTO {s}_hourly_price VALUES (1, 42.0)")
    db.commit()
    db.close()
    with DataManager(path) as dm:
        assert dm.get_model_billing(NAMES[1]).hourly_price == 42.0


def come_back(path: str, name: str, hourly_price: float = 0, by_tiers: int = 1) -> None:
    """The older class is started: it makes its tables where they are missing, with its defaults."""
    s = safe(name)
    db = sqlite3.connect(path)
    db.executescript(
        f"CREATE TABLE {s}_hourly_price (id INTEGER PRIMARY KEY, hourly_price REAL);"
        f"CREATE TABLE {s}_billing_method (id INTEGER PRIMARY KEY, use_tier_pricing BOOLEAN);"
        f"INSERT INTO {s}_hourly_price VALUES (1, {hourly_price});"
        f"INSERT INTO {s}_billing_method VALUES (1, {by_tiers});"
        f"INSERT OR IGNORE INTO {s}_tier_pricing VALUES (1, 0, 32768, 0, 0, 0, 0)"
    )
    db.close()


def test_what_the_older_class_begins_with_says_nothing(path: str) -> None:
    with DataManager(path) as dm:
        dm.set_pricing("m", hourly_price=2.5, use_tier_pricing=False)
    come_back(path, "m")
    with DataManager(path) as dm:
        assert dm.get_price_history("m") == [Tariff(None, False, 2.5, "graduated", [])]
        assert dm.get_model_billing("m") == datamanager.ModelBilling(False, 2.5, [])


def test_what_the_older_class_has_set_holds_from_the_open(path: str) -> None:
    with DataManager(path) as dm:
        dm.set_pricing("m", hourly_price=1.0, use_tier_pricing=False)
    come_back(path, "m", hourly_price=3600, by_tiers=0)
    with DataManager(path) as dm:
        history = dm.get_price_history("m")
        assert [tariff.hourly_price for tariff in history] == [1.0, 3600.0]
        assert dm.get_price_history("m") == history
        end = (history[1].effective_from or 0) + 1
        dm.add_model_runtime_start("m", end - 1)
        dm.update_model_runtime_end("m", end)
        assert dm.usage("m")[0].cost == 1.0


def test_values_that_are_not_there(path: str) -> None:
    """NULL says nothing, whatever table it is in: what a model begins with stays."""
    build_older(path)
    db = sqlite3.connect(path)
    for kind, column in (
        ("_hourly_price", "hourly_price"),
        ("_billing_method", "use_tier_pricing"),
    ):
        table = safe(NAMES[0]) + kind
        db.executescript(
            f"DROP TABLE {table}; CREATE TABLE {table}(id INTEGER PRIMARY KEY, {column});"
            f"INSERT INTO {table} VALUES (1, NULL)"
        )
    db.close()
    with DataManager(path) as dm:
        assert dm.get_model_billing(NAMES[0]) == datamanager.ModelBilling(True, 0.0, [])


def test_processes_at_once(path: str) -> None:
    """None waits for ever for another that adopts it, though it has no log yet."""
    build_older(path, names=[f"older {i}" for i in range(200)], rows=2)
    code = (
        "import sys, datamanager;"
        "print(len(datamanager.DataManager(sys.argv[1], busy_timeout=10).get_models()))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate()[0] for process in processes] == ["200\n"] * 4


def test_read_only_does_not_adopt(path: str) -> None:
    build_older(path)
    before = Path(path).read_bytes()
    with pytest.raises(datamanager.ReadOnlyError, match="older layout"):
        DataManager(path, read_only=True)
    assert Path(path).read_bytes() == before


def test_kill_in_the_middle(tmp_path: Path) -> None:
    """Killed at the n-th write of the file's own system calls: all old or all new, never half."""
    code = (
        "import sys, ctypes, resource, datamanager\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))\n"
        "datamanager.DataManager(sys.argv[1])\n"
    )
    killed = 0
    size = 0
    for round_ in range(12):
        path = str(tmp_path / f"{round_}.db")
        build_older(path, rows=200)
        size = Path(path).stat().st_size
        # SIGXFSZ ends the process at the write that passes the limit: a kill at a chosen moment.
        limit = 4096 * (1 + 2 * round_)
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                code.replace("import sys", "import signal, sys").replace(
                    "resource.setrlimit",
                    "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nresource.setrlimit",
                ),
                path,
                str(limit),
            ],
            capture_output=True,
            timeout=60,
            check=False,
        )
        killed += done.returncode == -signal.SIGXFSZ
        check(path, rows=200)
    assert size > 4096
    assert killed >= 3
