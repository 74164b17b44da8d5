"""The Chinese manual runs, block by block, in a host that has the drop-in and nothing else.

Every block is executed as it stands, in a folder and with names of its own. What stands before it
was executed too, and hands on its names. The manual's blocks that close the manager (the first,
`使用完成后关闭`: close when you have finished; and the one with `finally`) are followed by blocks
that use it; so what a closing block hands on is what it did before it closed.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import re
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from documents import Block, blocks, left_open, promised, run, text_of

from datamanager import DataManager

MANUAL = "docs/manual.zh.md"
ADDITIONS = "## 本实现的补充说明"
BLOCKS = blocks(MANUAL, "python")
USERS = 22  # blocks of the manual that users have; ours follow
NAME = "Qwen3-Coder-30B"

# What a block prints, by a line of it. Blocks that swallow errors must be seen to have had none.
PRINTED = {
    "获取程序运行历史": r"运行时长: \d+\.\d\d秒\n运行时长: \d+\.\d\d秒",
    "获取最近1小时的请求记录": "最近1小时总token使用: 输入150, 输出80",
    "获取模型计费信息\nbilling_info": "计费模式: 按时计费\n每小时价格: 0.5元",
    "获取模型的安全名称": r"安全名称: model_[0-9a-f]{16}\n原始名称: None",
    "def analyze_model_usage": "模型使用分析: {'model': 'Qwen3-Coder-30B', .*_requests': 10, .*",
    '"invalid_model"': "",
    '"nonexistent_model"': "模型 nonexistent_model 不存在",
    # The block hands the call its own name in place of a manager: its error, not ours.
    "def safe_data_operation": "操作失败: 'str' object is not callable",
}


def forget_host() -> None:
    for name in [name for name in sys.modules if name == "core" or name.startswith("core.")]:
        del sys.modules[name]


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """All that the test supplies: `time`, `logger`, and the host's file with the drop-in line."""
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "data_manager.py").write_text("from datamanager.compat import *\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    forget_host()
    importlib.invalidate_caches()
    names: dict[str, Any] = {"time": time, "logger": logging.getLogger("manual")}
    yield names
    for value in list(names.values()):
        if isinstance(value, DataManager):
            value.close()
    forget_host()


def read(names: dict[str, Any], upto: list[Block]) -> None:
    for block in upto:
        run(left_open(block), names)


@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=lambda number: str(BLOCKS[number]))
def test_block(names: dict[str, Any], number: int, capsys: pytest.CaptureFixture[str]) -> None:
    read(names, BLOCKS[:number])
    capsys.readouterr()
    block = BLOCKS[number]
    run(block, dict(names))
    printed = capsys.readouterr().out.strip()
    if promised(block):
        assert printed.splitlines() == promised(block)
    for line, wanted in PRINTED.items():
        if line in block.code:
            assert re.fullmatch(wanted, printed), printed


def test_what_is_printed_belongs_to_one_block_each() -> None:
    for line in PRINTED:
        assert sum(line in block.code for block in BLOCKS) == 1, line


def test_what_the_blocks_define_works(names: dict[str, Any]) -> None:
    read(names, BLOCKS[:USERS])
    assert Path("custom.db").is_file()
    names["worker_thread"]()
    with DataManager() as dm:
        assert len(dm.get_model_runtime("model_name")) == 2  # the thread's and the context's
    manager = names["data_manager"]
    rows = [[1, 2, 3, 4, 5], [1, 2, 3, 4, -5], [2, 2, 3, 4, 5]]
    names["batch_add_requests"](manager, "m", rows)
    assert [request.timestamp for request in manager.get_model_requests("m")] == [2.0, 1.0]
    done, error = names["safe_data_operation"](manager, type(manager).get_models)
    assert (done, error) == ([NAME, "m"], None)
    names["database_maintenance"](manager)


def test_the_users_blocks_are_unchanged() -> None:
    """What users have in hand: their blocks and the schema."""
    contract, _, additions = text_of(MANUAL).partition(f"\n{ADDITIONS}\n")
    assert additions
    fenced = re.findall(r"^```(\w+)\n(.*?)^```$", contract, re.S | re.M)
    assert [language for language, _ in fenced].count("python") == USERS
    digest = hashlib.sha256("".join(code for _, code in fenced).encode()).hexdigest()
    assert digest == "35f90dbffbc1fd7b6b676dfdcf9e8e59b004083e93002c69391cecbd132d7aeb"


def described(connection: sqlite3.Connection, table: str) -> dict[str, Any]:
    """Each column (type, NOT NULL, default, key), what is unique, and whether ids are used once."""
    quoted = f'"{table}"'
    (sql,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name=?", [table]).fetchone()
    return {
        "columns": [row[1:] for row in connection.execute(f"PRAGMA table_info({quoted})")],
        "autoincrement": "AUTOINCREMENT" in sql,
        "unique": sorted(
            [column[2] for column in connection.execute(f'PRAGMA index_info("{index[1]}")')]
            for index in connection.execute(f"PRAGMA index_list({quoted})")
            if index[2]
        ),
    }


TABLES = re.findall(r"^CREATE TABLE (\S+) \($", blocks(MANUAL, "sql")[0].code, re.M)


@pytest.mark.parametrize("table", TABLES)
def test_schema(tmp_path: Path, table: str) -> None:
    with DataManager(tmp_path / "usage.db") as dm:
        dm.add_model_request(NAME, [1, 2, 3, 4, 5])
        safe = dm.get_safe_model_name(NAME)
    table = table.replace("{safe_name}", safe)
    with (
        closing(sqlite3.connect(":memory:")) as wanted,
        closing(sqlite3.connect(tmp_path / "usage.db")) as ours,
    ):
        (schema,) = blocks(MANUAL, "sql")
        wanted.executescript(schema.code.replace("{safe_name}", safe))
        assert described(ours, table) == described(wanted, table)


def test_schema_is_whole(tmp_path: Path) -> None:
    """The file holds the manual's tables; beside them, only what carries our name."""
    with DataManager(tmp_path / "usage.db") as dm:
        dm.set_pricing(NAME, hourly_price=1.0)
        safe = dm.get_safe_model_name(NAME)
    with closing(sqlite3.connect(tmp_path / "usage.db")) as ours:
        found = {
            row[0] for row in ours.execute("SELECT name FROM sqlite_schema WHERE type='table'")
        }
    beside = {name for name in found if name.startswith(("sqlite_", "datamanager_"))}
    assert found - beside == {table.replace("{safe_name}", safe) for table in TABLES}
    assert len(TABLES) == 6
