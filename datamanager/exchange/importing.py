"""Requests of files, checked, and added exactly once."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import re
import tempfile
from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from datamanager import _core
from datamanager._core import CannotOpenError, InvalidDataError
from datamanager.exchange.formats import (
    COUNTS,
    FIELDS,
    REQUIRED,
    format_of,
    full_disk_named,
    require_callable,
)
from datamanager.exchange.reading import NO_UTF8, Reader, Record, reader
from datamanager.windows import Zone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import tzinfo

    from datamanager.manager import DataManager

    Progress = Callable[[int, int], object]

_ROWS_AT_ONCE = 1000  # of a model, in one transaction: writers beside wait for some milliseconds
_ROWS_KEPT = 20_000  # of all models
_BAD_LINES_KEPT = 1000
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_SHOWN_MAX = 1000  # characters of a value that is refused
_COLUMNS_SHOWN_MAX = 300
_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)


class BadLine(NamedTuple):
    """A line of which nothing was added."""

    line: int
    text: str


class ImportResult(NamedTuple):
    """What became of a file's lines: ``read`` is the sum of the next three."""

    read: int
    added: int
    known: int  # that were there already
    bad: int
    bad_lines: list[BadLine]  # the first 1,000


class Request(NamedTuple):
    """A line that would be accepted."""

    model: str
    timestamp: float
    counts: tuple[int, ...]
    duration: float | None
    first_token: float | None
    request_id: str | None


# ---- values ----


def _number(value: Any) -> Any:
    """Text that is a number, as one; anything else as it is, for the core to judge."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else value


def _seconds(value: Any, zone: Zone) -> Any:
    """Epoch seconds of a number, or of a time in ISO 8601."""
    found = _number(value)
    if not isinstance(found, (str, datetime)):
        return found
    try:
        moment = datetime.fromisoformat(found.strip()) if isinstance(found, str) else found
        return moment.timestamp() if moment.tzinfo is not None else zone.moment(moment)
    except (ValueError, OverflowError, OSError):
        shown = repr(value)
        if len(shown) > _SHOWN_MAX:  # such messages are kept
            shown = f"{shown[:_SHOWN_MAX]}..."
        raise InvalidDataError(
            f"timestamp must be seconds since 1970 or like 2026-10-05T12:30:00, not {shown}"
        ) from None


def _names_given(columns: object) -> dict[str, str]:
    """What ``columns`` says, checked: the file's names for some fields."""
    if columns is None:
        return {}
    if not isinstance(columns, Mapping):
        raise InvalidDataError(f"columns must map fields to the file's names, not {columns!r}")
    unknown = sorted(str(field) for field in columns if field not in FIELDS)
    if unknown:
        known = ", ".join(FIELDS)
        raise InvalidDataError(f"columns may name {known}, not {', '.join(unknown)}")
    for field, name in columns.items():
        if not isinstance(name, str):
            raise InvalidDataError(f"columns: the name of {field} must be a str, not {name!r}")
    return dict(columns)


# What can be done about a column that is not there: the command line has other words for it.
SEE_MODEL, SEE_COLUMNS = "(model= names one for all lines)", "(see columns=)"


def _only(found: list[str]) -> str:
    """What there is where a column is missing, and what is likely wrong with it."""
    if not found:
        return "nor another"
    shown = ", ".join(map(repr, found))
    if len(shown) > _COLUMNS_SHOWN_MAX:
        shown = f"{shown[:_COLUMNS_SHOWN_MAX]}..."
    if any(map(NO_UTF8.search, found)):
        return f"only {shown}, which are not UTF-8"
    for sign in ";\t":
        if len(found) == 1 and sign in found[0]:
            return f"only {shown}, where {sign!r} may be the separator, not ','"
    return f"only {shown}"


class _Fields:
    """From a file's names to requests."""

    def __init__(self, columns: Mapping[str, str] | None, model: str | None, zone: Zone) -> None:
        given = _names_given(columns)
        self._names = {field: field for field in FIELDS} | given
        self.names = frozenset(self._names.values())
        self._asked = set(given)
        self._model, self._zone = model, zone

    def require(self, found: list[str]) -> None:
        """Does a file that has these columns for all its lines have those that it must?"""
        must = {*REQUIRED, *self._asked} | (set() if self._model else {"model"})
        for field in FIELDS:
            name = self._names[field]
            if field in must and name not in found:
                hint = SEE_MODEL if field == "model" else SEE_COLUMNS
                raise InvalidDataError(
                    f"there is no column {name!r} in the file, {_only(found)} {hint}"
                )
            if found.count(name) > 1:
                raise InvalidDataError(f"there are {found.count(name)} columns {name!r}")

    def _value(self, values: dict[str, Any], field: str) -> Any:
        value = values.get(self._names[field])
        return None if value == "" else value

    def request(self, values: dict[str, Any]) -> Request:
        """InvalidDataError says what is wrong with it."""

        def of(field: str) -> Any:
            value = self._value(values, field)
            if value is None and field in REQUIRED:
                raise InvalidDataError(f"there is no {self._names[field]}")
            return value

        model = self._model if of("model") is None else of("model")
        if model is None:
            raise InvalidDataError("there is no model")
        timestamp = _seconds(of("timestamp"), self._zone)
        input_tokens, output_tokens, cache_n, prompt_n = (_number(of(field)) for field in COUNTS)
        if cache_n is None:
            cache_n = 0
        duration, first_token = _number(of("duration")), _number(of("first_token"))
        request_id = of("request_id")
        computed = cache_n if prompt_n is None else prompt_n
        row = [timestamp, input_tokens, output_tokens, cache_n, computed]
        _core._check_request(model, row, duration, first_token, request_id)
        if prompt_n is None:  # what the cache did not serve
            row[4] = max(int(input_tokens) - int(cache_n), 0)
        return Request(
            model, float(timestamp), tuple(map(int, row[1:])), duration, first_token, request_id
        )


# ---- ids of lines that have none ----


class _Occurrences:
    """Which of several equal lines one is. An open table of 64-bit hashes and of how often each was
    seen, in a file without a name, which the system may write out when memory is short."""

    def __init__(self) -> None:
        self._room = 1 << 12
        self._count = 0
        self._slots, self._seen = self._new(self._room)

    @staticmethod
    def _new(room: int) -> tuple[memoryview, memoryview]:
        folder = tempfile.gettempdir()
        with full_disk_named(f"{folder} (TMPDIR)"), tempfile.TemporaryFile(dir=folder) as file:
            # A hole in the file would be filled at the first write to it, and without room for that
            # the system ends the process.
            os.posix_fallocate(file.fileno(), 0, room * 12)
            table = memoryview(mmap.mmap(file.fileno(), room * 12))
        return table[: room * 8].cast("Q"), table[room * 8 :].cast("I")

    def _place(self, key: int) -> int:
        at = key & (self._room - 1)
        while self._slots[at] not in (0, key):
            at = (at + 1) & (self._room - 1)
        return at

    def _grow(self) -> None:
        slots, seen, self._room = self._slots, self._seen, self._room * 4
        self._slots, self._seen = self._new(self._room)
        for key, count in zip(slots, seen, strict=True):
            if key:
                at = self._place(key)
                self._slots[at], self._seen[at] = key, count

    def number(self, key: int) -> int:
        """1 for the first line of this key, 2 for the second …"""
        key = key or 1  # 0 is a free slot
        at = self._place(key)
        self._slots[at] = key
        self._seen[at] += 1
        number = self._seen[at]
        self._count += number == 1
        if self._count * 2 > self._room:
            self._grow()
        return number


class _Ids:
    """A line is known by what is in it, and by how many equal ones came before it."""

    def __init__(self) -> None:
        self._occurrences: _Occurrences | None = None

    def of(self, request: Request) -> str:
        if request.request_id is not None:
            return request.request_id
        if self._occurrences is None:
            self._occurrences = _Occurrences()
        duration, first = (
            None if seconds is None else float(seconds)
            for seconds in (request.duration, request.first_token)
        )
        content = f"{request.timestamp!r} {request.counts} {duration!r} {first!r}".encode()
        # No name has a NUL, and without one first_token 0.5 of "4o" would be 0.54 of "o".
        key = blake2b(content + b"\0" + request.model.encode(), digest_size=8).digest()
        number = self._occurrences.number(int.from_bytes(key))
        return f"line:{blake2b(content, digest_size=12).hexdigest()}:{number}"


# ---- all of it ----

_COLUMNS = ("timestamp", *COUNTS, "duration", "first_token", "request_id")


class _Import:
    def __init__(self, dm: DataManager, on_bad_line: Callable[[int, str], object] | None) -> None:
        self._dm = dm
        self._on_bad_line = on_bad_line
        self._ids = _Ids()
        self._waiting: dict[str, list[tuple[Any, ...]]] = {}
        self._kept = self._read = self._added = self._bad = 0
        self._bad_lines: list[BadLine] = []

    def bad(self, line: int, text: str) -> None:
        self._read += 1
        self._bad += 1
        if self._bad <= _BAD_LINES_KEPT:
            self._bad_lines.append(BadLine(line, text))
        if self._on_bad_line is not None:
            self._on_bad_line(line, text)

    def add(self, request: Request) -> None:
        self._read += 1
        rows = self._waiting.setdefault(request.model, [])
        timings = (request.duration, request.first_token)
        rows.append((request.timestamp, *request.counts, *timings, self._ids.of(request)))
        self._kept += 1
        if len(rows) >= _ROWS_AT_ONCE:
            self._store(request.model)
        elif self._kept >= _ROWS_KEPT:
            self.flush()

    def _store(self, model: str) -> None:
        rows = self._waiting.pop(model)
        self._kept -= len(rows)
        columns = dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True))
        self._added += self._dm._import(model, columns)

    def flush(self) -> None:
        for model in list(self._waiting):
            self._store(model)

    def result(self) -> ImportResult:
        known = self._read - self._added - self._bad
        return ImportResult(self._read, self._added, known, self._bad, self._bad_lines)


def _refused(result: ImportResult) -> InvalidDataError:
    first = result.bad_lines[0]
    count = f"{result.bad} bad line{'s' if result.bad > 1 else ''}"
    return InvalidDataError(
        f"nothing was imported: {count}, the first is line {first.line}: {first.text}"
    )


def _requests(
    records: Reader, fields: _Fields, bad: Callable[[int, str], object], progress: Progress | None
) -> Iterator[Request]:
    for number, record in enumerate(records, 1):
        request = _request(record, fields, bad)
        if request is not None:
            yield request
        if progress is not None and number % _ROWS_AT_ONCE == 0:
            progress(records.done, records.total)


def _request(record: Record, fields: _Fields, bad: Callable[[int, str], object]) -> Request | None:
    if record.fault:
        bad(record.line, record.fault)
        return None
    try:
        return fields.request(record.values)
    except InvalidDataError as error:
        bad(record.line, f"{'' if record.is_utf8 else 'the line is not UTF-8: '}{error}")
        return None


def _check_model(model: str | None) -> None:
    """Once, and not in each line."""
    if model is None:
        return
    try:
        _core._check_request(model, (0, 0, 0, 0, 0), None, None, None)
    except InvalidDataError as error:
        raise InvalidDataError(str(error).replace("model_name", "model", 1)) from None


@functools.cache
def _that_is(built_in: type[OSError]) -> type[CannotOpenError]:
    """As each error of the package it is one of ours and the built-in one."""
    if built_in is OSError:
        return CannotOpenError

    def reduce(error: OSError) -> tuple[Any, ...]:
        return _cannot_open, (error.errno, error.strerror, error.filename)

    bases, body = (CannotOpenError, built_in), {"__module__": "datamanager", "__reduce__": reduce}
    return type("CannotOpenError", bases, body)


def _cannot_open(code: int, text: str, path: str) -> CannotOpenError:
    built_in: type = type(OSError(code, text))  # FileNotFoundError, IsADirectoryError …
    return _that_is(built_in)(code, text, path)


@contextlib.contextmanager
def _opened(path: str, format: str) -> Iterator[TextIO | None]:
    # Closing any descriptor of a database drops the locks that SQLite has on it.
    if _core._is_open(path):
        raise InvalidDataError(f"{path} is a database that is open, not a file of requests")
    try:
        file = open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise _cannot_open(error.errno or 0, error.strerror or str(error), path) from None
    with file:
        yield None if format == "parquet" else file


def import_requests(
    dm: DataManager,
    src: str | os.PathLike[str],
    format: str | None,
    model: str | None,
    columns: Mapping[str, str] | None,
    tz: str | tzinfo | None,
    strict: bool,
    on_bad_line: Callable[[int, str], object] | None,
    progress: Progress | None,
) -> ImportResult:
    """See ``DataManager.import_requests``."""
    if dm.closed:
        raise _core.ClosedError("the data manager is closed")
    path = os.fsdecode(src)
    format = format_of(path, format)
    if strict not in (False, True):
        raise InvalidDataError(f"strict must be True or False, not {strict!r}")
    fields = _Fields(columns, model, Zone(tz))
    require_callable(on_bad_line, "on_bad_line")
    require_callable(progress, "progress")
    _check_model(model)
    job = _Import(dm, on_bad_line)
    with _opened(path, format) as file:
        if strict and file is not None and not file.seekable():
            raise InvalidDataError(f"strict reads {path} twice, which it does not allow")

        def begun() -> Reader:
            records = reader(path, format, file, fields.names)
            if records.columns is not None:
                fields.require(records.columns)
            return records

        if strict:
            for _ in _requests(begun(), fields, job.bad, progress):
                pass
            if job.result().bad:
                raise _refused(job.result())
            if file is not None:
                file.seek(0)
        records = begun()
        for request in _requests(records, fields, job.bad, progress):
            job.add(request)
        job.flush()
        if progress is not None:
            total = records.total or records.done
            progress(total, total)
    return job.result()
