"""The command line as a user meets it: real processes, and real files of every kind."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from datamanager import DataManager

COMMAND = [sys.executable, "-m", "datamanager"]
READING = [
    ["models"],
    ["status"],
    ["performance"],
    ["storage"],
    ["usage"],
    ["cost"],
    ["requests"],
    ["runtime"],
    ["prices", "show"],
    ["prices", "history"],
]
BEGIN = 1_760_000_000  # 2025-10-09T08:53:20Z
HOSTILE = "<script>alert(1)</script>\x1b]0;owned\x07\x1b[31m\u202e\"'&\u009b31m"
WIDE = "通义千问-32B-指令微调版"


def environment(**changes: str) -> dict[str, str]:
    """This process's, without what would change the output."""
    own = ("NO_COLOR", "DATAMANAGER_DB", "TERM", "COLUMNS", "LINES")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return {**kept, "TERM": "xterm-256color", "COLUMNS": "", **changes}


def run(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env=environment(**env),
    )


def run_as_nobody(
    *arguments: str, command: Sequence[str] = COMMAND
) -> subprocess.CompletedProcess[str]:
    """Root may write to any file; so this is another user where the tests are root's."""
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*(user if os.geteuid() == 0 else []), *command, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(),
    )
    if done.returncode in (126, 127):
        pytest.skip("another user may not start this Python")
    return done


def fill(path: Path, names: list[str], requests: int = 200) -> None:
    """A small database: tiers, an hourly model where there are two, runs, two days of requests."""
    with DataManager(path, durability="normal") as dm:
        for number, name in enumerate(names):
            rows = [
                [BEGIN + 7 + i * 172_800 / requests, 1000 + i * 37, 200 + i, i * 3, 1000 + i * 34]
                for i in range(requests)
            ]
            dm.add_model_requests(name, rows)
            tiers = [[1, 0, 2000, 2.0, 8.0, True, 0.4], [2, 2000, 0, 4.0, 16.0, False, 0]]
            dm.set_pricing(name, tiers=tiers, hourly_price=0.7, use_tier_pricing=number != 1)
            dm.add_model_runtime_start(name, BEGIN)
            dm.update_model_runtime_end(name, BEGIN + 100_000 + number)
        dm.add_program_runtime_start(BEGIN)
        dm.update_program_runtime_end(BEGIN + 172_800)


def in_milliseconds(dm: DataManager, model: str, row: list[float]) -> None:
    """A request whose time another program has written so; this one refuses it."""
    row_id = dm.add_model_request(model, row)
    with closing(sqlite3.connect(dm.db_path)) as other, other:
        table = f"{dm.get_safe_model_name(model)}_requests"
        other.execute(f"UPDATE {table} SET timestamp = timestamp * 1000 WHERE id = ?", [row_id])


def damaged(path: Path) -> None:
    """A database whose pages after the first are no more what they were."""
    fill(path, ["m"])
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE another_programs (a)")
        other.commit()


def older(path: Path) -> None:
    """As the host's class of before left it."""
    with closing(sqlite3.connect(path)) as host:
        host.executescript(
            "CREATE TABLE model_name_mapping (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " original_name TEXT UNIQUE NOT NULL, safe_name TEXT UNIQUE NOT NULL,"
            " created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);"
            "CREATE TABLE program_runtime (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " start_time REAL NOT NULL, end_time REAL NOT NULL);"
        )
