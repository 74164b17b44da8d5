"""Readers of files: the records in them, with the numbers of their lines."""

from __future__ import annotations

import codecs
import contextlib
import csv
import json
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from datamanager._core import InvalidDataError
from datamanager.exchange.formats import arrow

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

_LINE_MAX = 1 << 20  # characters; a longer one is no request, and would have to be in memory
_TOO_LONG = f"the line has more than {_LINE_MAX} characters"
_ROWS_AT_ONCE = 4096  # of Parquet
NO_UTF8 = re.compile("[\udc80-\udcff]")  # what stands for such bytes
_NO_TEXT = {
    b"\x1f\x8b": "the file is compressed by gzip: decompress it first",
    codecs.BOM_UTF16_LE: "the file is UTF-16, and must be UTF-8",
    codecs.BOM_UTF16_BE: "the file is UTF-16, and must be UTF-8",
}
_BYTES_AT_ONCE = 1 << 16  # of a column of it; or all that a group of rows has would be read at once


class Record(NamedTuple):
    """What a line holds, by the file's own names; or why it cannot be read."""

    line: int  # from 1; of Parquet the row
    values: dict[str, Any]
    fault: str = ""
    is_utf8: bool = True


class Reader:
    """The records of a file. ``columns`` are its names, where it has the same for all records;
    ``done`` of ``total``, which is 0 where it is not known, has been read."""

    columns: list[str] | None = None
    total = 0

    @property
    def done(self) -> int:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Record]:
        raise NotImplementedError


class _Text(Reader):
    """Bytes that are no UTF-8 become what no name may hold: where they matter they are refused."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        begin = file.buffer.peek(2)  # type: ignore[attr-defined]
        for mark, said in _NO_TEXT.items():
            if begin.startswith(mark):
                raise InvalidDataError(said)
        self._has_position = file.seekable()
        self._counted = 0  # bytes, where it has none
        self.total = os.fstat(file.fileno()).st_size if self._has_position else 0
        self._line = 0  # how many have been read
        self._too_long = False
        self._is_utf8 = True

    @property
    def done(self) -> int:
        """Bytes; a buffer's more than have been looked at."""
        return self._file.buffer.tell() if self._has_position else self._counted

    def _part(self) -> str:
        part = self._file.readline(_LINE_MAX)
        if not self._has_position:
            self._counted += len(part.encode(errors="surrogateescape"))
        return part

    def _next(self) -> str:
        """The next line; one that is too long is cut, and its rest skipped."""
        line = rest = self._part()
        while len(rest) == _LINE_MAX and not rest.endswith(("\n", "\r")):
            rest = self._part()
            self._too_long = True
        self._line += bool(line)
        if not line.isascii() and NO_UTF8.search(line):
            self._is_utf8 = False
        return line


class _Csv(_Text):
    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        self._rows = csv.reader(iter(self._next, ""), strict=True)
        try:
            self.columns = next(self._rows, [])
        except csv.Error as error:
            raise InvalidDataError(f"the header cannot be read: {error}") from None

    def __iter__(self) -> Iterator[Record]:
        assert self.columns is not None
        while True:
            line = self._line + 1
            self._too_long, self._is_utf8 = False, True
            try:
                row = next(self._rows)
            except StopIteration:
                return
            except csv.Error as error:
                upto = f" (up to line {self._line})" if self._line > line else ""
                yield Record(line, {}, f"{error}{upto}")
                continue
            if self._too_long:
                yield Record(line, {}, _TOO_LONG)
            elif len(row) == len(self.columns):
                yield Record(line, dict(zip(self.columns, row, strict=True)), "", self._is_utf8)
            elif row:  # not an empty line
                yield Record(line, {}, f"there are {len(row)} values, not {len(self.columns)}")


class _Jsonl(_Text):
    def __iter__(self) -> Iterator[Record]:
        while line := self._next():
            too_long, self._too_long = self._too_long, False
            is_utf8, self._is_utf8 = self._is_utf8, True
            if too_long:
                yield Record(self._line, {}, _TOO_LONG)
                continue
            try:
                values = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError) as error:
                yield Record(self._line, {}, f"no JSON: {error}")
                continue
            if isinstance(values, dict):
                yield Record(self._line, values, "", is_utf8)
            elif line.strip():
                yield Record(self._line, {}, "no JSON object")


class _Parquet(Reader):
    def __init__(self, path: str, wanted: Container[str]) -> None:
        self._arrow = arrow()
        self._path = path
        with self._refused(f"{path} is no Parquet file"):
            self._file = self._arrow.parquet.ParquetFile(
                path,
                buffer_size=_BYTES_AT_ONCE,
                pre_buffer=False,
                page_checksum_verification=True,
            )
        self.columns = list(self._file.schema_arrow.names)
        self.total = self._file.metadata.num_rows
        self._wanted = [name for name in self.columns if name in wanted]
        self._done = 0
        for field in self._file.schema_arrow:
            if field.name in wanted:
                self._require_zone(field.name, field.type)

    @property
    def done(self) -> int:
        """Rows."""
        return self._done

    @contextlib.contextmanager
    def _refused(self, said: str) -> Iterator[None]:
        """An error of the system, which has a number, is raised as it is; the library's others are
        of what is in the file."""
        try:
            yield
        except MemoryError:
            raise
        except (self._arrow.ArrowException, ValueError, OSError) as error:
            if getattr(error, "errno", None) is not None:
                raise
            raise InvalidDataError(f"{said}: {error}") from None

    def _require_zone(self, name: str, kind: Any) -> None:
        """None of the column's times could be read without it."""
        if not self._arrow.types.is_timestamp(kind):
            return
        try:
            self._arrow.scalar(0, kind).as_py()
        except (ValueError, LookupError):
            said = f"{self._path}: the time zone of column {name!r} is not known: {kind.tz!r}"
            raise InvalidDataError(said) from None

    def _plain(self, column: Any) -> Any:
        """Times as Python's datetime can hold them."""
        kind = column.type
        # Of coarser units the cast would not be checked, and wrap.
        if not self._arrow.types.is_timestamp(kind) or kind.unit != "ns":
            return column
        return column.cast(self._arrow.timestamp("us", kind.tz), safe=False)

    def _values(self, name: str, column: Any, faults: dict[int, str]) -> list[Any]:
        """Why there is no value in Python for one that the column has is in ``faults``, by row."""
        column = self._plain(column)
        # ArrowInvalid is a ValueError, and so is text that is no UTF-8.
        with contextlib.suppress(ValueError, OverflowError):
            return list(column.to_pylist())
        values = []
        for row, value in enumerate(column):
            try:
                values.append(value.as_py())
            except (ValueError, OverflowError) as error:
                values.append(None)
                faults[row] = f"{name} cannot be read: {error}"
        return values

    def _batches(self) -> Iterator[Any]:
        batches = self._file.iter_batches(_ROWS_AT_ONCE, columns=self._wanted)
        while True:
            with self._refused(f"{self._path} cannot be read from row {self._done + 1} on"):
                batch = next(batches, None)
            if batch is None:
                break
            yield batch
        # Pages have checksums, but how many rows are to be read of them is written outside.
        if self._done != self.total:
            raise InvalidDataError(
                f"{self._path} is damaged: it has {self._done} rows, and says {self.total}"
            )

    def __iter__(self) -> Iterator[Record]:
        for batch in self._batches():
            faults: dict[int, str] = {}
            columns = [
                self._values(name, column, faults)
                for name, column in zip(self._wanted, batch.columns, strict=True)
            ]
            for row, values in enumerate(zip(*columns, strict=True)):
                self._done += 1
                record = dict(zip(self._wanted, values, strict=True))
                yield Record(self._done, record, faults.get(row, ""))


def reader(path: str, format: str, file: TextIO | None, wanted: Container[str]) -> Reader:
    """Of an open text file; Parquet, of which only what is wanted is read, is opened by its
    library."""
    if file is None:
        return _Parquet(path, wanted)
    return _Csv(file) if format == "csv" else _Jsonl(file)
