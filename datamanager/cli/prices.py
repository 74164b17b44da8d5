"""``prices``: what models are billed by: shown, set, and through time."""

from __future__ import annotations

from datamanager.cli.command import (
    STRATEGIES,
    Command,
    add_database,
    add_models,
    add_output,
    add_zone,
    each_model,
    opened,
)
from datamanager.cli.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from datamanager import DataManager, Tariff
    from datamanager.cli.command import Parser

_METHODS = ("tiers", "hourly")


# ---- show and history ----


def _rows(model: str, tariff: Tariff) -> Iterator[list[Any]]:
    """One for each tier; one without where there is none."""
    from datamanager import TierPricing
    from datamanager.cli.output import values

    start = [
        model,
        tariff.effective_from,
        _METHODS[not tariff.use_tier_pricing],
        tariff.hourly_price,
        tariff.strategy,
    ]
    for tier in tariff.tier_pricing:
        yield start + values(tier)
    if not tariff.tier_pricing:
        yield start + [None] * len(TierPricing.__match_args__)


def _show(options: Namespace, tariffs: Iterable[tuple[str, Tariff]], note: str = "") -> None:
    from datamanager import TierPricing
    from datamanager.cli.output import Field, Listing, fields_of, show, tier_kinds

    kinds = tier_kinds(TierPricing)
    titles = {
        "tier_index": "tier",
        "start_tokens": "above",
        "end_tokens": "up to",
        "input_price_per_million": "input",
        "output_price_per_million": "output",
        "cache_hit_price_per_million": "hit",
    }
    fields = [
        Field("model", "text", "model"),
        Field("effective_from", "since", "since"),
        Field("billed_by", "text", "billed by"),
        Field("hourly_price", "price", "per hour"),
        Field("strategy", "text", "strategy"),
        *fields_of(TierPricing, kinds, titles),
    ]
    rows = (row for model, tariff in tariffs for row in _rows(model, tariff))
    show(options, Listing(fields, rows, note=f"tier prices are per million tokens{note}"))


def _current(dm: DataManager, models: list[str], at: float) -> list[tuple[str, Tariff]]:
    from datamanager.usage import tariff_at

    histories = each_model(dm, models, dm.get_price_history)
    return [(model, tariff_at(history, at)) for model, history in histories]


def _moment(text: str | None, tz: str | None) -> float:
    import time

    from datamanager.cli.moments import moment

    return time.time() if text is None else moment(text, tz)


def _show_prices(options: Namespace) -> None:
    at = _moment(options.at, options.tz)
    with opened(options) as dm:
        found = _current(dm, options.models, at)
    _show(options, found)


def _show_history(options: Namespace) -> None:
    with opened(options) as dm:
        found = [
            (model, tariff)
            for model, history in each_model(dm, options.models, dm.get_price_history)
            for tariff in history
        ]
    _show(options, found)


def _history_arguments(parser: Parser) -> None:
    add_models(parser)
    add_database(parser)
    add_zone(parser)
    add_output(parser)


def _show_arguments(parser: Parser) -> None:
    _history_arguments(parser)
    parser.add_argument("--at", metavar="WHEN", help="what held then (default: now)")


# ---- set ----


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a price") from None


def _tier(index: int, words: Sequence[str]) -> list[Any]:
    """A tier of the words ``START-END IN OUT [HIT]``; without END it has no upper bound."""
    start, dash, end = words[0].partition("-")
    whole = start.isdecimal() and dash and (end.isdecimal() or not end)
    if len(words) not in (3, 4) or not whole:
        raise UsageError(f"--tier wants START-END IN OUT [HIT], not {' '.join(words)!r}")
    prices = [_number(word) for word in words[1:]]
    hit = prices[2] if len(prices) == 3 else 0.0
    return [index, int(start), int(end or 0), *prices[:2], len(prices) == 3, hit]


def _changes(options: Namespace) -> dict[str, Any]:
    tiers = None
    if options.tier is not None:
        tiers = [_tier(number, words) for number, words in enumerate(options.tier, 1)]
    method = options.method
    if method is None and (options.hourly is None) != (tiers is None):
        method = "hourly" if tiers is None else "tiers"
    changes = {
        "tiers": tiers,
        "hourly_price": None if options.hourly is None else _number(options.hourly),
        "use_tier_pricing": None if method is None else method == "tiers",
        "strategy": options.strategy,
    }
    if all(value is None for value in changes.values()):
        raise UsageError("nothing to set: --tier, --hourly, --method or --strategy says what")
    return changes


def _since(options: Namespace) -> float | None:
    """None: now."""
    if options.since in (None, "ever"):
        return None if options.since is None else 0.0
    return _moment(options.since, options.tz)


def _set(options: Namespace) -> None:
    import time

    changes = _changes(options)
    since = _since(options)
    with opened(options, write=True) as dm:
        if not options.new and options.model not in dm.get_models():
            dm.get_model_billing(options.model)  # raises that there is no such model
        dm.set_pricing(options.model, **changes, effective_from=since)
        found = _current(dm, [options.model], time.time() if since is None else since)
    now = options.since is None and found[0][1].effective_from is not None
    _show(options, found, "; what was used before keeps its prices ('--since ever')" * now)


def _set_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL")
    add_database(parser)
    parser.add_argument(
        "--tier", action="append", nargs="+", metavar=("START-END", "PRICE"),
        help="IN OUT [HIT]: prices of a million tokens in, out and from the cache, above START up"
        " to END ('START-': no end). Once for each tier; they take the place of those there are",
    )  # fmt: skip
    parser.add_argument("--hourly", metavar="PRICE", help="price of an hour of its runs")
    parser.add_argument(
        "--method", choices=_METHODS, help="billed by (default: what alone is given a price)"
    )
    parser.add_argument("--strategy", choices=STRATEGIES, help="how its tiers are read")
    parser.add_argument(
        "--since",
        metavar="WHEN",
        help="from when on it holds, past or future; 'ever' (default: now)",
    )
    parser.add_argument("--new", action="store_true", help="also if no model has this name yet")
    add_zone(parser)
    add_output(parser)


COMMANDS = (
    Command(
        "prices",
        "what models are billed by; without a command: show",
        parts=(
            Command("show", "the prices that hold", _show_prices, _show_arguments),
            Command("set", "change a model's prices", _set, _set_arguments),
            Command("history", "every price that held or will", _show_history, _history_arguments),
        ),
        part="show",
    ),
)
