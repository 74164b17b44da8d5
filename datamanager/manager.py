"""What the C type leaves to Python: exit, and the check for a second copy of SQLite."""

from __future__ import annotations

import atexit
import contextlib
import sys
import weakref

from datamanager import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from typing import Any, Literal

_open: weakref.WeakSet[DataManager] = weakref.WeakSet()
_checked_for_two_copies = False


@atexit.register
def _close_all() -> None:
    for manager in list(_open):
        manager.close()


def _shared_with_stdlib() -> bool | None:
    """Whether the stdlib's sqlite3 runs on our copy: does ours see the memory that it takes?"""
    try:
        import sqlite3
    except ImportError:
        return None
    before = _core.sqlite_info()["memory_used"]
    with contextlib.ExitStack() as stack:  # each connection takes more than ten kilobytes
        for _ in range(16):
            stack.enter_context(contextlib.closing(sqlite3.connect(":memory:")))
        return bool(_core.sqlite_info()["memory_used"] - before > 100_000)


def sqlite_info() -> dict[str, Any]:
    """Which SQLite is in use.

    ``version`` and ``source_id`` are SQLite's own; ``wal_reset_race`` is true where this version
    can lose commits when a foreign program checkpoints; ``shared_with_stdlib`` is false where
    Python's ``sqlite3`` carries a copy of its own, which drops our locks when it closes the same
    file (None where Python has no ``sqlite3``).
    """
    info = _core.sqlite_info()
    del info["memory_used"]
    info["shared_with_stdlib"] = _shared_with_stdlib()
    return info


def _warn_of_two_copies() -> None:
    global _checked_for_two_copies
    if _checked_for_two_copies or "_sqlite3" not in sys.modules:
        return
    _checked_for_two_copies = True
    if _shared_with_stdlib() is False:
        import warnings

        warnings.warn(
            "Python's sqlite3 carries its own copy of SQLite: do not open the same file with both,"
            " or locks are lost and with them data",
            RuntimeWarning,
            stacklevel=3,
        )


class DataManager(_core.Manager):
    """A handle on the usage and billing store in one SQLite file.

    ``db_path`` defaults to ``webui/monitoring.db``; missing folders are made; ``":memory:"`` is
    private to the object. ``models`` are registered at open. ``durability`` is ``"full"`` (a call
    that returned survives a power cut) or ``"normal"`` (it survives a crash of the process).
    ``pool_size`` is the most reader connections of the store, ``busy_timeout`` the most seconds
    that a call waits for locks. ``read_only`` never writes.

    Raises CannotOpenError, ForeignDatabaseError, NewerDatabaseError, DamagedDatabaseError,
    BusyError, and InvalidDataError for an option out of range.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None = None,
        *,
        models: Iterable[str] | None = None,
        durability: Literal["full", "normal"] = "full",
        pool_size: int = 10,
        busy_timeout: float = 30.0,
        read_only: bool = False,
    ) -> None:
        super().__init__(
            db_path,
            models=models,
            durability=durability,
            pool_size=pool_size,
            busy_timeout=busy_timeout,
            read_only=read_only,
        )
        _open.add(self)
        _warn_of_two_copies()
