"""A report as one page that needs nothing else: its plots are drawn by the plotly in it."""

from __future__ import annotations

import base64
import gzip
import html
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from datamanager.report import tables
from datamanager.report.documents import window_of
from datamanager.report.tables import Grid, Texts
from datamanager.report.texts import texts
from datamanager.tables import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from datamanager._core import UsageRow
    from datamanager.report.data import Report

_MODELS_SHOWN = 12  # in plots; the rest are one
_PLOTS = (
    "cost_over_time",
    "tokens_over_time",
    "share",
    "hit_share_over_time",
    "latency",
    "strips",
    "heat",
)
# Nothing may be loaded, whatever the page says.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline';"
    " img-src data: blob:; base-uri 'none'; form-action 'none'"
)

_PAGE = """<!DOCTYPE html>
<html lang="{lang}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header><h1>{title}</h1>
<dl class="window">{window}</dl></header>
<main>
<section aria-label="{summary_title}"><dl class="summary">{summary}</dl></section>
<noscript><p>{no_script}</p></noscript>
{plots}
{tables}
</main>
<script type="application/json" id="data">{data}</script>
<script type="application/octet-stream" id="plotly">{plotly}</script>
<script>
{script}</script>
</body>
</html>
"""


class PlotlyMissingError(ValueError):
    """The page needs a library that is not there."""


def plotly_library() -> str:
    """plotly.js, packed: gzip in base64, less than half of its size."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise PlotlyMissingError(
            "a page with plots needs plotly: pip install 'datamanager[report]'"
            " (.md, .json and .csv do without)"
        ) from None
    # The same bytes each time: no time of making in them.
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


# ---- what the plots show ----


def _weights(report: Report) -> list[str]:
    """The models, those that cost or were used most first."""
    rows = sorted(report.models, key=lambda row: (-row.cost, -row.input_tokens - row.output_tokens))
    return [str(row.model) for row in rows if row.requests or row.cost or row.runtime_seconds]


def _column(table: Iterable[UsageRow], value: Callable[[UsageRow], Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in table:
        found.setdefault(str(row.model), []).append(value(row))
    return found


def _series(report: Report, shown: Sequence[str], others: str) -> list[dict[str, Any]]:
    """Cost, tokens and cache hit share by step; what is not shown by name is one series."""
    of = {
        "cost": _column(report.series, lambda row: row.cost),
        "input": _column(report.series, lambda row: row.input_tokens),
        "output": _column(report.series, lambda row: row.output_tokens),
        "hits": _column(report.series, lambda row: row.cache_n),
    }
    found = [{"name": printable(name), **{key: of[key][name] for key in of}} for name in shown]
    rest = [name for name in of["cost"] if name not in shown]
    if rest and any(any(of[key][name]) for name in rest for key in of):
        sums = {key: [sum(c) for c in zip(*(of[key][n] for n in rest), strict=True)] for key in of}
        found.append({"name": others, **sums})
    return found


def _local(report: Report, moment: float) -> str:
    try:
        return report.zone.local(moment).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return "9999-12-31T23:59:59"


def _latency(report: Report, t: Texts) -> dict[str, Any]:
    """Percentiles of the models whose requests were timed."""
    rows = report.speed[:_MODELS_SHOWN]
    return {
        "models": [printable(row.model) for row in rows],
        "ranks": [
            {
                "name": f"{t[kind]} {rank}",
                "kind": kind,
                "seconds": [getattr(row, f"{kind}_{rank}") for row in rows],
            }
            for kind in ("duration", "first_token")
            for rank in tables.RANKS
        ],
    }


def plotted(report: Report, t: Texts) -> dict[str, Any]:
    """What the script draws from. Times are those of the report's clock."""
    names = _weights(report)
    shown = names if len(names) <= _MODELS_SHOWN + 1 else names[:_MODELS_SHOWN]
    first = next(iter(report.series), None)
    model = None if first is None else first.model
    buckets = [(row.start or 0.0, row.end or 0.0) for row in report.series if row.model == model]
    strips = report.strips[: 2 * _MODELS_SHOWN]
    return {
        "step": report.step,
        "window": [_local(report, report.start), _local(report, report.end)],
        "x": [_local(report, start) for start, _ in buckets],
        "widths": [1000 * (end - start) for start, end in buckets],  # milliseconds
        "series": _series(report, shown, t["others"]),
        "strips": [
            {
                "name": t["program"] if strip.model is None else printable(strip.model),
                "spans": [[_local(report, low), _local(report, high)] for low, high in strip.spans],
            }
            for strip in strips
        ],
        "latency": _latency(report, t),
        "heat": report.heat,
        "weekdays": t["weekdays"].split(),
        "texts": {key: t[key] for key in ("cost", "tokens", "seconds")},
    }


# ---- HTML ----


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in pairs
    )


def _cells(tag: str, cells: Sequence[str], left: int, keys: Sequence[float | str] | None) -> str:
    def cell(at: int, text: str) -> str:
        key = "" if keys is None else f' data-key="{html.escape(str(keys[at]))}"'
        kind = "" if at < left else ' class="number"'
        return f"<{tag}{kind}{key}>{html.escape(text)}</{tag}>"

    return "<tr>" + "".join(cell(at, text) for at, text in enumerate(cells)) + "</tr>"


def _grid(grid: Grid) -> str:
    body = "\n".join(
        _cells("td", row, grid.left, None if grid.keys is None else grid.keys[at])
        for at, row in enumerate(grid.rows)
    )
    head = _cells("th", grid.header, grid.left, None)
    foot = "" if grid.foot is None else f"<tfoot>{_cells('td', grid.foot, grid.left, None)}</tfoot>"
    kind = "" if grid.keys is None else ' class="sortable"'
    return (
        f'<div class="wide"><table{kind}><thead>{head}</thead><tbody>{body}</tbody>{foot}'
        "</table></div>"
    )


def _section(name: str, title: str, content: str, note: str = "") -> str:
    more = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return f'<section id="{name}"><h2>{html.escape(title)}</h2>{content}{more}</section>'


def _tables(report: Report, t: Texts) -> str:
    speed = [("speed", "latency_by_model", tables.latency(report, t), t["latency_note"])]
    parts = [
        ("models", "models", tables.models(report, t), t["sort"]),
        *(speed if len(report.speed) else []),
        ("invoice", "invoice", tables.invoice(report, t), ""),
        ("prices", "prices", tables.prices(report, t), t["per_million"]),
    ]
    return "\n".join(
        _section(name, t[title], _grid(grid) if grid.rows else f"<p>{t['nothing']}</p>", note)
        for name, title, grid, note in parts
    )


def _script_text(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def page(report: Report, language: str) -> str:
    """The whole page."""
    t = texts(language)
    folder = files("datamanager.report")
    return _PAGE.format(
        lang="zh-CN" if language == "zh" else "en",
        policy=_POLICY,
        title=html.escape(t["title"]),
        style=(folder / "page.css").read_text(encoding="utf-8"),
        window=_pairs(window_of(report, t)),
        summary_title=html.escape(t["summary"]),
        summary=_pairs(tables.summary(report, t)),
        no_script=html.escape(t["no_script"]),
        plots="\n".join(
            _section(f"section-{name}", t[name], f'<div class="plot" id="{name}"></div>')
            for name in _PLOTS
        ),
        tables=_tables(report, t),
        data=_script_text(plotted(report, t)),
        plotly=plotly_library(),
        script=(folder / "page.js").read_text(encoding="utf-8"),
    )
