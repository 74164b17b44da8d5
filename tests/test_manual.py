"""The manual runs: every block of it, as it stands."""

from __future__ import annotations

import logging
import re
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import datamanager

MANUAL = (ROOT / "docs" / "manual.zh.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", MANUAL, re.S | re.M)


def test_every_python_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "data_manager.py").write_text("from datamanager.compat import *\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name == "core" or name.startswith("core.")]:
        monkeypatch.delitem(sys.modules, name)
    namespace: dict[str, Any] = {"time": time, "logger": logging.getLogger("manual")}
    found = blocks("python")
    assert len(found) >= 20
    for i, block in enumerate(found):
        # Some blocks close the manager, and the next go on with an open one.
        if i > 0 and namespace["data_manager"].closed:
            exec("data_manager = DataManager()", namespace)
        exec(compile(block, f"manual block {i}", "exec"), namespace)
    namespace["worker_thread"]()
    namespace["batch_add_requests"](namespace["data_manager"], "m", [[1, 2, 3, 4, 5]])
    namespace["data_manager"].close()
    assert (tmp_path / "webui" / "monitoring.db").exists()


def described(
    connection: sqlite3.Connection, table: str
) -> tuple[list[object], bool, list[object]]:
    columns = [row[1:] for row in connection.execute(f'PRAGMA table_info("{table}")')]
    sql = connection.execute("SELECT sql FROM sqlite_schema WHERE name=?", [table]).fetchone()[0]
    unique = sorted(
        tuple(c[2] for c in connection.execute(f'PRAGMA index_info("{index[1]}")'))
        for index in connection.execute(f'PRAGMA index_list("{table}")')
        if index[2]
    )
    return columns, "AUTOINCREMENT" in sql, unique


def test_schema(dm: datamanager.DataManager, path: str) -> None:
    dm.add_model_request("m", [1, 2, 3, 4, 5])
    safe = dm.get_safe_model_name("m")
    wanted = sqlite3.connect(":memory:")
    (schema,) = blocks("sql")
    wanted.executescript(schema.replace("{safe_name}", safe))
    ours = sqlite3.connect(path)
    tables = [row[0] for row in wanted.execute("SELECT name FROM sqlite_schema WHERE sql NOT NULL")]
    assert len(tables) == 7
    for table in tables:
        if table != "sqlite_sequence":
            assert described(ours, table) == described(wanted, table)
    ours.close()
    wanted.close()
