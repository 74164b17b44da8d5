"""Plots of usage for notebooks, with plotly."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from datamanager._core import InvalidDataError
from datamanager.tables import printable

if TYPE_CHECKING:
    from datamanager._core import UsageRow
    from datamanager.usage import UsageTable

_NUMBERS = (
    "requests", "input_tokens", "output_tokens", "cache_n", "prompt_n", "cache_hit_share",
    "tokens_per_second", "runtime_seconds", "token_cost", "runtime_cost", "cost",
)  # fmt: skip
_RATES = ("cache_hit_share", "tokens_per_second")  # which do not add up


def plain(text: str) -> str:
    """A name in which plotly finds no markup, TeX or template."""
    return "".join(f"&#{ord(sign)};" if sign in "&<>$%" else sign for sign in printable(text))


def _bars(table: UsageTable, what: str) -> list[dict[str, Any]]:
    """One for each model of a table that has one bucket."""
    return [
        {
            "type": "bar",
            "x": [plain(str(row.model)) for row in table],
            "y": [getattr(row, what) for row in table],
        }
    ]


def _moment(table: UsageTable, moment: float) -> datetime:
    return datetime.fromtimestamp(moment, table.tz).replace(tzinfo=None)


def _series(table: UsageTable, what: str) -> list[dict[str, Any]]:
    """Bars that stack, or lines of what does not add up; one for each model."""
    models: dict[str, list[UsageRow]] = {}
    for row in table:
        models.setdefault(str(row.model), []).append(row)
    form: dict[str, Any] = {"type": "scatter", "mode": "lines+markers", "connectgaps": True}
    if what not in _RATES:
        form = {"type": "bar", "offset": 0}
    traces = []
    for model, rows in models.items():
        edges = [(row.start or 0.0, row.end or 0.0) for row in rows]
        widths = [1000 * (end - start) for start, end in edges]  # milliseconds
        traces.append(
            {
                **form,
                "name": plain(model),
                "x": [_moment(table, start) for start, _ in edges],
                "y": [getattr(row, what) for row in rows],
                **({"width": widths} if form["type"] == "bar" else {}),
            }
        )
    return traces


def figure(table: UsageTable, what: str) -> Any:
    """A plotly Figure of one column of the table."""
    if what not in _NUMBERS:
        raise InvalidDataError(f"what must be one of {', '.join(_NUMBERS)}, not {what!r}")
    try:
        from plotly.graph_objects import Figure
    except ImportError:
        raise ImportError("plots need plotly: pip install 'datamanager[report]'") from None
    over_time = any(row.start is not None and row.end is not None for row in table)
    traces = _series(table, what) if over_time else _bars(table, what)
    axis = {"title": {"text": what}, "rangemode": "tozero"}
    if what == "cache_hit_share":
        axis["tickformat"] = ".0%"
    return Figure(data=traces, layout={"barmode": "stack", "yaxis": axis})
