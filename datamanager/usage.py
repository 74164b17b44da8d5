"""What was used and what it cost: the questions that DataManager answers on top of the core."""

from __future__ import annotations

import time
from datetime import date, datetime, tzinfo
from decimal import Context, Decimal
from functools import cached_property, reduce
from math import fsum, inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from datamanager import windows
from datamanager._core import Cost, CostSlice, InvalidDataError, UsageRow, cost
from datamanager.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from datamanager._core import Tariff
    from datamanager.manager import DataManager

Strategy = Literal["graduated", "volume", "cumulative"]
Prices = Literal["historical", "current"]
Moment = float | datetime
Hours = tuple[float, float, Decimal]  # seconds, hourly price, cost
# The model, since when its tariff held, what was paid.
Part = tuple[str, float | None, CostSlice | Hours]

_EXACT = Context(prec=60)  # more digits than 128 bits have
_COUNT_MAX = 2**63 - 1
TOKENS_MAX = 2**53  # the core's; no tier has an edge above it: from there on all cost the same
_COUNTS = ("requests", "input_tokens", "output_tokens", "cache_n", "prompt_n")


def sum_exact(values: Iterable[Decimal]) -> Decimal:
    return reduce(_EXACT.add, values, Decimal(0))


def _count(rows: Sequence[UsageRow], name: str) -> int:
    total: int = sum(map(attrgetter(name), rows))
    if total > _COUNT_MAX:  # as the core says it of one row
        raise InvalidDataError(f"the sum of {name} is above {_COUNT_MAX}")
    return total


def _edge(rows: Sequence[UsageRow], name: str, pick: Any) -> float | None:
    values = list(map(attrgetter(name), rows))
    return None if not values or None in values else float(pick(values))


def _outermost(rows: Sequence[UsageRow], name: str, pick: Any) -> float | None:
    values = [value for value in map(attrgetter(name), rows) if value is not None]
    return float(pick(values)) if values else None


def sum_seconds(seconds: Iterable[float]) -> float:
    """Rounded once; infinite where it is above the largest float."""
    try:
        return fsum(seconds)
    except OverflowError:
        return inf


def add_up(rows: Sequence[UsageRow], model: str | None) -> UsageRow:
    """One row for several: a total is the sum of its lines, to the last digit."""
    start, end = _edge(rows, "start", min), _edge(rows, "end", max)
    first, last = _outermost(rows, "first_request", min), _outermost(rows, "last_request", max)
    low, high = (first, last) if start is None or end is None else (start, end)
    seconds = 0.0 if low is None or high is None else high - low
    tokens_in, tokens_out = _count(rows, "input_tokens"), _count(rows, "output_tokens")
    hits = _count(rows, "cache_n")
    by_tokens = sum_exact(map(attrgetter("token_cost_exact"), rows))
    by_hours = sum_exact(map(attrgetter("runtime_cost_exact"), rows))
    both = _EXACT.add(by_tokens, by_hours)
    return UsageRow(
        model=model,
        start=start,
        end=end,
        requests=_count(rows, "requests"),
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        cache_n=hits,
        prompt_n=_count(rows, "prompt_n"),
        cache_hit_share=hits / tokens_in if tokens_in else None,
        tokens_per_second=(tokens_in + tokens_out) / seconds if seconds > 0 else None,
        first_request=first,
        last_request=last,
        runtime_seconds=sum_seconds(map(attrgetter("runtime_seconds"), rows)),
        token_cost=float(by_tokens),
        runtime_cost=float(by_hours),
        cost=float(both),
        token_cost_exact=by_tokens,
        runtime_cost_exact=by_hours,
        cost_exact=both,
    )


class UsageTable(Table[UsageRow]):
    """Usage by model and bucket: models in their order, and for each its buckets in time."""

    _columns: ClassVar = (
        ("model", "u"),
        ("start", "g"),
        ("end", "g"),
        *((name, "l") for name in _COUNTS),
        ("cache_hit_share", "g"),
        ("tokens_per_second", "g"),
        ("first_request", "g"),
        ("last_request", "g"),
        ("runtime_seconds", "g"),
        ("token_cost", "g"),
        ("runtime_cost", "g"),
        ("cost", "g"),
        ("token_cost_exact", "u"),
        ("runtime_cost_exact", "u"),
        ("cost_exact", "u"),
    )
    _shown: ClassVar = (
        "model",
        "start",
        "end",
        "requests",
        "input_tokens",
        "output_tokens",
        "cache_hit_share",
        "tokens_per_second",
        "runtime_seconds",
        "cost",
    )

    @cached_property
    def total(self) -> UsageRow:
        """Everything in one row; its ``model`` is None."""
        return add_up(self._rows, None)

    @property
    def by_model(self) -> UsageTable:
        """A row for each model."""
        rows: dict[str, list[UsageRow]] = {}
        for row in self._rows:
            rows.setdefault(str(row.model), []).append(row)
        return UsageTable([add_up(lines, model) for model, lines in rows.items()], self._zone)

    def plot(self, what: str = "cost") -> Any:
        """A plotly figure of one column (default: cost), by model and, where cut, over time.

        Needs plotly: ``pip install 'datamanager[report]'``.
        """
        from datamanager import plots

        return plots.figure(self._rows, what, self._zone)


def names_of(models: str | Iterable[str] | None) -> list[str] | None:
    if models is None:
        return None
    try:
        names = [models] if isinstance(models, str) else list(models)
    except TypeError:
        raise InvalidDataError(
            f"models must be a name, several names or None, not {models!r}"
        ) from None
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidDataError(f"models must not name a model twice: {twice!r}")
    return names


def usage(
    dm: DataManager,
    models: str | Iterable[str] | None,
    window: tuple[float | None, float | None],
    by: str | float | None,
    buckets: int | None,
    tz: str | tzinfo | None,
    strategy: Strategy | None,
    prices: Prices,
    billing_anchor: date | None,
) -> tuple[list[UsageRow], list[Part]]:
    """The rows; and the parts of their token costs, by model, tariff and tier."""
    if prices not in ("historical", "current"):
        raise InvalidDataError(f"prices must be 'historical' or 'current', not {prices!r}")
    windows.anchor_day(billing_anchor)
    names = names_of(models)
    edges = windows.edges(by, buckets, tz, *window, lambda: dm._time_span(names))
    current = prices == "current"
    found = dm._usage(names, edges, None, strategy, current)
    if found is None:  # billing periods matter: which, depends on where the data begin
        known = [moment for moment in (*dm._time_span(names), window[0]) if moment is not None]
        now = time.time()  # what comes in meanwhile is of its own period, too
        begin, last = min([*known, now]), max([*known, now])
        periods = windows.billing_periods(tz, billing_anchor, begin, last)
        found = dm._usage(names, edges, periods, strategy, current)
    assert found is not None
    return found


def tariff_at(history: Iterable[Tariff], moment: float) -> Tariff:
    """The one that held, holds or will hold then."""
    return [
        tariff
        for tariff in history
        if tariff.effective_from is None or tariff.effective_from <= moment
    ][-1]


def cost_of(
    dm: DataManager,
    model_name: str,
    input_tokens: int,
    output_tokens: int,
    cache_n: int,
    at: Moment | None,
    strategy: Strategy | None,
    tz: str | tzinfo | None,
    billing_anchor: date | None,
) -> Cost:
    moment = windows.to_moment(at, "at")
    windows.anchor_day(billing_anchor)
    history = dm.get_price_history(model_name)
    when = time.time() if moment is None else moment
    tariff = tariff_at(history, when)
    chosen = tariff.strategy if strategy is None else strategy
    before = (0, 0)
    if chosen == "cumulative":
        begin = max(windows.billing_periods(tz, billing_anchor, when, when)[0], 0.0)
        if begin < when:
            used = dm.usage(model_name, start=begin, end=when, strategy="graduated")[0]
            before = min(used.input_tokens, TOKENS_MAX), min(used.output_tokens, TOKENS_MAX)
    return cost(
        tariff.tier_pricing if tariff.use_tier_pricing else [],
        input_tokens,
        output_tokens,
        cache_n,
        strategy=chosen,
        input_before=before[0],
        output_before=before[1],
    )


def analyze(dm: DataManager, model_name: str, days: float) -> dict[str, Any]:
    """The manual's keys first, in its order, then what it could not tell."""
    billing = dm.get_model_billing(model_name)  # first: unlike usage() it takes one name alone
    span_s = windows.length(days, "days") * 86400
    # Open at its end, as get_model_requests(minutes=…) is, by which the manual counts.
    start = max(time.time() - span_s, 0.0) if span_s else None
    row = dm.usage(model_name, start=start)[0]
    requests = row.requests
    return {
        "model": model_name,
        "period_days": days,
        "total_requests": requests,
        "total_input_tokens": row.input_tokens,
        "total_output_tokens": row.output_tokens,
        "avg_input_tokens": round(row.input_tokens / requests, 2) if requests else 0.0,
        "avg_output_tokens": round(row.output_tokens / requests, 2) if requests else 0.0,
        "billing_info": billing,
        "total_cache_n": row.cache_n,
        "total_prompt_n": row.prompt_n,
        "cache_hit_share": row.cache_hit_share,
        "tokens_per_second": row.tokens_per_second,
        "first_request": row.first_request,
        "last_request": row.last_request,
        "runtime_seconds": row.runtime_seconds,
        "token_cost": row.token_cost,
        "runtime_cost": row.runtime_cost,
        "cost": row.cost,
        "cost_exact": row.cost_exact,
    }
