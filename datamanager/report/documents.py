"""A report as Markdown, JSON and CSV."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from datamanager.report import tables
from datamanager.report.tables import Grid, Texts
from datamanager.report.texts import texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from datamanager.cli.output import Listing
    from datamanager.report.data import Report

# What Markdown or the HTML in it would read as markup.
_MARKUP = re.compile(r"([\\`*_\[\]<>|&~$])")


def window_of(report: Report, t: Texts) -> list[tuple[str, str]]:
    """From when to when, by whose clock, and when the report was made."""
    return [
        (t["from"], tables.name_of(report, report.start)),
        (t["to"], tables.name_of(report, report.end)),
        (t["zone"], t["local"] if report.zone.tz is None else str(report.zone.tz)),
        (t["made"], tables.name_of(report, report.made)),
    ]


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)


def _row(cells: Iterable[str], left: int) -> str:
    escaped = [_escaped(cell) if at < left else cell for at, cell in enumerate(cells)]
    return "| " + " | ".join(escaped) + " |"


def _grid(grid: Grid) -> list[str]:
    marks = ["---" if at < grid.left else "---:" for at in range(len(grid.header))]
    rows = [_row(row, grid.left) for row in grid.rows]
    foot = [] if grid.foot is None else [_row((f"**{c}**" if c else "" for c in grid.foot), 0)]
    return [_row(grid.header, 0), _row(marks, 0), *rows, *foot]


def _speed(report: Report, t: Texts) -> list[str]:
    return [*_grid(tables.latency(report, t)), "", t["latency_note"]]


def markdown(report: Report, language: str) -> str:
    """The tables of the report."""
    t = texts(language)
    parts: list[tuple[str, Sequence[str]]] = [
        (t["title"], [f"- {name}: {value}" for name, value in window_of(report, t)]),
        (t["summary"], [f"- {name}: {value}" for name, value in tables.summary(report, t)]),
        (t["models"], _grid(tables.models(report, t))),
        *([(t["latency_by_model"], _speed(report, t))] if len(report.speed) else []),
        (t["invoice"], _grid(tables.invoice(report, t))),
        (t["prices"], [*_grid(tables.prices(report, t)), "", t["per_million"]]),
    ]
    lines: list[str] = []
    for number, (title, text) in enumerate(parts):
        lines += ["#" * min(number + 1, 2) + f" {title}", "", *text, ""]
    return "\n".join(lines)


def invoice_listing(report: Report) -> Listing:
    """The lines of the invoice, which are the report's rows in CSV."""
    from datamanager.cli.output import Field, Listing
    from datamanager.invoice import InvoiceLine

    kinds = {"model": "text", "since": "time"}
    fields = [Field(name, kinds.get(name, "number")) for name in InvoiceLine._fields]
    return Listing(fields, list(report.invoice))


def json_of(report: Report) -> dict[str, Any]:
    """Everything, with the fields of the records."""
    from datamanager.cli.output import values

    def rows(table: Iterable[Any]) -> list[dict[str, Any]]:
        return [dict(zip(row.__match_args__, values(row), strict=True)) for row in table]

    def tariff(model: str, held: Any) -> dict[str, Any]:
        (row,) = rows([held])
        return {"model": model, **row, "tier_pricing": rows(held.tier_pricing)}

    return {
        "window": {"start": report.start, "end": report.end, "tz": _zone_name(report)},
        "made": report.made,
        "total": rows([report.models.total])[0],
        "models": rows(report.models),
        "step": report.step,
        "series": rows(row for row in report.series if row.requests or row.runtime_seconds),
        "performance": rows(report.speed),
        "tokens_by_weekday_and_hour": report.heat,
        "runs": [{"model": strip.model, "spans": strip.spans} for strip in report.strips],
        "invoice": {
            "lines": [line._asdict() for line in report.invoice],
            "total_exact": report.invoice.total,
        },
        "prices": [tariff(model, held) for model, held in report.prices],
    }


def _zone_name(report: Report) -> str | None:
    return None if report.zone.tz is None else str(report.zone.tz)
