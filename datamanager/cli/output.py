"""Results as a table for people, as JSON and as CSV for programs.

JSON has the values as Python does: times are epoch seconds, amounts that end in ``_exact`` text.
CSV, which people open in spreadsheets, has times in ISO 8601 with their offset.
"""

from __future__ import annotations

import io
import sys
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from datamanager.cli.terminal import Paint, columns
from datamanager.tables import clock, layout, printable, width
from datamanager.windows import Zone

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TextIO

_NAME_COLUMNS_MIN = 12  # a name is cut no shorter


class Field(NamedTuple):
    """A column: its name in JSON and CSV, what it holds, and how a table calls it (None: hides)."""

    name: str
    kind: str  # one of _SHOWN
    title: str | None = None


class Listing(NamedTuple):
    """Rows, in the order of the fields; ``about`` is what else the JSON object holds."""

    fields: Sequence[Field]
    rows: Iterable[Sequence[Any]]
    total: Sequence[Any] | None = None
    about: Mapping[str, Any] = MappingProxyType({})
    note: str = ""  # a last line under the table


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: ``26:03:04``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


_TIMES = ("time", "since")

_SHOWN: dict[str, Callable[[Any, Zone], str]] = {
    "text": lambda value, zone: printable(value),
    "time": lambda value, zone: clock(value, zone.tz),
    "since": lambda value, zone: clock(value, zone.tz) if value else "ever",
    "count": lambda value, zone: f"{value:,}",
    "bound": lambda value, zone: f"{value:,}" if value > 0 else "∞",
    "number": lambda value, zone: f"{value:,.2f}",
    "price": lambda value, zone: f"{value:,.12f}".rstrip("0").rstrip("."),
    "money": lambda value, zone: f"{value:,.6f}",
    "share": lambda value, zone: f"{value:.1%}",
    "seconds": lambda value, zone: duration(value),
    "thousandths": lambda value, zone: f"{value:,.3f}",
    "flag": lambda value, zone: "yes" if value else "no",
}


def _shown(kind: str, value: Any, zone: Zone) -> str:
    return "-" if value is None and kind != "since" else _SHOWN[kind](value, zone)


# ---- tables ----


def _part(text: str, limit: int) -> str:
    """As much of the text's beginning as ``limit`` columns hold."""
    used = 0
    for at, sign in enumerate(text):
        used += width(sign)
        if used > limit:
            return text[:at]
    return text


def _cut(text: str, limit: int) -> str:
    """The text in at most ``limit`` columns, with an ellipsis where it was longer."""
    return text if width(text) <= limit else _part(text, limit - 1) + "…"


def _block(header: Sequence[str], row: Sequence[str], room: int) -> Iterator[str]:
    label = max(map(width, header)) + 2
    for name, value in zip(header, row, strict=True):
        left = value
        while left or left is value:
            part = _part(left, max(room - label, 2))
            begin = name if left is value else ""
            yield (begin + " " * (label - width(begin)) + part).rstrip()
            left = left[len(part) :]


def _blocks(header: Sequence[str], rows: Iterable[Sequence[str]], room: int) -> str:
    """A line for each value, or more, for terminals that are too narrow for rows."""
    return "\n\n".join("\n".join(_block(header, row, room)) for row in rows)


def fitted(header: Sequence[str], rows: Sequence[Sequence[str]], names: int, room: int) -> str:
    """The table in ``room`` columns: its first ``names`` columns are cut, or values get lines."""
    widths = [max(map(width, column)) for column in zip(header, *rows, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - room
    limits = list(widths)
    for at in sorted(range(names), key=lambda at: -widths[at]):
        limits[at] = max(widths[at] - max(excess, 0), min(widths[at], _NAME_COLUMNS_MIN))
        excess -= widths[at] - limits[at]
    if excess > 0:
        return _blocks(header, rows, room)
    cut = [
        [_cut(cell, limit) for cell, limit in zip(row, limits, strict=True)]
        for row in (header, *rows)
    ]
    return layout(cut[0], cut[1:], names)


def wrapped(text: str, room: int | None) -> list[str]:
    """The text in lines of at most ``room`` columns; None: in one."""
    if room is None or width(text) <= room:
        return [text]
    import textwrap

    return textwrap.wrap(text, room)


def _table(listing: Listing, zone: Zone) -> Iterator[str]:
    shown = [(at, f) for at, f in enumerate(listing.fields) if f.title is not None]
    names = next(
        (n for n, (_, f) in enumerate(shown) if f.kind not in ("text", *_TIMES)), len(shown)
    )
    header = [str(f.title) for _, f in shown]
    lines = [[_shown(f.kind, row[at], zone) for at, f in shown] for row in listing.rows]
    if not lines:
        yield listing.note or "nothing there"
        return
    if listing.total is not None:
        lines.append([_shown(f.kind, listing.total[at], zone) for at, f in shown])
        lines[-1][: names or 1] = ["total", *[""] * (names - 1)]
    room, paint = columns(sys.stdout), Paint(sys.stdout)
    text = layout(header, lines, names) if room is None else fitted(header, lines, names, room)
    rows = text.split("\n")
    if len(rows) == len(lines) + 1:
        rows[0] = paint.bold(rows[0])
        if listing.total is not None:
            rows[-1] = paint.bold(rows[-1])
    yield from rows
    if listing.note:
        yield from wrapped(listing.note, room)


# ---- JSON and CSV ----


def _plain(value: Any) -> Any:
    return f"{value:f}" if isinstance(value, Decimal) else value


def json_text(value: Any) -> str:
    """JSON in which nothing is raw that a terminal would obey."""
    import json

    text: str = json.dumps(value, ensure_ascii=False, default=_plain)
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text)


def _json_lines(listing: Listing) -> Iterator[str]:
    names = [f.name for f in listing.fields]
    about = (f"{json_text(key)}: {json_text(value)}" for key, value in listing.about.items())
    yield "{" + ", ".join((*about, '"rows": ['))
    earlier = None
    for row in listing.rows:
        if earlier is not None:
            yield earlier + ","
        earlier = json_text(dict(zip(names, row, strict=True)))
    if earlier is not None:
        yield earlier
    if listing.total is None:
        yield "]}"
    else:
        yield f'], "total": {json_text(dict(zip(names, listing.total, strict=True)))}}}'


def _iso(value: float, zone: Zone) -> str:
    from datetime import datetime

    try:
        return datetime.fromtimestamp(value, zone.tz).astimezone(zone.tz).isoformat()
    except (ValueError, OverflowError, OSError):
        return clock(value)


def _csv(listing: Listing, zone: Zone, stream: TextIO) -> None:
    import csv

    def cell(kind: str, value: Any) -> Any:
        if kind in _TIMES and value is not None:
            return _iso(value, zone)
        return printable(value) if kind == "text" and live and value is not None else _plain(value)

    live = stream.isatty()
    kinds = [f.kind for f in listing.fields]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(f.name for f in listing.fields)
    for row in listing.rows:
        writer.writerow(cell(kind, value) for kind, value in zip(kinds, row, strict=True))


# ---- for commands ----


def table_lines(options: Namespace, listing: Listing) -> list[str]:
    """The listing as a table that fits the terminal."""
    return list(_table(listing, Zone(options.tz)))


def show(options: Namespace, listing: Listing) -> None:
    """Write the listing in the form that the options ask for."""
    zone = Zone(getattr(options, "tz", None))
    if options.form == "csv":
        _csv(listing, zone, sys.stdout)
        return
    for line in _json_lines(listing) if options.form == "json" else _table(listing, zone):
        sys.stdout.write(line + "\n")


def csv_text(options: Namespace, listing: Listing) -> str:
    """The listing as CSV."""
    stream = io.StringIO()
    _csv(listing, Zone(options.tz), stream)
    return stream.getvalue()


def say(options: Namespace, facts: dict[str, Any], text: str | None = None) -> None:
    """Write what is no table: the text, or a line for each fact."""
    if options.form == "json":
        print(json_text(facts))
    elif options.form == "csv":
        row = [None if value is None else str(value) for value in facts.values()]
        show(options, Listing([Field(name, "text") for name in facts], [row]))
    else:
        lines = [text] if text is not None else [f"{key}: {value}" for key, value in facts.items()]
        print("\n".join(map(printable, lines)))


def fields_of(record: type, kinds: dict[str, str], titles: dict[str, str]) -> list[Field]:
    """A field for each of the record's, in its order; those without a title are not in tables."""
    names: tuple[str, ...] = record.__match_args__  # type: ignore[attr-defined]
    return [Field(name, kinds.get(name, "count"), titles.get(name)) for name in names]


def tier_kinds(record: type) -> dict[str, str]:
    """The kinds of the fields that speak of tiers."""
    names: tuple[str, ...] = record.__match_args__  # type: ignore[attr-defined]
    prices = {name: "price" for name in names if name.endswith("_per_million")}
    return {"end_tokens": "bound", "support_cache": "flag", **prices}


def values(record: Any) -> list[Any]:
    """The record's values, in the order of its fields."""
    return [getattr(record, name) for name in record.__match_args__]
