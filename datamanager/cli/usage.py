"""``usage`` and ``cost``: what was used and what it costs."""

from __future__ import annotations

from datamanager.cli.command import (
    STRATEGIES,
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
    from typing import Any

    from datamanager import DataManager, UsageRow
    from datamanager.cli.command import Parser
    from datamanager.cli.output import Field, Listing
    from datamanager.usage import UsageTable

_KINDS = {
    "model": "text",
    **dict.fromkeys(("start", "end", "first_request", "last_request"), "time"),
    "cache_hit_share": "share",
    "tokens_per_second": "number",
    "runtime_seconds": "seconds",
    **dict.fromkeys(("token_cost", "runtime_cost", "cost"), "money"),
    **dict.fromkeys(("token_cost_exact", "runtime_cost_exact", "cost_exact"), "money"),
}
_TITLES = {
    "model": "model",
    "requests": "requests",
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_hit_share": "hits",
    "tokens_per_second": "tokens/s",
    "runtime_seconds": "uptime",
    "cost_exact": "cost",
}
_COST_TITLES = {
    "model": "model",
    "token_cost_exact": "by tokens",
    "runtime_cost_exact": "by uptime",
    "cost_exact": "cost",
}


def _add_billing(parser: Parser) -> None:
    parser.add_argument(
        "--strategy", choices=STRATEGIES, help="read the tiers so (default: each model's own)"
    )


def add_step(parser: Parser) -> None:
    """By what time is cut."""
    parser.add_argument("--by", metavar="STEP", help="hour, day, week, month, or seconds")
    parser.add_argument(
        "--zeros", action="store_true", help="with --by: also when nothing was used"
    )


def _add_question(parser: Parser) -> None:
    add_models(parser)
    add_database(parser)
    add_window(parser)
    _add_billing(parser)
    parser.add_argument(
        "--current-prices", action="store_true", help="what it would cost at today's prices"
    )
    parser.add_argument(
        "--billing-anchor", metavar="DATE", help="a day on which a billing period begins"
    )
    add_output(parser)


def step(text: str) -> str | float:
    """What ``--by`` says."""
    from datamanager.windows import UNITS

    if text in UNITS:
        return text
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--by wants one of {', '.join(UNITS)}, or seconds: {text!r}") from None


def _anchor(text: str | None) -> Any:
    from datetime import date

    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--billing-anchor wants a date like 2026-10-15, not {text!r}") from None


def asked(dm: DataManager, options: Namespace, by: str | None) -> tuple[UsageTable, dict[str, Any]]:
    """The usage that the options ask for, and what is to be said about the question."""
    from datamanager.cli.moments import window

    start, end = window(options)
    found = dm.usage(
        options.models or None,
        start=start,
        end=end,
        by=None if by is None else step(by),  # type: ignore[arg-type]
        tz=options.tz,
        strategy=options.strategy,
        prices="current" if options.current_prices else "historical",
        billing_anchor=_anchor(options.billing_anchor),
    )
    return found, {"window": {"start": start, "end": end, "tz": options.tz}}


def usage_fields(titles: dict[str, str]) -> list[Field]:
    """The fields of a UsageRow."""
    from datamanager import UsageRow
    from datamanager.cli.output import fields_of

    return fields_of(UsageRow, _KINDS, titles)


def listing_of(found: UsageTable, titles: dict[str, str], **more: Any) -> Listing:
    """The rows and their total."""
    from datamanager.cli.output import Listing, values

    return Listing(usage_fields(titles), map(values, found), values(found.total), **more)


def _usage(options: Namespace) -> None:
    from datamanager.cli.output import show
    from datamanager.usage import UsageTable

    with opened(options) as dm:
        found, about = asked(dm, options, options.by)
    titles = _TITLES
    if options.by is not None:
        titles = {"model": "model", "start": "from", **_TITLES}
        if not options.zeros:
            found = UsageTable([row for row in found if row.requests or row.runtime_seconds])
    show(options, listing_of(found, titles, about=about))


def show_usage(options: Namespace, dm: DataManager, note: str) -> None:
    """All that the database holds, by model, with how often each ran."""
    from datamanager.cli.output import Field, Listing, show, values

    found = dm.usage()
    runs = [len(dm.get_model_runtime(row.model)) for row in found if row.model is not None]
    model, *fields = usage_fields(_TITLES)

    def with_runs(row: UsageRow, count: int) -> list[Any]:
        name, *figures = values(row)
        return [name, count, *figures]

    listing = Listing(
        [model, Field("runs", "count", "runs"), *fields],
        map(with_runs, found, runs),
        with_runs(found.total, sum(runs)),
        note=note,
    )
    show(options, listing)


def _usage_arguments(parser: Parser) -> None:
    _add_question(parser)
    add_step(parser)


# ---- cost ----


def _costs(options: Namespace) -> None:
    from datamanager.cli.output import Field, Listing, show, values

    with opened(options) as dm:
        found, about = asked(dm, options, None)
    total = found.total

    def with_share(row: UsageRow) -> list[Any]:
        return [*values(row), row.cost / total.cost if total.cost else None]

    fields = [*usage_fields(_COST_TITLES), Field("share", "share", "share")]
    show(options, Listing(fields, map(with_share, found), with_share(total), about))


_SLICE_TITLES = {
    "tier_index": "tier",
    "start_tokens": "above",
    "end_tokens": "up to",
    "input_tokens": "input",
    "cache_hit_tokens": "hits",
    "output_tokens": "output",
    "cost_exact": "cost",
}


def _of_one(options: Namespace) -> None:
    import time

    from datamanager import CostSlice
    from datamanager.cli.moments import moment
    from datamanager.cli.output import Listing, fields_of, show, tier_kinds, values
    from datamanager.usage import tariff_at

    if len(options.models) != 1:
        raise UsageError("the cost of a request is that of one MODEL")
    if options.since or options.until or options.month or options.current_prices:
        raise UsageError("the cost of one request knows --at, not a window of time")
    at = None if options.at is None else moment(options.at, options.tz)
    (model,) = options.models
    with opened(options) as dm:
        found = dm.cost(
            model,
            options.input or 0,
            options.output or 0,
            options.cache or 0,
            at,
            strategy=options.strategy,
            tz=options.tz,
            billing_anchor=_anchor(options.billing_anchor),
        )
        held = tariff_at(dm.get_price_history(model), time.time() if at is None else at)
    kinds = tier_kinds(CostSlice) | {"cost": "money", "cost_exact": "money"}
    about = {
        "model": model,
        "strategy": found.strategy,
        "cost": found.cost,
        "cost_exact": found.cost_exact,
    }
    note = f"{found.cost_exact:,f} in all, {found.strategy}"
    if not held.use_tier_pricing:
        note = "nothing: it is billed by the hour"
    fields = fields_of(CostSlice, kinds, _SLICE_TITLES)
    show(options, Listing(fields, map(values, found.slices), about=about, note=note))


def _cost(options: Namespace) -> None:
    if options.input is None and options.output is None:
        if options.at is not None or options.cache is not None:
            raise UsageError("--at and --cache go with --input and --output")
        _costs(options)
    else:
        _of_one(options)


def _cost_arguments(parser: Parser) -> None:
    _add_question(parser)
    group = parser.add_argument_group("the cost of one request instead")
    for name in ("input", "output", "cache"):
        group.add_argument(f"--{name}", metavar="N", type=int, help=f"its {name} tokens")
    group.add_argument("--at", metavar="WHEN", help="at the prices of then (default: now)")


COMMANDS = (
    Command("usage", "what was used and what it cost, by model and time", _usage, _usage_arguments),
    Command("cost", "what models cost, or what one request would cost", _cost, _cost_arguments),
)
