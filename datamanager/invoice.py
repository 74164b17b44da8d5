"""What is to be paid, line by line."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from datamanager.tables import Table
from datamanager.usage import UsageTable, sum_exact, usage
from datamanager.windows import Zone

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date, tzinfo

    from datamanager._core import CostSlice, Tariff, UsageRow
    from datamanager.manager import DataManager
    from datamanager.usage import Hours, Prices, Strategy

Window = tuple[float | None, float | None]


class InvoiceLine(NamedTuple):
    """The tokens that paid the prices of one tier, or (with no tier) seconds at an hourly price."""

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
    runtime_seconds: float | None  # that were billed by the hour
    hourly_price: float | None
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


def applied(history: list[Tariff], window: Window) -> Iterator[Tariff]:
    """Those that held within the window."""
    start = -math.inf if window[0] is None else window[0]
    end = math.inf if window[1] is None else window[1]
    for number, tariff in enumerate(history):
        later = history[number + 1].effective_from if number + 1 < len(history) else None
        begins = -math.inf if tariff.effective_from is None else tariff.effective_from
        if begins < end and (later is None or later > start):
            yield tariff


def _of_hours(row: UsageRow, hours: list[tuple[float | None, Hours]]) -> Iterator[InvoiceLine]:
    """The row's cost is rounded once; what the lines' own rounding leaves is in the largest."""
    costs = [cost for _, (_, _, cost) in hours]
    if costs:
        largest = costs.index(max(costs))
        others = costs[:largest] + costs[largest + 1 :]
        costs[largest] = sum_exact([row.runtime_cost_exact, *map(Decimal.copy_negate, others)])
    for (since, (seconds, price, _)), exact in zip(hours, costs, strict=True):
        yield _line(
            str(row.model),
            since=since,
            runtime_seconds=seconds,
            hourly_price=price,
            cost=float(exact),
            cost_exact=exact,
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
    lines: list[InvoiceLine] = []
    for row in rows:
        hours: list[tuple[float | None, Hours]] = []
        for model, since, paid in parts:
            if model != row.model:
                continue
            if isinstance(paid, tuple):
                hours.append((since, paid))
            else:
                lines.append(_of_tokens(model, since, paid))
        lines += _of_hours(row, hours)
    return UsageTable(rows, Zone(tz).tz), Invoice(lines)
