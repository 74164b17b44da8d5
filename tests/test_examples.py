"""The examples run, and what they compute is what the store answers."""

from __future__ import annotations

import csv
import os
import random
import runpy
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from datamanager import DataManager

SCRIPT = ROOT / "examples" / "trace_costs.py"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Two thousand requests about a turn of the month, with 100 ns digits, not in order."""
    rng = random.Random(11)
    path = tmp_path / "trace.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["TIMESTAMP", "ContextTokens", "GeneratedTokens"])
        for _ in range(2000):
            time = datetime(2023, 11, 30) + timedelta(microseconds=rng.randrange(2 * 86400 * 10**6))
            edge = rng.choice([0, 1024, 4096, 10_000])
            tokens = (max(0, edge + rng.randrange(-2, 3)), rng.choice([0, 5, 1025, 4097]))
            rows.writerow([f"{time:%Y-%m-%d %H:%M:%S.%f}7", *tokens])
    return path


def answered(trace: Path, script: dict[str, Any]) -> dict[str, tuple[Decimal, Decimal]]:
    """Per strategy, the store's total and the script's."""
    tiers = [
        [number, tier.start, tier.end, float(tier.input_price), float(tier.output_price), False, 0]
        for number, tier in enumerate(script["TIERS"], 1)
    ]
    requests = script["read_trace"](trace)
    rows = [[time.timestamp(), used, made, 0, used] for time, used, made in requests]
    with DataManager(":memory:") as dm:
        dm.set_pricing("m", tiers=tiers)
        dm.add_model_requests("m", rows)
        return {
            name: (
                dm.usage("m", strategy=name, tz="UTC", by="month").total.cost_exact,  # type: ignore[arg-type]
                cost(script["TIERS"], requests),
            )
            for name, cost in script["STRATEGIES"].items()
        }


def test_trace_costs(trace: Path) -> None:
    script = runpy.run_path(str(SCRIPT))
    answers = answered(trace, script)
    assert list(answers) == ["graduated", "volume", "cumulative"]
    for name, (ours, theirs) in answers.items():
        assert ours == theirs > 0, name
    assert len({ours for ours, _ in answers.values()}) == 3
    first = script["read_trace"](trace)[0]
    assert first.time.tzinfo is UTC


def test_trace_costs_prints(trace: Path) -> None:
    """Run as its heading says."""
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, trace], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    answers = answered(trace, runpy.run_path(str(SCRIPT)))
    wanted = [[name, f"{ours.normalize():f}"] for name, (ours, _) in answers.items()]
    first, *lines = done.stdout.splitlines()
    assert first == "2000 requests"
    assert [line.split() for line in lines] == wanted


@pytest.mark.skipif("DATAMANAGER_TRACE" not in os.environ, reason="DATAMANAGER_TRACE names no file")
def test_a_real_trace() -> None:
    answers = answered(Path(os.environ["DATAMANAGER_TRACE"]), runpy.run_path(str(SCRIPT)))
    for name, (ours, theirs) in answers.items():
        assert ours == theirs > 0, name
