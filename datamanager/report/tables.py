"""The tables of a report as text, for every form that shows them to people."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from datamanager.cli.output import duration
from datamanager.tables import clock, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datamanager._core import Tariff, TierPricing, UsageRow
    from datamanager.invoice import InvoiceLine
    from datamanager.report.data import Report

Texts = dict[str, str]


class Grid(NamedTuple):
    """Text in rows; ``left`` columns are text, the rest numbers; ``keys`` sorts where it is set."""

    header: list[str]
    rows: list[list[str]]
    left: int
    foot: list[str] | None = None
    keys: list[list[float | str]] | None = None


def money(amount: Decimal) -> str:
    """To the last digit, and two at least."""
    text = f"{amount:,f}"
    whole, _, digits = text.partition(".")
    return f"{whole}.{digits.rstrip('0'):0<2}"


def rounded(amount: Decimal) -> str:
    """As the command line shows it."""
    return f"{amount:,.6f}"


def price(value: float | None) -> str:
    return "" if value is None else f"{Decimal(repr(value)):f}".removesuffix(".0")


def share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def name_of(report: Report, moment: float | None) -> str:
    return "–" if moment is None else clock(moment, report.zone.tz)


def summary(report: Report, t: Texts) -> list[tuple[str, str]]:
    """What the figures at the top are called, and they."""
    total = report.models.total
    return [
        (t["cost"], rounded(report.invoice.total)),
        (t["requests"], f"{total.requests:,}"),
        (t["input"], f"{total.input_tokens:,}"),
        (t["output"], f"{total.output_tokens:,}"),
        (t["hit_share"], share(total.cache_hit_share)),
        (t["uptime"], duration(total.runtime_seconds)),
        (t["models"], f"{len(report.models):,}"),
    ]


def models(report: Report, t: Texts) -> Grid:
    header = [t[key] for key in ("model", "requests", "input", "output", "hit_share", "uptime")]
    header += [t["first"], t["last"], t["cost"]]

    def cells(row: UsageRow, name: str) -> list[str]:
        return [
            name,
            f"{row.requests:,}",
            f"{row.input_tokens:,}",
            f"{row.output_tokens:,}",
            share(row.cache_hit_share),
            duration(row.runtime_seconds),
            name_of(report, row.first_request),
            name_of(report, row.last_request),
            rounded(row.cost_exact),
        ]

    def keys(row: UsageRow) -> list[float | str]:
        return [
            printable(str(row.model)),
            row.requests,
            row.input_tokens,
            row.output_tokens,
            -1.0 if row.cache_hit_share is None else row.cache_hit_share,
            row.runtime_seconds,
            row.first_request or -1.0,
            row.last_request or -1.0,
            row.cost,
        ]

    rows = sorted(report.models, key=lambda row: (-row.cost, -row.input_tokens))
    return Grid(
        header,
        [cells(row, printable(str(row.model))) for row in rows],
        1,
        cells(report.models.total, t["total"]),
        [keys(row) for row in rows],
    )


RANKS = ("p50", "p95", "p99")


def latency(report: Report, t: Texts) -> Grid:
    """Percentiles in seconds, and tokens per second."""
    times = [
        (f"{kind}_{rank}", f"{t[kind]} {rank}")
        for kind in ("duration", "first_token")
        for rank in RANKS
    ]
    rates = [(f"{kind}_tokens_per_second", t[f"{kind}_speed"]) for kind in ("prompt", "generation")]

    def shown(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:,.{digits}f}"

    rows = [
        [
            printable(row.model),
            *(shown(getattr(row, name), 3) for name, _ in times),
            *(shown(getattr(row, name), 1) for name, _ in rates),
        ]
        for row in report.speed
    ]
    return Grid([t["model"], *(title for _, title in (*times, *rates))], rows, 1)


def _item(report: Report, line: InvoiceLine, t: Texts) -> str:
    if line.tier_index is None:
        hours = f"{(line.runtime_seconds or 0) / 3600:,.4f} {t['hours']}"
        since = f" ({t['since']} {name_of(report, line.since)})" if line.since else ""
        return f"{hours} × {price(line.hourly_price or 0)}{since}"
    parts = [
        (line.input_tokens, line.input_price_per_million, t["in_short"]),
        (line.cache_hit_tokens, line.cache_hit_price_per_million, t["hit_short"]),
        (line.output_tokens, line.output_price_per_million, t["out_short"]),
    ]
    paid = " + ".join(f"{n:,} {name} × {price(per)}" for n, per, name in parts if n)
    since = f", {t['since']} {name_of(report, line.since)}" if line.since else ""
    return f"{t['tier']} {line.tier_index}{since}: {paid}"


def invoice(report: Report, t: Texts) -> Grid:
    rows = [
        [printable(line.model), _item(report, line, t), money(line.cost_exact)]
        for line in report.invoice
    ]
    foot = [t["total"], "", money(report.invoice.total)]
    return Grid([t["model"], t["item"], t["amount"]], rows, 2, foot)


_NO_TIER = [""] * 5


def _tier_cells(tier: TierPricing) -> list[str]:
    return [
        f"{tier.start_tokens:,}",
        f"{tier.end_tokens:,}" if tier.end_tokens > 0 else "∞",
        price(tier.input_price_per_million),
        price(tier.output_price_per_million),
        price(tier.cache_hit_price_per_million if tier.support_cache else None),
    ]


def _tariff_rows(report: Report, name: str, tariff: Tariff, t: Texts) -> Iterator[list[str]]:
    begins = name_of(report, tariff.effective_from) if tariff.effective_from else t["ever"]
    by_tiers = tariff.use_tier_pricing
    begin = [printable(name), begins, t["tiers"] if by_tiers else t["hourly"]]
    tiers = sorted(tariff.tier_pricing, key=lambda tier: tier.start_tokens) if by_tiers else []
    for tier in tiers:
        yield [*begin, t[tariff.strategy], "", *_tier_cells(tier)]
    if not tiers:
        yield [*begin, "", "" if by_tiers else price(tariff.hourly_price), *_NO_TIER]


def prices(report: Report, t: Texts) -> Grid:
    keys = ("model", "holds_since", "billed_by", "strategy", "hourly_price")
    tier_keys = ("above", "up_to", "input_price", "output_price", "hit_price")
    rows = [row for name, tariff in report.prices for row in _tariff_rows(report, name, tariff, t)]
    return Grid([t[key] for key in (*keys, *tier_keys)], rows, 4)
