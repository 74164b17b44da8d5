"""Reports as text: what they say is what usage and invoices say, and names are only text."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from commands import BEGIN, HOSTILE, WIDE, environment, fill, in_milliseconds, run
from test_cli_forms import valid

from datamanager import DataManager
from datamanager.report.data import gather

NAMES = ["Qwen3-Coder-30B", WIDE, HOSTILE, "idle | `pipe`"]
every_ending = pytest.mark.parametrize(
    "ending",
    [
        pytest.param(
            ".html",
            marks=pytest.mark.skipif(
                find_spec("plotly") is None, reason="needs the library of the report extra"
            ),
        ),
        ".md",
        ".json",
        ".csv",
    ],
)
WINDOW = ["--from", "2025-10-09", "--to", "2025-10-10", "--tz", "Asia/Shanghai"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "usage.db"
    fill(path, NAMES[:-1])
    with DataManager(path, models=[NAMES[-1]]) as dm:
        dm.update_hourly_price(NAMES[0], 2.5, effective_from=BEGIN + 40_000)
    return path


def json_of(path: Path, *options: str) -> dict[str, Any]:
    done = run("report", "--json", *options, "--db", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    return valid("report", done.stdout)


def test_json(path: Path) -> None:
    found = json_of(path, *WINDOW)
    start, end = found["window"]["start"], found["window"]["end"]
    with DataManager(path) as dm:
        usage = dm.usage(start=start, end=end)
        invoice = dm.invoice(start=start, end=end)
        days = dm.usage(start=start, end=end, by="hour", tz="Asia/Shanghai")
    assert [row["cost_exact"] for row in found["models"]] == [f"{r.cost_exact:f}" for r in usage]
    assert Decimal(found["total"]["cost_exact"]) == usage.total.cost_exact == invoice.total
    lines = [Decimal(line["cost_exact"]) for line in found["invoice"]["lines"]]
    assert lines == [line.cost_exact for line in invoice]
    assert sum(lines) == Decimal(found["invoice"]["total_exact"]) == invoice.total
    tokens = usage.total.input_tokens + usage.total.output_tokens
    assert sum(map(sum, found["tokens_by_weekday_and_hour"])) == tokens
    assert sum(row["input_tokens"] for row in found["series"]) == usage.total.input_tokens
    assert found["step"] == "hour" and len(found["series"]) <= len(days)
    assert {strip["model"] for strip in found["runs"]} == {None, *NAMES[:3]}
    assert [tariff["model"] for tariff in found["prices"]].count(NAMES[0]) == 2


def test_what_is_written_meanwhile_is_in_all_tables_or_none(path: Path, tmp_path: Path) -> None:
    """A request that each look at the usage is followed by, as a busy host would send it."""
    copy = tmp_path / "usage.db"
    with DataManager(path) as dm:
        dm.backup(str(copy))

    class Busy(DataManager):
        def _usage(self, *arguments: Any) -> Any:
            found = super()._usage(*arguments)
            self.add_model_request(WIDE, [BEGIN + 60, 1000, 1000, 0, 1000])
            self.add_model_request(NAMES[2], [BEGIN + 60, 1000, 1000, 0, 1000])
            return found

    with Busy(copy) as dm:
        report = gather(dm, None, BEGIN, BEGIN + 86_400, "UTC")
        assert dm.usage(start=BEGIN, end=BEGIN + 86_400).total.cost_exact > report.invoice.total
    assert report.models.total.cost_exact == report.invoice.total


def test_the_heat_is_that_of_the_clock(tmp_path: Path) -> None:
    """Thursday 2025-10-09, 23:30 in UTC is Friday, 7:30 in Shanghai."""
    with DataManager(tmp_path / "usage.db") as dm:
        dm.add_model_request("m", [BEGIN - BEGIN % 86_400 + 23.5 * 3600, 30, 12, 0, 30])
    for zone, day, hour in [("UTC", 3, 23), ("Asia/Shanghai", 4, 7)]:
        heat = json_of(tmp_path / "usage.db", "--tz", zone)["tokens_by_weekday_and_hour"]
        assert {(d, h): n for d, row in enumerate(heat) for h, n in enumerate(row) if n} == {
            (day, hour): 42
        }


def days_pruned(dm: DataManager) -> None:
    dm.prune(BEGIN + 2 * 86_400, "day", tz="UTC")


def milliseconds(dm: DataManager) -> None:
    in_milliseconds(dm, WIDE, [BEGIN, 1000, 1000, 0, 1000])


@pytest.mark.parametrize(("change", "step"), [(days_pruned, "day"), (milliseconds, "month")])
def test_without_hours(path: Path, tmp_path: Path, change: Any, step: str) -> None:
    """The other figures are there, and agree."""
    copy = tmp_path / "usage.db"
    with DataManager(path) as dm:
        dm.backup(str(copy))
    with DataManager(copy) as dm:
        change(dm)
        total = dm.usage(tz="UTC").total
    found = json_of(copy, "--tz", "UTC")
    assert (found["tokens_by_weekday_and_hour"], found["step"]) == ([], step)
    assert Decimal(found["invoice"]["total_exact"]) == total.cost_exact
    assert sum(row["input_tokens"] for row in found["series"]) == total.input_tokens
    within_a_day = run("report", "--from", f"@{BEGIN + 60}", "--tz", "UTC", "--db", str(copy))
    assert within_a_day.returncode == (2 if change is days_pruned else 0)


def test_runs_are_strips(tmp_path: Path) -> None:
    """Within the window, and as one where they overlap or nearly touch."""
    with DataManager(tmp_path / "usage.db") as dm:
        for start, end in [(0, 100), (50, 150), (150.001, 200), (5000, 6000), (9000, 20_000)]:
            dm.add_model_runtime_start("m", start)
            dm.update_model_runtime_end("m", end)
    options = ["--from", "@20", "--to", "@10000"]
    (strip,) = json_of(tmp_path / "usage.db", *options)["runs"]
    assert strip["spans"] == [[20, 200], [5000, 6000], [9000, 10_000]]


@pytest.mark.parametrize(
    ("days", "step"),
    [(0.25, "minute"), (7, "hour"), (31, "day"), (365, "day"), (2000, "week"), (9000, "month")],
)
def test_steps(path: Path, days: float, step: str) -> None:
    found = json_of(path, "--from", f"@{BEGIN}", "--to", f"@{BEGIN + days * 86400}")
    assert found["step"] == step


def test_minutes(tmp_path: Path) -> None:
    """Of an hour there are whole minutes; where it was pruned to hours, those."""
    path = tmp_path / "usage.db"
    with DataManager(path) as dm:
        dm.add_model_requests("m", [[BEGIN + 7 + 90 * i, 10, 1, 0, 10] for i in range(40)])
    found = json_of(path)
    assert found["step"] == "minute" and len(found["series"]) == 40
    assert {row["start"] % 60 for row in found["series"]} == {0}
    with DataManager(path) as dm:
        dm.prune(BEGIN + 7200, "hour")
    pruned = json_of(path)
    assert pruned["step"] == "hour" and len(pruned["series"]) == 2
    assert pruned["total"] == found["total"]


def test_what_holds_since_ever(path: Path, tmp_path: Path) -> None:
    """A price set so is not said to begin in 1970."""
    copy = tmp_path / "usage.db"
    with DataManager(path) as dm:
        dm.backup(str(copy))
    words = ["m", "--hourly", "2", "--tier", "0-", "1", "2", "--method", "tiers"]
    words += ["--new", "--since", "ever"]
    shown = run("prices", "set", *words, "--db", str(copy))
    assert shown.returncode == 0 and shown.stdout.splitlines()[1].split()[1] == "ever"
    with DataManager(copy) as dm:
        dm.add_model_request("m", [BEGIN, 10, 10, 0, 10])
    text = run("report", "m", "--db", str(copy)).stdout
    assert "| m | ever | tiers |" in text and "| m | tier 1: 10 in × 1" in text


def test_latency(tmp_path: Path) -> None:
    """Of the models whose requests were timed, in every form; without any, not at all."""
    path = tmp_path / "usage.db"
    fill(path, ["m", WIDE])
    for options in ([], ["--lang", "zh"]):
        shown = run("report", *options, "--db", str(path)).stdout
        assert "Latency" not in shown and "延迟" not in shown
    assert json_of(path)["performance"] == []
    with DataManager(path) as dm:
        for number in range(100):
            dm.add_model_request(WIDE, [BEGIN + number, 9, 9, 0, 9], duration=number / 8)
        (wanted,) = dm.performance(WIDE, start=BEGIN, end=BEGIN + 100)
    window = ["--from", f"@{BEGIN}", "--to", f"@{BEGIN + 100}"]
    (row,) = json_of(path, *window)["performance"]
    assert (row["model"], row["duration_p99"]) == (WIDE, wanted.duration_p99)
    lines = (
        run("report", *window, "--db", str(path))
        .stdout.split("## Latency by model")[1]
        .splitlines()
    )
    cells = [cell.strip() for cell in lines[4].strip("|").split("|")]
    assert cells == [WIDE, "6.125", "11.750", "12.250", "–", "–", "–", "–", "–"]


def test_csv_is_the_invoice(path: Path) -> None:
    done = run("report", "--csv", *WINDOW, "--db", str(path))
    rows = list(csv.DictReader(io.StringIO(done.stdout, newline="")))
    wanted = json_of(path, *WINDOW)["invoice"]
    assert [row["cost_exact"] for row in rows] == [line["cost_exact"] for line in wanted["lines"]]
    assert {row["model"] for row in rows} == set(NAMES[:3])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_markdown(path: Path, language: str) -> None:
    done = run("report", *WINDOW, "--lang", language, "--db", str(path))
    assert done.returncode == 0 and all(line.isprintable() for line in done.stdout.splitlines())
    total = Decimal(json_of(path, *WINDOW)["invoice"]["total_exact"])
    assert f"**{total:,f}**" in done.stdout
    assert (
        "\\<script\\>alert(1)\\</script\\>\\\\x1b" in done.stdout and "<script>" not in done.stdout
    )
    assert "idle \\| \\`pipe\\`" in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    tables = {line.replace("\\|", "").count("|") for line in rows}
    assert tables == {10, 4, 11}
    assert ("## 账单" in done.stdout) is (language == "zh")


@every_ending
def test_files(path: Path, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"report{ending}"
    file.write_text("an older one")
    done = run("report", *WINDOW, "-o", str(file), "--db", str(path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.listdir(tmp_path) == [file.name]
    text = file.read_text(encoding="utf-8")
    if ending == ".json":
        valid("report", text)
    elif ending == ".html":
        assert text.startswith("<!DOCTYPE html>") and len(text) < 5_000_000


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["-o", "report.pdf"], 2),
        (["-o", "report"], 2),
        (["-o", "report.md", "--json"], 2),
        (["--lang", "fr"], 2),
        (["nobody"], 3),
    ],
    ids=str,
)
def test_refused(path: Path, tmp_path: Path, options: list[str], code: int) -> None:
    done = run("report", *options, "--db", str(path), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["folder.md", "file.md/report.md", "n" * 256 + ".md"])
def test_what_is_not_a_file(path: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "file.md").touch()
    before = sorted(os.listdir(tmp_path))
    done = run("report", *WINDOW, "-o", name, "--db", str(path), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (6, "", 1), done.stderr
    assert name in done.stderr and sorted(os.listdir(tmp_path)) == before


def test_never_over_the_database(tmp_path: Path) -> None:
    path = tmp_path / "usage.json"
    fill(path, ["m"])
    before = path.read_bytes()
    done = run("report", "-o", str(path), "--db", str(path))
    assert done.returncode == 2 and path.read_bytes() == before


@every_ending
def test_an_empty_database(tmp_path: Path, ending: str) -> None:
    DataManager(tmp_path / "usage.db").close()
    file = tmp_path / f"report{ending}"
    done = run("report", "-o", str(file), "--db", str(tmp_path / "usage.db"))
    assert done.returncode == 0, done.stderr
    if ending == ".json":
        assert json.loads(file.read_text())["models"] == []


def test_times_beyond_calendars(tmp_path: Path) -> None:
    """Milliseconds where seconds are meant: told, not a traceback."""
    with DataManager(tmp_path / "usage.db") as dm:
        in_milliseconds(dm, "m", [1_760_000_000, 1, 1, 0, 1])
    done = run("report", "--db", str(tmp_path / "usage.db"))
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr


def test_without_plotly(path: Path, tmp_path: Path) -> None:
    """Only the page needs it, and says how to come by it."""
    code = "import sys; sys.modules['plotly'] = None; from datamanager.cli import main; "
    for ending, wanted in ((".html", 1), (".md", 0), (".json", 0), (".csv", 0)):
        words = ["report", "-o", str(tmp_path / f"r{ending}"), "--db", str(path)]
        done = subprocess.run(
            [sys.executable, "-c", f"{code}sys.exit(main({words!r}))"],
            capture_output=True, text=True, check=False, env=environment(),
        )  # fmt: skip
        assert done.returncode == wanted, done.stderr
        assert ("pip install 'datamanager[report]'" in done.stderr) is (wanted == 1)
    assert not (tmp_path / "r.html").exists()
