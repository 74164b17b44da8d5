"""Opening and closing, a hundred thousand times: memory, references and file handles stay flat.

What is measured, and that a leak of each kind is found, is in tests/test_leaks.py.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

import pytest
from test_leaks import leaks

from datamanager import DataManager, InvalidDataError

OPENS = int(os.environ.get("DM_OPENS", "100000"))


def use(path: str) -> None:
    with DataManager(path) as dm:
        dm.get_models()
        dm.add_model_request("m", [1.0, 2, 3, 4, 5], request_id="the same")


def look(path: str) -> None:
    with DataManager(path, read_only=True) as dm:
        dm.get_model_requests("m")


def fail(path: str) -> None:
    with pytest.raises(InvalidDataError):
        DataManager(path, models=["a", ""])


def forget(path: str) -> None:
    DataManager(path)  # not closed


KINDS: dict[str, tuple[Callable[[str], None], float]] = {
    "open": (lambda path: DataManager(path).close(), 0.2),
    "use": (use, 0.05),
    "look": (look, 0.1),
    "fail": (fail, 0.1),
    "forget": (forget, 0.1),
    "in memory": (lambda path: DataManager(":memory:").close(), 0.1),
    "second handle": (lambda path: DataManager(path).close(), 0.35),
}


@pytest.mark.parametrize("kind", KINDS)
def test_flat(kind: str) -> None:
    call, share = KINDS[kind]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:  # where no disk is waited for
        path = f"{folder}/usage.db"
        with DataManager(path, models=["m"]) as dm:
            if kind != "second handle":
                dm.close()
            assert leaks(lambda: call(path), int(OPENS * share)) == {}
