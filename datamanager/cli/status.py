"""``status`` and ``performance``: what runs now, and how fast requests were answered."""

from __future__ import annotations

from datamanager.cli.command import (
    Command,
    add_database,
    add_models,
    add_output,
    add_window,
    opened,
)
from datamanager.cli.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from datamanager.cli.command import Parser
    from datamanager.cli.output import Listing

_STALE_S = 30.0
_WATCH_S = 2.0
_DAY_S = 86400


# ---- status ----

_STATUS_KINDS = {
    "model": "text",
    "running": "flag",
    **dict.fromkeys(("since", "started", "last_heartbeat", "last_request"), "time"),
    **dict.fromkeys(("uptime_seconds", "total_uptime_seconds"), "seconds"),
    "availability": "share",
}
_STATUS_TITLES = {
    "model": "model",
    "running": "runs",
    "since": "since",
    "availability": "available",
    "last_request": "last request",
    "requests": "requests",
    "input_tokens": "input",
    "output_tokens": "output",
}


def _status_listing(options: Namespace) -> Listing:
    from datamanager import ModelStatus
    from datamanager.cli.moments import window
    from datamanager.cli.output import Listing, fields_of, values

    start, end = window(options)
    asked = {"start": start, "end": end, "stale_after": options.stale_after}
    with opened(options) as dm:
        if options.models:
            found = [dm.get_model_status(name, **asked) for name in options.models]
        else:
            found = list(dm.get_status(**asked))
    rows = list(map(values, found))
    if options.form == "table":
        rows = [[name or "(the program)", *row] for name, *row in rows]
    about = {
        "window": {"start": start, "end": end, "tz": options.tz},
        "stale_after": options.stale_after,
    }
    return Listing(fields_of(ModelStatus, _STATUS_KINDS, _STATUS_TITLES), rows, about=about)


def _watch(options: Namespace) -> None:
    """Again and again, until Ctrl-C; each look opens the file anew, so it may be replaced."""
    import sys
    import time

    from datamanager.cli.output import show, table_lines
    from datamanager.cli.terminal import screen
    from datamanager.tables import clock

    if not 0 < options.watch <= _DAY_S:
        raise UsageError(f"--watch wants seconds above 0 and at most a day, not {options.watch:g}")
    drawn = screen(sys.stdout) if options.form == "table" else None
    while True:
        listing = _status_listing(options)
        if drawn is None:
            show(options, listing)
            sys.stdout.flush()
        else:
            note = f"{clock(time.time())}, every {options.watch:g} s; Ctrl-C ends"
            drawn.draw(table_lines(options, listing._replace(note=note)))
        time.sleep(options.watch)


def _status(options: Namespace) -> None:
    from datamanager.cli.output import show

    if options.watch is not None:
        _watch(options)
    else:
        show(options, _status_listing(options))


def _status_arguments(parser: Parser) -> None:
    add_models(parser)
    add_database(parser)
    add_window(parser)
    parser.add_argument(
        "--stale-after",
        metavar="SECONDS",
        type=float,
        default=_STALE_S,
        help=f"one whose last heartbeat is older does not run (default: {_STALE_S:g})",
    )
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        type=float,
        nargs="?",
        const=_WATCH_S,
        help=f"again every so many seconds, in place (default: {_WATCH_S:g})",
    )
    add_output(parser)


# ---- performance ----

_PERFORMANCE_TITLES = {
    "model": "model",
    "requests": "requests",
    "requests_per_second": "per second",
    "prompt_tokens_per_second": "prompt/s",
    "generation_tokens_per_second": "output/s",
    "duration_p50": "p50",
    "duration_p95": "p95",
    "duration_p99": "p99",
    "first_token_p50": "first p50",
    "first_token_p95": "first p95",
    "first_token_p99": "first p99",
}


def _performance(options: Namespace) -> None:
    from datamanager import PerformanceRow
    from datamanager.cli.moments import window
    from datamanager.cli.output import Listing, fields_of, show, values
    from datamanager.cli.usage import step

    start, end = window(options)
    by = None if options.by is None else step(options.by)
    with opened(options) as dm:
        found = list(
            dm.performance(options.models or None, start=start, end=end, by=by, tz=options.tz)  # type: ignore[arg-type]
        )
    titles = _PERFORMANCE_TITLES
    if by is not None:
        titles = {"start": "from", **titles}
        found = [row for row in found if row.requests or options.zeros]
    kinds = {"model": "text", **dict.fromkeys(("start", "end"), "time")}
    for name in PerformanceRow.__match_args__:
        if name.startswith(("duration", "first_token")) or name == "requests_per_second":
            kinds[name] = "thousandths"
        elif name.endswith("_per_second"):
            kinds[name] = "number"
    about = {"window": {"start": start, "end": end, "tz": options.tz}}
    note = "p50, p95, p99: so many in a hundred had at most this; seconds" if found else ""
    fields = fields_of(PerformanceRow, kinds, titles)
    show(options, Listing(fields, map(values, found), about=about, note=note))


def _performance_arguments(parser: Parser) -> None:
    from datamanager.cli.usage import add_step

    add_models(parser)
    add_database(parser)
    add_window(parser)
    add_step(parser)
    add_output(parser)


COMMANDS = (
    Command("status", "what runs, since when, and what it did since then", _status,
            _status_arguments),
    Command("performance", "how fast requests were answered, by model and time", _performance,
            _performance_arguments),
)  # fmt: skip
