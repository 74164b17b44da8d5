"""What a trace of requests costs under the three strategies, in plain decimals.

    python examples/trace_costs.py trace.csv

The trace is a CSV file with a header and the columns TIMESTAMP (UTC), ContextTokens and
GeneratedTokens, as in the Azure LLM inference traces. Nothing of datamanager is used: this is the
arithmetic that `DataManager.usage` must agree with to the last digit.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import NamedTuple


class Tier(NamedTuple):
    """Prices of a million tokens, for start < n <= end."""

    start: int
    end: int
    input_price: Decimal
    output_price: Decimal


class Request(NamedTuple):
    time: datetime
    input_tokens: int
    output_tokens: int


MILLION = 1_000_000
TIERS = [
    Tier(0, 1024, Decimal("2"), Decimal("8")),
    Tier(1024, 4096, Decimal("3.5"), Decimal("14")),
    Tier(4096, 1_000_000, Decimal("0.3"), Decimal("1.2")),
]


def read_trace(path: str | Path) -> list[Request]:
    """The requests of a trace, in the order of time."""
    with open(path, newline="", encoding="utf-8") as file:
        return sorted(
            Request(
                # 100 ns digits; datetime has microseconds
                datetime.fromisoformat(row["TIMESTAMP"][:26]).replace(tzinfo=UTC),
                int(row["ContextTokens"]),
                int(row["GeneratedTokens"]),
            )
            for row in csv.DictReader(file)
        )


def sliced(before: int, count: int, prices: Iterable[tuple[int, int, Decimal]]) -> Decimal:
    """The tokens before + 1 to before + count, each at the price of the slice it falls in."""
    slices = list(prices)
    total = Decimal(0)
    for number, (start, end, price) in enumerate(slices):
        if number == len(slices) - 1:
            end = before + count  # above the last tier its price goes on
        total += max(0, min(before + count, end) - max(before, start)) * price
    return total / MILLION


def tiered(tiers: list[Tier], request: Request, before: tuple[int, int] = (0, 0)) -> Decimal:
    """Input and output each in slices, counted on from what came before."""
    inputs = ((tier.start, tier.end, tier.input_price) for tier in tiers)
    outputs = ((tier.start, tier.end, tier.output_price) for tier in tiers)
    return sliced(before[0], request.input_tokens, inputs) + sliced(
        before[1], request.output_tokens, outputs
    )


def graduated(tiers: list[Tier], requests: list[Request]) -> Decimal:
    return sum((tiered(tiers, request) for request in requests), Decimal(0))


def volume(tiers: list[Tier], requests: list[Request]) -> Decimal:
    """The input picks the tier of a request; without input it is the first."""
    total = Decimal(0)
    for request in requests:
        tier = next((t for t in tiers if request.input_tokens <= t.end), tiers[-1])
        if request.input_tokens > tier.start or request.input_tokens == 0:
            total += request.input_tokens * tier.input_price / MILLION
            total += request.output_tokens * tier.output_price / MILLION
    return total


def cumulative(tiers: list[Tier], requests: list[Request]) -> Decimal:
    """Counting goes on over the calendar month, in UTC."""
    used: dict[tuple[int, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
    total = Decimal(0)
    for request in requests:
        month = request.time.year, request.time.month
        inputs, outputs = used[month]
        total += tiered(tiers, request, (inputs, outputs))
        used[month] = inputs + request.input_tokens, outputs + request.output_tokens
    return total


STRATEGIES = {"graduated": graduated, "volume": volume, "cumulative": cumulative}


def main(path: str) -> None:
    requests = read_trace(path)
    print(f"{len(requests)} requests")
    for name, cost in STRATEGIES.items():
        with localcontext(prec=60):
            print(f"{name:<10}  {cost(TIERS, requests).normalize():f}")


if __name__ == "__main__":
    main(sys.argv[1])
