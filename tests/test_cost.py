"""datamanager.cost: what a request costs, against fractions and the definitions."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import random
import shutil
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_money import HIGH, LOW, STRATEGIES, TOKENS_MAX, cases, nearest, oracle, price, tier_of

import datamanager
from datamanager import Cost, CostSlice, InvalidDataError, TierPricing, cost


@settings(max_examples=1000, deadline=None)
@given(cases(), st.sampled_from(STRATEGIES))
def test_equals_the_definitions(case: tuple[list[TierPricing], list[int]], strategy: Any) -> None:
    tiers, (inputs, outputs, hits, input_before, output_before) = case
    before = (input_before, output_before)
    wanted = oracle(tiers, (inputs, outputs, hits), strategy, before)
    seen = cost(
        iter(tiers),
        inputs,
        outputs,
        hits,
        strategy=strategy,
        input_before=input_before,
        output_before=output_before,
    )
    assert Fraction(seen.cost_exact) == wanted
    assert seen.cost == nearest(wanted)
    assert Fraction(seen.cost_exact) == sum(Fraction(part.cost_exact) for part in seen.slices)
    for part in seen.slices:
        exact = (
            part.input_tokens * price(part.input_price_per_million)
            + part.cache_hit_tokens * price(part.cache_hit_price_per_million)
            + part.output_tokens * price(part.output_price_per_million)
        )
        assert Fraction(part.cost_exact) == exact
        assert part.cost == nearest(exact)


def test_tokens_one_by_one() -> None:
    """The same again for small requests, token by token: the oracle's own arithmetic is no part."""
    rng = random.Random(5)
    for _ in range(300):
        edges = sorted(rng.sample(range(30), 6))
        tiers = [
            TierPricing(i, low, high, rng.random(), rng.random(), rng.random() < 0.5, rng.random())
            for i, (low, high) in enumerate([edges[0:2], edges[2:4], edges[4:6]])
        ]
        inputs, outputs, hits, start = (rng.randrange(40) for _ in range(4))
        total = Fraction(0)
        for token in range(1, outputs + 1):
            if tier := tier_of(tiers, token):
                total += price(tier.output_price_per_million)
        left = min(hits, inputs)
        for token in range(start + 1, start + inputs + 1):
            if (tier := tier_of(tiers, token)) is None:
                continue
            hit = tier.support_cache and left > 0
            left -= hit
            total += price(
                tier.cache_hit_price_per_million if hit else tier.input_price_per_million
            )
        seen = cost(tiers, inputs, outputs, hits, strategy="cumulative", input_before=start)
        assert Fraction(seen.cost_exact) == total


def test_prices_are_read_as_they_show() -> None:
    """Every power of two, where doubles are spaced unevenly, and neighbours of random ones."""
    rng = random.Random(2)
    powers = [2.0**e for e in range(-1074, 87)]
    others = [rng.choice(powers[900:]) * (1 + rng.randrange(-2, 4) * 2**-52) for _ in range(2000)]
    written = [rng.randrange(10**9) / 10 ** rng.randrange(20) for _ in range(2000)]
    for value in [*powers, *others, *written, 1e26, 1e23]:
        if value <= 1e26:
            seen = cost([(1, 0, 0, value, 0, False, 0)], 1, 0)
            assert Fraction(seen.cost_exact) == price(value), value
            assert seen.slices[0].input_price_per_million == nearest(price(value) * 10**6)


# ---- the design's cases, and how they come about ----


@pytest.mark.parametrize("tiers", [[LOW, HIGH], [HIGH, LOW], (HIGH, LOW)])
def test_graduated(tiers: Any) -> None:
    seen = cost(tiers, 40_000, 1000, 10_000)
    parts = (
        CostSlice(1, 0, 32768, 22_768, 10_000, 1000, 2.0, 8.0, 0.4, 0.057536, Decimal("0.057536")),
        CostSlice(2, 32768, 131072, 7232, 0, 0, 4.0, 16.0, 0.8, 0.028928, Decimal("0.028928")),
    )
    assert seen == Cost(0.086464, Decimal("0.086464"), "graduated", parts)


def test_volume() -> None:
    seen = cost([LOW, HIGH], 40_000, 1000, cache_n=10_000, strategy="volume")
    assert (seen.cost, str(seen.cost_exact), seen.strategy) == (0.144, "0.144", "volume")
    assert [part.tier_index for part in seen.slices] == [2]


def test_cumulative() -> None:
    before: dict[str, Any] = {"input_before": 20_000, "output_before": 500}
    seen = cost([LOW, HIGH], 40_000, 1000, 10_000, strategy="cumulative", **before)
    assert (seen.cost, str(seen.cost_exact)) == (0.126464, "0.126464")
    assert cost([LOW, HIGH], 40_000, 1000, 10_000, **before).cost == 0.086464


def test_what_costs_nothing() -> None:
    for strategy in ("graduated", "volume", "cumulative"):
        assert cost([], 10, 10, 10, strategy=strategy) == Cost(0.0, Decimal(0), strategy, ())
    assert cost([HIGH], 100, 100) == Cost(0.0, Decimal(0), "graduated", ())  # before the tier
    free = cost([TierPricing(1, 0, 0, 0.0, 0.0, False, 0.0)], 10, 10)
    assert (free.cost, free.slices[0].end_tokens, free.slices[0].input_tokens) == (0.0, 0, 10)


def test_records() -> None:
    seen = cost([LOW, HIGH], 40_000, 1000, 10_000)
    assert pickle.loads(pickle.dumps(seen)) == seen == copy.deepcopy(seen)
    assert hash(seen) == hash(cost([HIGH, LOW], 40_000, 1000, 10_000))
    assert seen != cost([LOW, HIGH], 40_000, 1001, 10_000)
    assert repr(cost([], 0, 0)) == (
        "Cost(cost=0.0, cost_exact=Decimal('0'), strategy='graduated', slices=())"
    )
    assert eval(repr(seen), vars(datamanager) | {"Decimal": Decimal}) == seen
    match seen:
        case Cost(cost=amount, slices=(CostSlice(tier_index=1), CostSlice(2, 32768))):
            assert amount == 0.086464
        case _:
            pytest.fail("no match")


def test_signature() -> None:
    assert str(inspect.signature(cost)) == (
        "(tiers, input_tokens, output_tokens, cache_n=0, *, strategy='graduated', "
        "input_before=0, output_before=0)"
    )
    assert inspect.getdoc(cost)
    with pytest.raises(TypeError, match="at most 4 positional"):
        cost([], 1, 1, 1, "volume")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="missing required argument: 'output_tokens'"):
        cost([], 1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_tokens": -1}, "input_tokens must be a whole number .*, not -1"),
        ({"input_tokens": True}, "input_tokens must be a whole number .*, not True"),
        ({"output_tokens": 1.5}, "output_tokens must be a whole number .*, not 1.5"),
        ({"output_tokens": None}, "output_tokens must be a whole number .*, not None"),
        ({"cache_n": TOKENS_MAX + 1}, "cache_n must be a whole number .*, not 9007199254740993"),
        ({"input_before": -3}, "input_before must be a whole number .*, not -3"),
        ({"output_before": 2**70}, "output_before must be a whole number .*, not 1180591"),
        ({"output_before": TOKENS_MAX + 1}, "output_before must be .*, not 9007199254740993"),
        ({"strategy": "flat"}, "strategy must be 'graduated', .*, not 'flat'"),
        ({"strategy": None}, "strategy must be 'graduated', .*, not None"),
        ({"tiers": 5}, "tiers must be an iterable of tiers, not 5"),
        ({"tiers": [5]}, "tier_data must be a sequence of 7 values .*, not 5"),
        (
            {"tiers": [HIGH, TierPricing(3, 100, 0, 1.0, 1.0, False, 0.0)]},
            r"tier 2 \(32768 to 131072 tokens\) overlaps tier 3 \(100 to 0 tokens\)",
        ),
        (
            {"tiers": [TierPricing(3, 100, 50, 1.0, 1.0, False, 0.0)]},
            "end_tokens must be above start_tokens 100 .* not 50",
        ),
        (
            {"tiers": [TierPricing(3, 0, 0, float("nan"), 1.0, False, 0.0)]},
            "input_price_per_million must be a finite price of at least 0, not nan",
        ),
        (
            {"tiers": [TierPricing(3, 0, 0, 1.0, 2e26, False, 0.0)]},
            r"output_price_per_million must be a price from 0 to 1e26, not 2e\+26",
        ),
        (
            {"tiers": [TierPricing(3, 0, 0, 1e26, 1.0, False, 0.0)], "input_tokens": 2},
            "a cost must be at most 1.7e20 currency units",
        ),
    ],
)
def test_refuses(arguments: dict[str, Any], message: str) -> None:
    defaults: dict[str, Any] = {"tiers": [LOW], "input_tokens": 1, "output_tokens": 1}
    with pytest.raises(InvalidDataError, match=message):
        cost(**(defaults | arguments))


# ---- the process around it ----


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def comma_locale(folder: Path) -> str:
    """A folder for LOCPATH with a locale "comma": few machines have a German one."""
    if shutil.which("localedef") is None:
        pytest.skip("there is no localedef to make a locale with")
    source = folder / "comma.src"
    source.write_text(
        'LC_NUMERIC\ndecimal_point ","\nthousands_sep "."\ngrouping 3\nEND LC_NUMERIC\n'
    )
    done = subprocess.run(  # its status is 1 for the categories that are not there
        ["localedef", "-c", "-i", source, folder / "comma"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if not (folder / "comma" / "LC_NUMERIC").exists():
        pytest.skip(f"localedef cannot make a locale: {done.stderr}")
    return str(folder)


IN_COMMA = """
import locale
locale.setlocale(locale.LC_NUMERIC, "comma")
assert locale.localeconv()["decimal_point"] == ","
from datamanager import TierPricing, cost
tiers = [TierPricing(1, 0, 0, 1234567.125, 0.30000000000000004, True, 0.1)]
print(cost(tiers, 3_000_001, 1_000_000, 1))
"""


def test_a_decimal_comma_changes_nothing(tmp_path: Path) -> None:
    tiers = [TierPricing(1, 0, 0, 1234567.125, 0.30000000000000004, True, 0.1)]
    seen = cost(tiers, 3_000_001, 1_000_000, 1)
    assert str(seen.cost_exact) == "3703701.6750001"
    assert run(IN_COMMA, LOCPATH=comma_locale(tmp_path)) == f"{seen}\n"


def test_decimal_is_imported_when_it_is_needed() -> None:
    assert run(
        "import sys, datamanager as d; before = 'decimal' in sys.modules; d.cost([], 0, 0);"
        "print(before, 'decimal' in sys.modules)"
    ).split() == ["False", "True"]


def test_the_context_of_decimal_changes_nothing() -> None:
    import decimal

    with decimal.localcontext(decimal.Context(prec=2, traps=[decimal.Inexact])):
        assert str(cost([LOW, HIGH], 40_000, 1000, 10_000).cost_exact) == "0.086464"
