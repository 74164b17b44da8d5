from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
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


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """Sends it to the main thread; who runs the tests may have had it ignored."""
    main = threading.main_thread().ident
    assert main is not None
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.pthread_kill(main, signal.SIGINT)
    signal.signal(signal.SIGINT, before)
