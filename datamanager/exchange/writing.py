"""Writers of files: the core hands them its requests in parts."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from itertools import repeat
from typing import IO, TYPE_CHECKING, Any, Self

from datamanager import windows
from datamanager.exchange.formats import (
    COUNTS,
    FIELDS,
    arrow,
    format_to_write,
    full_disk_named,
    require_callable,
)
from datamanager.usage import names_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from datamanager.manager import DataManager

    Progress = Callable[[int, int], object]

_ROWS_OF_A_GROUP = 65_536  # of Parquet

_Columns = tuple[list[Any], ...]  # those of FIELDS but the model


class _Writer:
    """One of each format; ``begin``, ``take`` and ``end`` are what the core calls."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def begin(self, path: str) -> None:
        raise NotImplementedError

    def write(self, model: str, columns: _Columns) -> None:
        raise NotImplementedError

    def take(self, model: str, columns: _Columns, done: int, total: int) -> None:
        self.write(model, columns)
        if self._progress is not None:
            self._progress(done, total)

    def end(self) -> None:
        self._opened.close()


class _Text(_Writer):
    _file: IO[str]

    def begin(self, path: str) -> None:
        self._file = self._opened.enter_context(open(path, "w", encoding="utf-8", newline=""))


class _Csv(_Text):
    """A header, and numbers as Python shows them, which is exact."""

    def begin(self, path: str) -> None:
        super().begin(path)
        self._rows = csv.writer(self._file)
        self._rows.writerow(FIELDS)

    def write(self, model: str, columns: _Columns) -> None:
        self._rows.writerows(zip(repeat(model), *columns))


class _Jsonl(_Text):
    """An object a line; what is not known is left out."""

    _encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    def _lines(self, model: str, columns: _Columns) -> Iterator[str]:
        for values in zip(repeat(model), *columns):
            known = {
                field: value
                for field, value in zip(FIELDS, values, strict=True)
                if value is not None
            }
            yield f"{self._encode(known)}\n"

    def write(self, model: str, columns: _Columns) -> None:
        self._file.writelines(self._lines(model, columns))


class _Parquet(_Writer):
    def __init__(self, progress: Progress | None) -> None:
        super().__init__(progress)
        self._arrow = arrow()
        kinds = {"model": self._arrow.string(), "request_id": self._arrow.string()}
        kinds |= dict.fromkeys(COUNTS, self._arrow.int64())
        self._schema = self._arrow.schema(
            [(field, kinds.get(field, self._arrow.float64())) for field in FIELDS]
        )
        self._waiting: list[Any] = []

    def begin(self, path: str) -> None:
        # The format has a checksum of each page, which is not written unless it is asked for.
        writer = self._arrow.parquet.ParquetWriter(path, self._schema, write_page_checksum=True)
        self._file = self._opened.enter_context(writer)

    def write(self, model: str, columns: _Columns) -> None:
        names = [model] * len(columns[0])
        part = dict(zip(FIELDS, (names, *columns), strict=True))
        self._waiting.append(self._arrow.RecordBatch.from_pydict(part, schema=self._schema))
        if sum(batch.num_rows for batch in self._waiting) >= _ROWS_OF_A_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(self._arrow.Table.from_batches(self._waiting, self._schema))
            self._waiting.clear()

    def end(self) -> None:
        self._flush()
        super().end()


_WRITERS: dict[str, type[_Writer]] = {"csv": _Csv, "jsonl": _Jsonl, "parquet": _Parquet}


def export(
    dm: DataManager,
    dest: str | os.PathLike[str],
    format: str,
    models: str | Iterable[str] | None,
    start: float | datetime | None,
    end: float | datetime | None,
    progress: Progress | None,
    overwrite: bool,
) -> int:
    """See ``DataManager.export``."""
    names, path = names_of(models), os.fsdecode(dest)
    window = windows.window(None, start, end)
    require_callable(progress, "progress")
    with full_disk_named(path), _WRITERS[format_to_write(path, format)](progress) as writer:
        return dm._export(dest, overwrite, names, *window, writer)
