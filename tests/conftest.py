from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import datamanager

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "usage.db")


@pytest.fixture
def dm(path: str) -> Iterator[datamanager.DataManager]:
    with datamanager.DataManager(path) as manager:
        yield manager
