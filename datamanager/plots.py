"""Plots of usage for notebooks, with plotly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datamanager._core import InvalidDataError
from datamanager.tables import printable
from datamanager.windows import Zone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from datamanager._core import UsageRow

_NUMBERS = (
    "requests", "input_tokens", "output_tokens", "cache_n", "prompt_n", "cache_hit_share",
    "tokens_per_second", "runtime_seconds", "token_cost", "runtime_cost", "cost",
)  # fmt: skip
# Where names of any length leave the plot its room.
_BELOW = {
    "orientation": "h",
    "yref": "container",
    "y": 0.02,
    "yanchor": "bottom",
    "traceorder": "normal",
}
_UPLOADS = ["sendChartToCloud"]  # plotly 7 has this button; what was used is nobody else's
_RATES = ("cache_hit_share", "tokens_per_second")  # which do not add up


def plain(text: str) -> str:
    """A name in which plotly finds no markup, TeX or template."""
    return "".join(f"&#{ord(sign)};" if sign in "&<>$%" else sign for sign in printable(text))


def _bars(rows: Sequence[UsageRow], what: str) -> list[dict[str, Any]]:
    """One for each row, which is a model's."""
    return [
        {
            "type": "bar",
            "x": [plain(str(row.model)) for row in rows],
            "y": [getattr(row, what) for row in rows],
        }
    ]


def _series(rows: Sequence[UsageRow], what: str, zone: Zone) -> list[dict[str, Any]]:
    """Bars that stack, or lines of what does not add up; one for each model."""
    models: dict[str, list[UsageRow]] = {}
    for row in rows:
        models.setdefault(str(row.model), []).append(row)
    form: dict[str, Any] = {"type": "scatter", "mode": "lines+markers", "connectgaps": True}
    if what not in _RATES:
        form = {"type": "bar", "offset": 0}
    traces = []
    for model, lines in models.items():
        edges = [(row.start or 0.0, row.end or 0.0) for row in lines]
        widths = [1000 * (end - start) for start, end in edges]  # milliseconds
        traces.append(
            {
                **form,
                "name": plain(model),
                "x": [zone.local(start) for start, _ in edges],
                "y": [getattr(row, what) for row in lines],
                **({"width": widths} if form["type"] == "bar" else {}),
            }
        )
    return traces


def figure(rows: Sequence[UsageRow], what: str, tz: tzinfo | None) -> Any:
    """A plotly Figure of one column of the rows, in the time of the zone."""
    if what not in _NUMBERS:
        raise InvalidDataError(f"what must be one of {', '.join(_NUMBERS)}, not {what!r}")
    try:
        from plotly.graph_objects import Figure
    except ImportError:
        raise ImportError("plots need plotly: pip install 'datamanager[report]'") from None
    over_time = any(row.start is not None and row.end is not None for row in rows)
    traces = _series(rows, what, Zone(tz)) if over_time else _bars(rows, what)
    axis = {"title": {"text": what}, "rangemode": "tozero"}
    if what == "cache_hit_share":
        axis["tickformat"] = ".0%"
    layout = {
        "barmode": "stack",
        "yaxis": axis,
        "xaxis": {"automargin": True},
        "legend": _BELOW,
        "margin": {"t": 40, "b": 20},
        "modebar": {"remove": _UPLOADS},
    }
    return Figure(data=traces, layout=layout)
