"""What a command returns to the shell, and what it says, by the kind of error."""

from __future__ import annotations

import errno
import sys

from datamanager.cli.terminal import Paint

FAILED, USAGE, MISSING, BUSY, UNUSABLE, REFUSED, STORAGE, WARNED = range(1, 9)
STOPPED, OUTPUT_GONE = 130, 141  # as a shell counts a program that SIGINT or SIGPIPE ended

# The first that the error is an instance of counts.
_CODES = (
    ("InvalidDataError", USAGE),
    ("ModelNotFoundError", MISSING),
    ("TierNotFoundError", MISSING),
    ("RunNotFoundError", MISSING),
    ("BusyError", BUSY),
    ("CorruptDataError", UNUSABLE),
    ("DamagedDatabaseError", UNUSABLE),
    ("ForeignDatabaseError", UNUSABLE),
    ("NewerDatabaseError", UNUSABLE),
    ("ReadOnlyError", REFUSED),
    ("CannotOpenError", REFUSED),
    ("DiskFullError", STORAGE),
    ("StorageError", STORAGE),
    ("FileMovedError", STORAGE),
)

# Of a path that is none to open or to write, where nothing is wrong with the disk.
_NO_FILE = (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS)


def printable(text: str) -> str:
    """``tables.printable``, imported when there is something to say."""
    from datamanager import tables

    return tables.printable(text)


class UsageError(ValueError):
    """The command line makes no sense; the message says which part."""


def _said(error: Exception) -> str:
    """What it says; of the system's errors, without numbers and quotes."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def explained(error: Exception) -> tuple[int, str]:
    """The code and one line for what is the user's or the file's; anything else is raised."""
    import datamanager

    def line(code: int) -> tuple[int, str]:
        name = Paint(sys.stderr).red("datamanager:")
        return code, f"{name} {printable(_said(error))}"

    if isinstance(error, UsageError):
        return line(USAGE)
    for name, code in _CODES:
        if isinstance(error, getattr(datamanager, name)):
            return line(code)
    if isinstance(error, FileNotFoundError):
        return line(MISSING)
    if isinstance(error, PermissionError):
        return line(REFUSED)
    if isinstance(error, (datamanager.DataManagerError, ValueError)):
        return line(FAILED)
    if isinstance(error, OSError):
        return line(REFUSED if error.errno in _NO_FILE else STORAGE)
    raise error
