"""What the files are made of."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Any

from datamanager._core import DiskFullError, InvalidDataError

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = ("csv", "jsonl", "parquet")
_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")

REQUIRED = ("timestamp", "input_tokens", "output_tokens")
COUNTS = ("input_tokens", "output_tokens", "cache_n", "prompt_n")
FIELDS = ("model", "timestamp", *COUNTS, "duration", "first_token", "request_id")


def _ending(path: str) -> str:
    import os

    return os.path.splitext(path)[1].lower()


def format_of(path: str, given: str | None) -> str:
    """The format that is given, or that the file's name ends in."""
    found = _SUFFIXES.get(_ending(path)) if given is None else given
    if found not in FORMATS:
        what = f"format must be one of {', '.join(FORMATS)}"
        if given is None:
            raise InvalidDataError(f"{what}: the name of {path} does not say which")
        raise InvalidDataError(f"{what}, not {given!r}")
    return str(found)


def format_to_write(path: str, given: str) -> str:
    """The format that is given, which the name of a file must not contradict: whoever reads it goes
    by the name. None is compressed as a whole."""
    found, ending = format_of(path, given), _ending(path)
    named = ending[1:] if ending in _COMPRESSED else _SUFFIXES.get(ending)
    if named not in (None, found):
        raise InvalidDataError(f"format is {found!r}, but the name of {path} says {named!r}")
    return found


@contextlib.contextmanager
def full_disk_named(where: str) -> Iterator[None]:
    """DiskFullError where there is no room, which says where that is."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(f"{where}: {error.strerror}") from error


def require_callable(value: object, field: str) -> None:
    """As the core says it: at once, and not where it would first be called."""
    if value is not None and not callable(value):
        raise TypeError(f"{field} must be callable, not {type(value).__name__}")


def arrow() -> Any:
    """pyarrow with its Parquet module."""
    try:
        import pyarrow.parquet
    except ImportError:
        text = "Parquet files need pyarrow: pip install 'datamanager[parquet]'"
        raise ImportError(text) from None
    return pyarrow
