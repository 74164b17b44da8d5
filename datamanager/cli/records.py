"""``models``, ``requests`` and ``runtime``: what is in the database."""

from __future__ import annotations

import sys
from itertools import islice

from datamanager.cli.command import (
    Command,
    add_database,
    add_models,
    add_output,
    add_window,
    each_model,
    opened,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator
    from typing import Any

    from datamanager import DataManager, Tariff
    from datamanager.cli.command import Parser
    from datamanager.cli.output import Listing

_LIMIT = 50


# ---- models ----


def _billed(row: dict[str, Any]) -> str:
    if not row["use_tier_pricing"]:
        return f"{row['hourly_price']:g} per hour"
    tiers = row["tiers"]
    return f"{tiers} tier{'' if tiers == 1 else 's'}, {row['strategy']}" if tiers else "no price"


def _model_rows(dm: DataManager) -> Iterator[dict[str, Any]]:
    import time

    from datamanager.usage import tariff_at

    def changes(name: str) -> tuple[str, list[Tariff]]:
        return dm.get_safe_model_name(name), dm.get_price_history(name)

    changed = dict(each_model(dm, [], changes))
    # Read as graduated, which needs no billing periods: the costs are not looked at.
    for used in dm.usage(strategy="graduated"):
        name = str(used.model)
        if name not in changed:
            continue  # made since
        safe_name, history = changed[name]
        tariff = tariff_at(history, time.time())
        yield {
            "model": name,
            "safe_name": safe_name,
            "use_tier_pricing": tariff.use_tier_pricing,
            "hourly_price": tariff.hourly_price,
            "tiers": len(tariff.tier_pricing),
            "strategy": tariff.strategy,
            "requests": used.requests,
            "first_request": used.first_request,
            "last_request": used.last_request,
            "runtime_seconds": used.runtime_seconds,
        }


def _models(options: Namespace) -> None:
    from datamanager.cli.output import Field, Listing, show

    with opened(options) as dm:
        rows = list(_model_rows(dm))
    fields = [
        Field("model", "text", "model"),
        Field("safe_name", "text"),
        Field("use_tier_pricing", "flag"),
        Field("hourly_price", "price"),
        Field("tiers", "count"),
        Field("strategy", "text"),
        Field("requests", "count", "requests"),
        Field("first_request", "time", "first"),
        Field("last_request", "time", "last"),
        Field("runtime_seconds", "seconds", "uptime"),
    ]
    listed: list[list[Any]] = [list(row.values()) for row in rows]
    if options.form == "table":
        fields.append(Field("billed", "text", "billed"))
        listed = [[*line, _billed(row)] for line, row in zip(listed, rows, strict=True)]
    show(options, Listing(fields, listed, note="" if rows else "there are no models"))


def _models_arguments(parser: Parser) -> None:
    from datamanager.cli.command import add_zone

    add_database(parser)
    add_zone(parser)
    add_output(parser)


# ---- of many rows the newest ----


def _add_limit(parser: Parser) -> None:
    parser.add_argument(
        "--limit", metavar="N", type=int, help=f"the newest N (default: {_LIMIT}; 0: all)"
    )


def _to_read(options: Namespace) -> int:
    """How many at most, 0 for all; where none asked for the limit one more, so that it is seen."""
    return _LIMIT + 1 if options.limit is None else int(options.limit)


def _show(options: Namespace, listing: Listing, count: int) -> None:
    """So many rows were read: whoever did not ask for a limit is told of it."""
    from datamanager.cli.output import show, wrapped
    from datamanager.cli.terminal import columns

    if options.limit is not None or count <= _LIMIT:
        show(options, listing)
        return
    show(options, listing._replace(rows=islice(listing.rows, _LIMIT)))
    sys.stdout.flush()
    said = f"datamanager: only the newest {_LIMIT} are here: --limit N is for more, 0 for all"
    print("\n".join(wrapped(said, columns(sys.stderr))), file=sys.stderr)


# ---- requests ----


def _newest(dm: DataManager, names: list[str], **window: Any) -> tuple[Iterable[list[Any]], int]:
    """The requests of these or all models, newest first, and how many; of one as they come, without
    a sort."""
    from datamanager.cli.terminal import progress_to_a_file

    found = list(each_model(dm, names, lambda name: dm.get_model_requests(name, **window)))
    count = sum(len(requests) for _, requests in found)
    rows: Iterable[list[Any]] = (
        [name, *row]
        for name, requests in found
        for row in zip(*requests.columns.values(), strict=True)
    )
    if len(found) > 1:
        newest = sorted(rows, key=lambda row: row[2], reverse=True)[: window["limit"] or None]
        rows, count = newest, len(newest)
    return progress_to_a_file(rows, count, "wrote {done} of {total} requests"), count


def _requests(options: Namespace) -> None:
    from datamanager import ModelRequest
    from datamanager.cli.moments import window
    from datamanager.cli.output import Field, Listing, fields_of

    titles = {
        "timestamp": "time",
        "input_tokens": "input",
        "output_tokens": "output",
        "cache_n": "hits",
        "prompt_n": "computed",
    }
    start, end = window(options)
    with opened(options) as dm:
        limit = _to_read(options)
        rows, count = _newest(dm, options.models, start=start, end=end, limit=limit)
    fields = [
        Field("model", "text", "model"),
        *fields_of(ModelRequest, {"timestamp": "time"}, titles),
    ]
    about = {"window": {"start": start, "end": end, "tz": options.tz}}
    _show(options, Listing(fields, rows, about=about), count)


def _requests_arguments(parser: Parser) -> None:
    add_models(parser)
    add_database(parser)
    add_window(parser)
    _add_limit(parser)
    add_output(parser)


# ---- runtime ----


def _runtime(options: Namespace) -> None:
    from datamanager import ModelRunTime
    from datamanager.cli.moments import window
    from datamanager.cli.output import Field, Listing, fields_of, values

    start, end = window(options)
    asked: dict[str, Any] = {"start": start, "end": end, "limit": _to_read(options)}
    found: list[tuple[str | None, Any]] = []
    with opened(options) as dm:
        if options.program or not options.models:
            found += [(None, run) for run in dm.get_program_runtime(**asked)]
        if options.models or not options.program:
            runs = each_model(dm, options.models, lambda name: dm.get_model_runtime(name, **asked))
            found += [(name, run) for name, runs_of_it in runs for run in runs_of_it]
    found.sort(key=lambda row: -row[1].start_time)
    rows = [
        [name, *values(run), run.end_time - run.start_time]
        for name, run in found[: asked["limit"] or None]
    ]
    times = {"start_time": "time", "end_time": "time"}
    fields = [
        Field("model", "text", "model"),
        *fields_of(ModelRunTime, times, {"start_time": "from", "end_time": "to"}),
        Field("seconds", "seconds", "for"),
    ]
    if options.form == "table":
        rows = [[name or "(the program)", *row] for name, *row in rows]
    about = {"window": {"start": start, "end": end, "tz": options.tz}}
    _show(options, Listing(fields, rows, about=about), len(rows))


def _runtime_arguments(parser: Parser) -> None:
    _requests_arguments(parser)
    parser.add_argument("--program", action="store_true", help="the runs of the program")


COMMANDS = (
    Command("models", "the models, how they are billed and when they were used", _models,
            _models_arguments),
    Command("requests", "the newest requests", _requests, _requests_arguments),
    Command("runtime", "when the program and the models ran", _runtime, _runtime_arguments),
)  # fmt: skip
