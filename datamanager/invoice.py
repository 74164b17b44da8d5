"""What is to be paid, line by line."""

from __future__ import annotations

import math
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from datamanager.tables import Table
from datamanager.usage import UsageTable, sum_exact, tariff_at, usage
from datamanager.windows import Zone

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date, tzinfo

    from datamanager._core import CostSlice, Tariff, UsageRow
    from datamanager.manager import DataManager
    from datamanager.usage import Prices, Strategy

Window = tuple[float | None, float | None]


class InvoiceLine(NamedTuple):
    """The tokens that paid the prices of one tier, or (with no tier) the hours of a model."""

    model: str
    since: float | None  # when the tariff began to hold, epoch seconds; None: ever
    tier_index: int | None
    start_tokens: int | None
    end_tokens: int | None  # 0: no upper bound
    input_tokens: int | None  # that pay the input price
    cache_hit_tokens: int | None
    output_tokens: int | None
    input_price_per_million: float | None
    output_price_per_million: float | None
    cache_hit_price_per_million: float | None
    runtime_seconds: float | None
    hourly_price: float | None  # None too where it changed within the window
    cost: float
    cost_exact: Decimal


_WHOLE = ("tier_index", "start_tokens", "end_tokens")
_TOKENS = ("input_tokens", "cache_hit_tokens", "output_tokens")
_TEXT = ("model", "cost_exact")


class Invoice(Table[InvoiceLine]):
    """Lines by model, tariff and tier, the hours of a model last."""

    _columns: ClassVar = tuple(
        (name, "u" if name in _TEXT else "l" if name in (*_WHOLE, *_TOKENS) else "g")
        for name in InvoiceLine._fields
    )
    _shown: ClassVar = ("model", "tier_index", *_TOKENS, "runtime_seconds", "cost")

    @property
    def total(self) -> Decimal:
        """The sum of the lines, to the last digit."""
        return sum_exact(line.cost_exact for line in self._rows)


def _line(model: str, **values: Any) -> InvoiceLine:
    return InvoiceLine(**{**dict.fromkeys(InvoiceLine._fields), "model": model, **values})


def _of_tokens(model: str, since: float | None, part: CostSlice) -> InvoiceLine:
    values = {name: getattr(part, name) for name in part.__match_args__}
    return _line(model, since=since, **values)


def _price_of_hours(tariffs: Iterable[Tariff]) -> float | None:
    prices = {tariff.hourly_price for tariff in tariffs if not tariff.use_tier_pricing}
    return prices.pop() if len(prices) == 1 else None


def applied(history: list[Tariff], window: Window) -> Iterator[Tariff]:
    """Those that held within the window."""
    start = -math.inf if window[0] is None else window[0]
    end = math.inf if window[1] is None else window[1]
    for number, tariff in enumerate(history):
        later = history[number + 1].effective_from if number + 1 < len(history) else None
        begins = -math.inf if tariff.effective_from is None else tariff.effective_from
        if begins < end and (later is None or later > start):
            yield tariff


def _of_hours(row: UsageRow, price: float | None) -> InvoiceLine:
    return _line(
        str(row.model),
        runtime_seconds=row.runtime_seconds,
        hourly_price=price,
        cost=row.runtime_cost,
        cost_exact=row.runtime_cost_exact,
    )


def usage_and_invoice(
    dm: DataManager,
    models: str | Iterable[str] | None,
    window: Window,
    tz: str | tzinfo | None,
    strategy: Strategy | None,
    prices: Prices,
    billing_anchor: date | None,
) -> tuple[UsageTable, Invoice]:
    """Both of one moment, so that they agree while others write."""
    rows, parts = usage(dm, models, window, None, None, tz, strategy, prices, billing_anchor)
    lines = []
    for row in rows:
        lines += [_of_tokens(*part) for part in parts if part[0] == row.model]
        if row.runtime_cost_exact:
            history = dm.get_price_history(str(row.model))
            now = tariff_at(history, time.time())
            held = [now] if prices == "current" else applied(history, window)
            lines.append(_of_hours(row, _price_of_hours(held)))
    return UsageTable(rows, Zone(tz).tz), Invoice(lines)
