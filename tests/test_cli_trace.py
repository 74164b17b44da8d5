"""A trace of requests, as a new user brings it: imported, priced, asked; all answers agree."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import runpy
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from commands import run
from conftest import ROOT

from datamanager import DataManager

SCRIPT = runpy.run_path(str(ROOT / "examples" / "trace_costs.py"))
STRATEGIES = list(SCRIPT["STRATEGIES"])
REAL = os.environ.get("DATAMANAGER_TRACE")
FIELDS = {
    "timestamp": "TIMESTAMP",
    "input_tokens": "ContextTokens",
    "output_tokens": "GeneratedTokens",
}


def made_up(path: Path) -> None:
    """An hour of conversations, from a seed: rows in order, 100 ns digits, no final newline."""
    chance = random.Random(3)
    moment, rows = datetime(2023, 11, 16, 18, 15, 46), []
    for _ in range(3000):
        moment += timedelta(microseconds=int(chance.expovariate(1) * 1_200_000))
        tokens = min(int(chance.lognormvariate(6.7, 0.9)) + 1, 14_050)
        rows.append(f"{moment:%Y-%m-%d %H:%M:%S.%f}0,{tokens},{chance.randrange(7, 1001)}")
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))


@pytest.fixture(
    scope="module",
    params=[
        "made up",
        pytest.param(
            "real", marks=pytest.mark.skipif(not REAL, reason="DATAMANAGER_TRACE names no file")
        ),
    ],
)
def trace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "trace.csv"
    if request.param == "real":
        assert REAL is not None
        path.write_bytes(Path(REAL).read_bytes())
    else:
        made_up(path)
    return path


def said(*words: str) -> str:
    done = run(*words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def path(trace: Path) -> Path:
    """The database, made by three commands."""
    path = trace.with_name("usage.db")
    columns = [word for name, column in FIELDS.items() for word in ("--column", f"{name}={column}")]
    where = ["--db", str(path)]
    said("import", str(trace), "--model", "conversation", "--new", "--tz", "UTC", *columns, *where)
    tiers = []
    for tier in SCRIPT["TIERS"]:
        tiers += [
            "--tier",
            f"{tier.start}-{tier.end}",
            str(tier.input_price),
            str(tier.output_price),
        ]
    said("prices", "set", "conversation", *tiers, "--since", "ever", *where)
    return path


def answers(path: Path, strategy: str) -> dict[str, Any]:
    """The sum, by whom it is told: an amount and two counts of tokens."""
    asked = ["--strategy", strategy, "--tz", "UTC", "--db", str(path)]
    usage = json.loads(said("usage", *asked, "--json"))["total"]
    (row,) = csv.DictReader(io.StringIO(said("usage", *asked, "--csv")))
    report = json.loads(said("report", *asked, "--json"))
    lines = [Decimal(line["cost_exact"]) for line in report["invoice"]["lines"]]
    with DataManager(path, read_only=True) as dm:
        total = dm.usage(strategy=strategy, tz="UTC").total  # type: ignore[arg-type]
        hours = dm.usage(strategy=strategy, tz="UTC", by="hour")  # type: ignore[arg-type]
    tokens = total.input_tokens, total.output_tokens
    cost = {
        "Python": total.cost_exact,
        "Python, by hour": sum(row.cost_exact for row in hours),
        "usage --json": Decimal(usage["cost_exact"]),
        "usage --csv": Decimal(row["cost_exact"]),
        "report --json": Decimal(report["total"]["cost_exact"]),
        "invoice": Decimal(report["invoice"]["total_exact"]),
        "its lines": sum(lines),
    }
    assert {(part["input_tokens"], part["output_tokens"]) for part in (usage, report["total"])} == {
        tokens
    }
    return {**cost, "tokens": tokens}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_figures_agree(trace: Path, path: Path, strategy: str) -> None:
    """With each other, and with plain decimals over the file itself."""
    requests = SCRIPT["read_trace"](trace)
    wanted = SCRIPT["STRATEGIES"][strategy](SCRIPT["TIERS"], requests)
    found = answers(path, strategy)
    tokens = sum(r.input_tokens for r in requests), sum(r.output_tokens for r in requests)
    assert found.pop("tokens") == tokens
    assert found == dict.fromkeys(found, wanted)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_people_read_the_same(path: Path, strategy: str) -> None:
    """In the terminal, in Markdown and on the page."""
    pytest.importorskip("plotly", reason="needs the library of the report extra")
    wanted = answers(path, strategy)
    shown = f"{wanted['Python']:,.6f}"
    asked = ["--strategy", strategy, "--tz", "UTC", "--db", str(path)]
    assert said("usage", *asked).splitlines()[-1].split()[-1] == shown
    counts = [f"{count:,}" for count in wanted["tokens"]]
    assert said("usage", *asked).splitlines()[-1].split()[2:4] == counts
    markdown = said("report", *asked)
    assert f"- Cost: {shown}" in markdown and f"- Input tokens: {counts[0]}" in markdown
    file = path.with_name(f"{strategy}.html")
    said("report", *asked, "-o", str(file))
    page = file.read_text(encoding="utf-8")
    assert re.findall(r"<dt>Cost</dt><dd>(.*?)</dd>", page) == [shown]
    whole = re.findall(r"<tfoot><tr>.*?([\d,.]+)</td></tr></tfoot>", page)
    assert {Decimal(text.replace(",", "")) for text in whole} >= {wanted["Python"]}
