"""Tables of results: rows are records, columns are arrays, and both print well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, tzinfo
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Generic, TypeVar, overload
from unicodedata import category, east_asian_width

from datamanager import _core

Row = TypeVar("Row")

ROWS_SHOWN = 40
_TIMES = {
    "start", "end", "since", "started", "last_heartbeat", "first_request", "last_request",
    "timestamp",
}  # fmt: skip


def width(text: str) -> int:
    """How many columns of a terminal the text takes: wide characters two, combining ones none."""
    return sum(
        0 if category(sign) in ("Mn", "Me") else 2 if east_asian_width(sign) in "WF" else 1
        for sign in text
    )


def printable(text: str) -> str:
    """The text with what a terminal would obey, or not show, spelled out: ``\\x1b``, ``\\u202e``.

    That holds for controls, for marks that turn the direction of text, and for line separators.
    """
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or category(sign) == "Zs" else ascii(sign)[1:-1] for sign in text
    )


def _padded(text: str, columns: int, left: bool) -> str:
    space = " " * (columns - width(text))
    return text + space if left else space + text


def clock(moment: float, tz: tzinfo | None = None) -> str:
    """Wall-clock time to the second; epoch seconds where no calendar reaches."""
    try:
        return datetime.fromtimestamp(moment, tz).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return repr(moment)


def layout(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Aligned columns: the first ``text_columns`` to the left, numbers to the right."""
    widths = [max(map(width, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(
            _padded(cell, columns, number < text_columns)
            for number, (cell, columns) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]
    return "\n".join(lines)


def _cell(name: str, value: Any, zone: tzinfo | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name in _TIMES:
        return clock(value, zone)
    if name.endswith("_share") or name == "availability":
        return f"{value:.1%}"
    if isinstance(value, float):
        return f"{value:,.6f}" if name.endswith("cost") else f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))


def _lines(rows: Iterable[Any], names: Sequence[str], zone: tzinfo | None) -> list[list[str]]:
    return [
        [_cell(name, getattr(row, name), zone) for name in names]
        for row in islice(rows, ROWS_SHOWN)
    ]


def _is_number(rows: Iterable[Any], name: str) -> bool:
    values = (getattr(row, name) for row in islice(rows, ROWS_SHOWN))
    return name not in _TIMES and not any(isinstance(value, str) for value in values)


def html_of(rows: Any, names: Sequence[str] | None = None, zone: tzinfo | None = None) -> str:
    """The first of the rows as a table for notebooks; without ``names`` all columns."""
    import html

    names = list(rows.columns) if names is None else names
    sides = ["right" if _is_number(rows, name) else "left" for name in names]

    def line_of(tag: str, cells: Sequence[str]) -> str:
        parts = (
            f'<{tag} style="text-align: {side}">{html.escape(cell)}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line_of("td", line) for line in _lines(rows, names, zone))
    left = len(rows) - ROWS_SHOWN
    more = f"<p>… and {left:,} more rows</p>" if left > 0 else ""
    return (
        f'<table style="white-space: nowrap"><thead>{line_of("th", names)}</thead>'
        f"<tbody>{body}</tbody></table>{more}"
    )


class Table(Generic[Row]):
    """A read-only sequence of records that is also columns.

    ``table[3]`` is a record, ``table[1:3]`` a table, ``table["requests"]`` a column (a ``Column``,
    which NumPy and others read without a copy; a list where it is text). pandas, polars, pyarrow
    and DuckDB take the whole table through Arrow.
    """

    # Not a collections.abc.Sequence: polars would then take the records and never ask for columns.

    # name and Arrow format of each field that has a column
    _columns: ClassVar[tuple[tuple[str, str], ...]]
    _shown: ClassVar[tuple[str, ...]]

    def __init__(self, rows: Sequence[Row], zone: tzinfo | None = None) -> None:
        self._rows = list(rows)
        self._zone = zone  # in which times are printed; None: the machine's

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Table[Row]: ...
    @overload
    def __getitem__(self, at: str) -> Any: ...
    def __getitem__(self, at: int | slice | str) -> Any:
        if isinstance(at, str):
            return self._column(at)
        return type(self)(self._rows[at], self._zone) if isinstance(at, slice) else self._rows[at]

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Table):
            return type(self) is type(other) and self._rows == other._rows
        return self._rows == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __reversed__(self) -> Iterator[Row]:
        return reversed(self._rows)

    def __contains__(self, row: object) -> bool:
        return row in self._rows

    def index(self, row: Row) -> int:
        """Where the row is; ValueError where it is not."""
        return self._rows.index(row)

    def count(self, row: Row) -> int:
        """How often the row is there."""
        return self._rows.count(row)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [name for name, _ in self._columns]

    def _values(self, name: str) -> list[Any]:
        return [getattr(row, name) for row in self._rows]

    def _column(self, name: str) -> Any:
        if dict(self._columns)[name] == "u":
            return self._values(name)
        return self._arrow.column(name)

    @cached_property
    def _arrow(self) -> _core.Table:
        return _core.Table(
            (
                name,
                kind,
                map(str, self._values(name)) if name.endswith("_exact") else self._values(name),
            )
            for name, kind in self._columns
        )

    def __arrow_c_schema__(self) -> object:
        """The columns, as a capsule of an ArrowSchema."""
        return self._arrow.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows, as a capsule of an ArrowArrayStream."""
        return self._arrow.__arrow_c_stream__(requested_schema)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._rows, self._zone)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} rows>"

    def _held(self) -> list[str]:
        """The columns that print: of those that are shown, the ones that hold anything."""
        seen = self._rows[:ROWS_SHOWN]
        return [n for n in self._shown if any(getattr(r, n) is not None for r in seen) or not seen]

    def __str__(self) -> str:
        if not self._rows:
            return repr(self)
        left = len(self) - ROWS_SHOWN
        more = f"\n… and {left:,} more rows" if left > 0 else ""
        names = self._held()
        return layout(names, _lines(self, names, self._zone)) + more

    def _repr_html_(self) -> str:
        return html_of(self, self._held(), self._zone)
