"""Invoices add up, whatever the prices, strategies and windows are."""

from __future__ import annotations

import random
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import datamanager.invoice
from datamanager import DataManager, ModelNotFoundError

BEGIN, DAYS = 1_759_276_800, 90  # 2025-10-01T00:00:00Z
STRATEGIES = ("graduated", "volume", "cumulative")


def fill(dm: DataManager, seed: int) -> None:
    """Models by tiers and by the hour, changing from one to the other and from price to price."""
    chance = random.Random(seed)
    for name in ("a", "b", "本地"):
        rows = []
        for _ in range(400):
            tokens = int(chance.lognormvariate(7, 2))
            hits = int(tokens * chance.random() * 1.2)
            when = BEGIN + chance.random() * DAYS * 86400
            rows.append([when, tokens, int(chance.lognormvariate(6, 2)), hits, tokens])
        dm.add_model_requests(name, rows)
        for day in range(0, DAYS, 17):
            dm.add_model_runtime_start(name, BEGIN + day * 86400)
            dm.update_model_runtime_end(name, BEGIN + day * 86400 + chance.random() * 86400 * 5)
        for change in range(4):
            edge = chance.randrange(100, 5000)
            tiers = [
                [1, 0, edge, chance.random(), chance.random(), chance.random() < 0.7, 0.001],
                [5, edge, 0, chance.random(), 1e-12, True, chance.random() / 7],
            ]
            dm.set_pricing(
                name,
                tiers=tiers,
                hourly_price=chance.random(),
                use_tier_pricing=chance.random() < 0.7,
                strategy=chance.choice(STRATEGIES),
                effective_from=None if change == 0 else BEGIN + change * 25 * 86400 + 0.5,
            )


@pytest.mark.parametrize("seed", range(6))
def test_the_sum_is_that_of_usage(dm: DataManager, seed: int) -> None:
    fill(dm, seed)
    windows = [
        (None, None),
        (BEGIN + 86400 * 20, BEGIN + 86400 * 60.3),
        (None, BEGIN),
        (BEGIN, None),
    ]
    for start, end in windows:
        for strategy in (None, *STRATEGIES):
            asked = {"start": start, "end": end, "tz": "UTC", "strategy": strategy}
            asked["billing_anchor"] = date(2025, 1, 1 + seed)
            asked["prices"] = "current" if seed == 5 else "historical"
            invoice, usage = dm.invoice(**asked), dm.usage(**asked)
            assert invoice.total == usage.total.cost_exact
            assert sum(Fraction(line.cost_exact) for line in invoice) == Fraction(invoice.total)
            for row in usage:
                lines = [line for line in invoice if line.model == row.model]
                hours = [line for line in lines if line.tier_index is None]
                assert sum(line.cost_exact for line in lines) == row.cost_exact
                assert sum(line.cost_exact for line in hours) == row.runtime_cost_exact
                seconds = [line.runtime_seconds or 0 for line in hours]
                assert sum(seconds) <= row.runtime_seconds * (1 + 1e-12)
                for line, paid in zip(hours, seconds, strict=True):
                    assert line.cost == pytest.approx(paid * (line.hourly_price or 0) / 3600)


@pytest.mark.parametrize("seed", range(6))
def test_lines_are_tokens_times_prices(dm: DataManager, seed: int) -> None:
    fill(dm, seed)
    for line in dm.invoice(tz="UTC"):
        if line.tier_index is None:
            continue
        pairs = [
            (line.input_tokens, line.input_price_per_million),
            (line.cache_hit_tokens, line.cache_hit_price_per_million),
            (line.output_tokens, line.output_price_per_million),
        ]
        cost = sum(tokens * Decimal(repr(price)) for tokens, price in pairs)
        assert line.cost_exact == cost / 1_000_000
        (tariff,) = [t for t in dm.get_price_history(line.model) if t.effective_from == line.since]
        (tier,) = [t for t in tariff.tier_pricing if t.tier_index == line.tier_index]
        assert (line.start_tokens, line.end_tokens) == (tier.start_tokens, tier.end_tokens)


def test_lines_of_a_known_case(dm: DataManager) -> None:
    """The example of the design, twice: 40,000 in, 10,000 of them hits, 1,000 out."""
    dm.set_pricing(
        "m", tiers=[[1, 0, 32768, 2, 8, True, 0.4], [2, 32768, 131072, 4, 16, True, 0.8]]
    )
    dm.add_model_requests("m", [[BEGIN, 40_000, 1_000, 10_000, 30_000]] * 2)
    lines = [(line.tier_index, *line[5:8], line.cost_exact) for line in dm.invoice("m")]
    assert lines == [
        (1, 45_536, 20_000, 2_000, Decimal("0.115072")),
        (2, 14_464, 0, 0, Decimal("0.057856")),
    ]
    assert dm.invoice("m").total == 2 * Decimal("0.086464")


def test_hours(dm: DataManager) -> None:
    dm.set_pricing("m", hourly_price=2.5, use_tier_pricing=False)
    dm.add_model_runtime_start("m", BEGIN)
    dm.update_model_runtime_end("m", BEGIN + 7200)
    (line,) = dm.invoice()
    assert (line.runtime_seconds, line.hourly_price, line.cost_exact) == (7200, 2.5, 5)
    dm.update_hourly_price("m", 3.5, effective_from=BEGIN + 3600)
    lines = [(line.since, line.runtime_seconds, line.hourly_price) for line in dm.invoice()]
    assert lines == [(None, 3600, 2.5), (BEGIN + 3600, 3600, 3.5)]
    assert [line.cost_exact for line in dm.invoice()] == [Decimal("2.5"), Decimal("3.5")]
    (line,) = dm.invoice(start=BEGIN + 3600)
    assert (line.hourly_price, line.cost_exact) == (3.5, Decimal("3.5"))
    (line,) = dm.invoice(end=BEGIN + 3600)
    assert (line.hourly_price, line.cost_exact) == (2.5, Decimal("2.5"))


def test_hours_that_were_billed_otherwise(dm: DataManager) -> None:
    """Three by tiers, one by the hour: it alone is on the line."""
    dm.set_pricing("m", tiers=[[1, 0, 0, 1, 1, False, None]], hourly_price=0.5)
    dm.add_model_runtime_start("m", BEGIN)
    dm.update_model_runtime_end("m", BEGIN + 4 * 3600)
    dm.set_pricing("m", use_tier_pricing=False, effective_from=BEGIN + 3 * 3600)
    (line,) = dm.invoice("m")
    assert (line.runtime_seconds, line.hourly_price, line.cost) == (3600, 0.5, 0.5)


def test_hours_that_are_rounded(dm: DataManager) -> None:
    """Each line is a third and the total two: their last digits are not those of the sum."""
    dm.set_pricing("m", hourly_price=1e-12, use_tier_pricing=False)
    dm.update_hourly_price("m", 1e-12, effective_from=BEGIN + 1200)
    dm.add_model_runtime_start("m", BEGIN)
    dm.update_model_runtime_end("m", BEGIN + 2400)
    invoice = dm.invoice("m")
    assert invoice.total == dm.usage("m").total.cost_exact == Decimal("1e-12")
    assert [line.cost_exact for line in invoice] == [Decimal("1e-12"), 0]


def test_a_model_that_goes_meanwhile(
    dm: DataManager, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that an invoice says is of the moment of its usage."""
    real = datamanager.invoice.usage

    def usage(*arguments: Any) -> Any:
        found = real(*arguments)
        with DataManager(path) as other:
            other.delete_model_tables("m")
        return found

    test_hours(dm)
    monkeypatch.setattr("datamanager.invoice.usage", usage)
    assert dm.invoice().total == 6
    assert dm.get_models() == []


def test_nothing_to_pay(dm: DataManager) -> None:
    assert list(dm.invoice()) == [] and dm.invoice().total == 0
    dm.add_model_request("no prices", [BEGIN, 10, 10, 0, 10])
    assert list(dm.invoice()) == []
    with pytest.raises(ModelNotFoundError):
        dm.invoice("nobody")
