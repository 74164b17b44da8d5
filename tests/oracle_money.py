"""The definitions of money (the design's section 7), in fractions, and random tariffs for them.

Nothing here is as the core does it: tokens are looked at one by one or piece by piece, requests one
by one, and every number is a fraction until its one rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

from hypothesis import strategies as st

from datamanager import TierPricing

LOW = TierPricing(1, 0, 32768, 2.0, 8.0, True, 0.4)
HIGH = TierPricing(2, 32768, 131072, 4.0, 16.0, True, 0.8)
STRATEGIES = ["graduated", "volume", "cumulative"]
TOKENS_MAX = 2**53

# ---- a request ----


def price(value: float) -> Fraction:
    """Of one token: the decimal that the float shows, half to even at 1e-12 per million."""
    return Fraction(round(Fraction(Decimal(repr(value))) * 10**12), 10**18)


def end(tier: TierPricing) -> float:
    return tier.end_tokens if tier.end_tokens > 0 else float("inf")


def tier_edges(tier: TierPricing) -> tuple[int, int]:
    return tier.start_tokens, tier.end_tokens


def tier_of(tiers: list[TierPricing], token: int) -> TierPricing | None:
    """The tier that covers the token of this number, counted from 1."""
    for tier in tiers:
        if tier.start_tokens < token <= end(tier):
            return tier
    last = max(tiers, key=end, default=None)
    return last if last is not None and token > end(last) else None


def pieces(tiers: list[TierPricing], before: int, count: int) -> Iterator[tuple[int, int]]:
    """Tokens before + 1 .. before + count as (first, how many) that lie in one tier or gap."""
    edges = {edge for tier in tiers for edge in tier_edges(tier)}
    cuts = sorted({before, before + count} | {e for e in edges if before < e < before + count})
    yield from ((low + 1, high - low) for low, high in pairwise(cuts))


def by_volume(
    tiers: list[TierPricing], input_tokens: int, output_tokens: int, cache_n: int
) -> Fraction:
    first = min(tiers, key=lambda tier: tier.start_tokens, default=None)
    tier = tier_of(tiers, input_tokens) if input_tokens > 0 else first
    if tier is None:
        return Fraction(0)
    hits = min(cache_n, input_tokens) if tier.support_cache else 0
    return (
        hits * price(tier.cache_hit_price_per_million)
        + (input_tokens - hits) * price(tier.input_price_per_million)
        + output_tokens * price(tier.output_price_per_million)
    )


def by_slices(
    tiers: list[TierPricing],
    input_tokens: int,
    output_tokens: int,
    cache_n: int,
    input_before: int,
    output_before: int,
) -> Fraction:
    total = Fraction(0)
    for first, count in pieces(tiers, output_before, output_tokens):
        if tier := tier_of(tiers, first):
            total += count * price(tier.output_price_per_million)
    hits = min(cache_n, input_tokens)
    for first, count in pieces(tiers, input_before, input_tokens):
        if tier := tier_of(tiers, first):
            hit = min(hits, count) if tier.support_cache else 0
            hits -= hit
            total += hit * price(tier.cache_hit_price_per_million)
            total += (count - hit) * price(tier.input_price_per_million)
    return total


def oracle(
    tiers: list[TierPricing],
    tokens: tuple[int, int, int],
    strategy: str,
    before: tuple[int, int],
) -> Fraction:
    if strategy == "volume":
        return by_volume(tiers, *tokens)
    return by_slices(tiers, *tokens, *(before if strategy == "cumulative" else (0, 0)))


def nearest(value: Fraction) -> float:
    return value.numerator / value.denominator  # rounds correctly, half to even


# ---- many requests, prices that change ----


@dataclass(frozen=True)
class Request:
    at: float
    input_tokens: int
    output_tokens: int
    cache_n: int

    @property
    def row(self) -> list[float]:
        """As it is recorded; what was not in the cache was computed."""
        computed = max(self.input_tokens - self.cache_n, 0)
        return [self.at, self.input_tokens, self.output_tokens, self.cache_n, computed]


@dataclass(frozen=True)
class Prices:
    """What holds, or, where fields are None, what a change leaves as it was."""

    tiers: list[TierPricing] | None = field(default_factory=list)
    hourly_price: float | None = 0.0
    use_tier_pricing: bool | None = True
    strategy: str | None = "graduated"

    def changed(self, change: Prices) -> Prices:
        given = {name: value for name, value in vars(change).items() if value is not None}
        return replace(self, **given)


# Changes with the moment from which each holds, in the order in which they were made.
History = list[tuple[float, Prices]]


def prices_at(history: History, moment: float) -> Prices:
    held = Prices()
    for since, change in sorted(history, key=lambda change: change[0]):
        held = held.changed(change) if since <= moment else held
    return held


def month_of(moment: float, zone: tzinfo, anchor: int = 1) -> int:
    """The billing period, as a number: months begin on day `anchor`, or on their last day."""
    local = datetime.fromtimestamp(math.floor(moment), zone)
    following = datetime(local.year + local.month // 12, local.month % 12 + 1, 1)
    days = (following - datetime(local.year, local.month, 1)).days
    return local.year * 12 + local.month - (local.day < min(anchor, days))


@dataclass
class Line:
    """A row of a usage table: one model in one bucket."""

    requests: list[Request]
    token_cost: Fraction
    runtime_cost: Fraction
    runtime_seconds: Fraction


@dataclass
class Bill:
    """All that happened to a model, from which any line of a usage table can be told."""

    requests: Sequence[Request]  # in the order of insertion
    runs: Sequence[tuple[float, float]]
    history: History
    zone: tzinfo
    anchor: int = 1
    strategy: str | None = None
    at_prices_of: float | None = None  # None: of the time

    def _prices(self, moment: float) -> Prices:
        return prices_at(self.history, moment if self.at_prices_of is None else self.at_prices_of)

    @cached_property
    def request_costs(self) -> list[tuple[Request, Fraction]]:
        used: dict[int, tuple[int, int]] = {}
        costs = []
        for request in sorted(self.requests, key=lambda request: request.at):  # keeps the order
            period = month_of(request.at, self.zone, self.anchor)
            before = used.get(period, (0, 0))
            used[period] = (before[0] + request.input_tokens, before[1] + request.output_tokens)
            held = self._prices(request.at)
            assert held.tiers is not None and held.strategy is not None
            tokens = (request.input_tokens, request.output_tokens, request.cache_n)
            cost = oracle(held.tiers, tokens, self.strategy or held.strategy, before)
            costs.append((request, cost if held.use_tier_pricing else Fraction(0)))
        return costs

    def _run_pieces(self, start: float, end: float) -> Iterator[tuple[Fraction, Prices]]:
        """The runs within a window as seconds and the prices that held in them."""
        for begin, stop in self.runs:
            low, high = max(begin, start), min(stop, end)
            changes = {since for since, _ in self.history if low < since < high}
            for first, last in pairwise(sorted({low, high} | changes)) if low < high else ():
                yield Fraction(last) - Fraction(first), self._prices(first)

    def line(self, start: float | None, end: float | None) -> Line:
        low = -math.inf if start is None else start
        high = math.inf if end is None else end
        inside = [(r, cost) for r, cost in self.request_costs if low <= r.at < high]
        pieces = list(self._run_pieces(low, high))
        hours = sum(
            seconds * price(held.hourly_price or 0.0) * 10**6 / 3600
            for seconds, held in pieces
            if not held.use_tier_pricing
        )
        return Line(
            [request for request, _ in inside],
            sum((cost for _, cost in inside), Fraction(0)),
            round_to_picos(Fraction(hours)),
            sum((seconds for seconds, _ in pieces), Fraction(0)),
        )


def round_to_picos(value: Fraction) -> Fraction:
    """To twelve digits behind the point, half to even."""
    return Fraction(round(value * 10**12), 10**12)


def exact(values: Iterable[Decimal]) -> Fraction:
    return sum(map(Fraction, values), Fraction(0))


# ---- random tariffs ----

decimals = st.decimals(0, 1000, places=12).map(float)
prices = st.one_of(
    st.sampled_from([0.0, 0.1, 1e-12, 5e-13, 1.5e-12, 0.30000000000000004, 1e10, 5e-324]),
    decimals,
    st.floats(0, 1e10),
    st.floats(0, 1e-9),
)
counts = st.one_of(st.integers(0, 60), st.integers(0, 300_000), st.integers(0, TOKENS_MAX))


@st.composite
def tariffs(draw: st.DrawFn) -> list[TierPricing]:
    edge = st.one_of(st.integers(0, 40), st.integers(0, 200_000), st.integers(0, TOKENS_MAX))
    edges = sorted(draw(st.sets(edge, max_size=8)))
    bounds = [pair for pair in pairwise(edges) if draw(st.booleans())]
    if edges and draw(st.booleans()):
        bounds.append((edges[-1], draw(st.sampled_from([0, -1]))))
    tiers = [
        TierPricing(i, *pair, draw(prices), draw(prices), draw(st.booleans()), draw(prices))
        for i, pair in enumerate(bounds)
    ]
    return draw(st.permutations(tiers))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[TierPricing], list[int]]:
    """Tiers, and five numbers of tokens that often lie at an edge."""
    tiers = draw(tariffs())
    edges = {edge + by for tier in tiers for edge in tier_edges(tier) for by in (-1, 0, 1)}
    near = st.sampled_from(sorted(e for e in edges if 0 <= e <= TOKENS_MAX) or [0])
    return tiers, draw(st.lists(st.one_of(near, counts), min_size=5, max_size=5))
