"""docs/billing.md: the numbers of its tables are those of the code."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from documents import blocks, run, section, table
from oracle_money import HIGH, LOW

from datamanager import DataManager

ENGLISH, CHINESE = "docs/billing.md", "docs/billing.zh.md"
PAGES = {
    ENGLISH: ("## Three strategies", "## What the host's own loop makes of it"),
    CHINESE: ("## 三种策略", "## 宿主自己的循环算出什么"),
}
OF_BOTH = pytest.mark.parametrize("page", PAGES)
MONTH = 1_714_521_600.0  # May 2024 begins, UTC
TOKENS = re.compile(r"([\d,]+) in(?: \(([\d,]+) hits\))?(?:, ([\d,]+) out)?")


def whole(text: str | None) -> int:
    return int((text or "0").replace(",", ""))


@OF_BOTH
def test_strategies(page: str, dm: DataManager) -> None:
    found = table(page, PAGES[page][0])
    assert list(found) == ["graduated", "volume", "cumulative"]
    dm.set_pricing("m", tiers=[LOW, HIGH])
    dm.add_model_request("m", [MONTH, 20_000, 500, 0, 20_000])
    for strategy, (*tiers, amount) in found.items():
        asked: dict[str, Any] = {"at": MONTH + 1, "strategy": strategy, "tz": "UTC"}
        seen = dm.cost("m", 40_000, 1000, 10_000, **asked)
        counted = {
            part.tier_index: [part.cache_hit_tokens, part.input_tokens, part.output_tokens]
            for part in seen.slices
        }
        assert [counted.get(tier, [0, 0, 0]) for tier in (1, 2)] == [
            [whole(number) for number in cell.split(", ")] for cell in tiers
        ]
        assert seen.cost_exact == Decimal(amount)


def happen(dm: DataManager, case: str) -> None:
    """What the first cell of a row of the host's table says."""
    dm.set_pricing("m", tiers=[LOW, HIGH])
    if case == "two hours at 0.5":
        dm.set_pricing("m", hourly_price=0.5, use_tier_pricing=False)
        dm.add_model_runtime_start("m", MONTH)
        dm.update_model_runtime_end("m", MONTH + 2 * 3600)
        return
    tokens = TOKENS.match(case)
    assert tokens is not None
    inputs, hits, outputs = map(whole, tokens.groups())
    dm.add_model_request("m", [MONTH, inputs, outputs, hits, inputs - hits])
    if case.endswith("then prices double"):
        doubled = [
            tier.__replace__(input_price_per_million=2 * tier.input_price_per_million)
            for tier in (LOW, HIGH)
        ]
        dm.set_pricing("m", tiers=doubled, effective_from=MONTH + 1)


def cases(page: str) -> dict[str, list[str]]:
    rows = table(page, PAGES[page][1])
    assert len(rows) == 7
    return rows


@OF_BOTH
@pytest.mark.parametrize("number", range(7))
def test_hosts_loop(page: str, number: int, dm: DataManager) -> None:
    """Our figure from the store, the host's from the loop that the page shows."""
    names: dict[str, Any] = {}
    (loop,) = [block for block in blocks(page, "python") if "def host_cost" in block.code]
    run(loop, names)
    case, (ours, hosts, why) = list(cases(page).items())[number]
    happen(dm, case)
    assert dm.usage("m")[0].cost_exact == dm.usage("m", tz="UTC").total.cost_exact == Decimal(ours)
    assert names["host_cost"](dm, "m") == pytest.approx(float(hosts), rel=1e-12)
    same = ("the same", "相同")
    assert (ours == hosts) == why.endswith(same)


@OF_BOTH
def test_sums_in_the_text(page: str) -> None:
    """10,000 x 0.4 + ... is what the table says, in millionths."""
    sums = re.findall(r"[\d,]+ × [\d,. ×+\n]+", section(page, PAGES[page][0]))
    amounts = [
        sum(
            Decimal(tokens.replace(",", "")) * Decimal(price)
            for tokens, price in re.findall(r"([\d,]+) × ([\d.]+)", text)
        )
        for text in sums
    ]
    wanted = [Decimal(cells[-1]) for cells in table(page, PAGES[page][0]).values()]
    assert [amount / 10**6 for amount in amounts] == wanted


def test_both_pages_say_the_same() -> None:
    ours, theirs = ([block.code for block in blocks(page, "python")] for page in PAGES)
    assert ours == theirs != []
    ours_by_case, theirs_by_case = (
        {case: cells[:2] for case, cells in cases(page).items()} for page in PAGES
    )
    assert ours_by_case == theirs_by_case
    ours_by_strategy, theirs_by_strategy = (table(page, PAGES[page][0]) for page in PAGES)
    assert ours_by_strategy == theirs_by_strategy
