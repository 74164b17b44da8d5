"""Forks of a process whose four other threads write, and which ends before its children.

The control is in tests/test_fork.py: SQLite's way, to leak and to open anew, loses rows.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from forking import CHILDREN
from test_fork import all_rows_are_there, run

FORKS = int(os.environ.get("DM_FORKS", "100"))


@pytest.mark.parametrize("number", range(FORKS // CHILDREN))
def test_forks(tmp_path: Path, number: int) -> None:
    busy, pause, _ = run("ours", "os.fork", tmp_path)
    all_rows_are_there(tmp_path, "os.fork", busy)
    print(f"{CHILDREN} forks, of which the longest took {pause * 1000:.0f} ms; {busy} rows beside")
    assert pause < 1
