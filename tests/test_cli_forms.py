"""What commands print: tables, JSON by the published schemas, CSV; and that the figures agree."""

from __future__ import annotations

import csv
import io
import json
from array import array
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from commands import BEGIN, HOSTILE, READING, WIDE, fill, in_milliseconds, run
from conftest import ROOT

from datamanager import DataManager
from datamanager.cli.moments import _months_ago

jsonschema = pytest.importorskip("jsonschema", reason="needs the library of the test extra")

SCHEMA = json.loads((ROOT / "docs" / "cli.schema.json").read_text(encoding="utf-8"))
NAMES = ["Qwen3-Coder-30B", WIDE, HOSTILE, "no requests"]
ONE_REQUEST = ["cost", NAMES[0], "--input", "3000", "--output", "10", "--cache", "5"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("forms") / "usage.db"
    fill(path, NAMES[:-1])
    with DataManager(path, models=[NAMES[-1]]) as dm:
        dm.update_hourly_price(NAMES[0], 2.5, effective_from=BEGIN + 86_400)
        in_milliseconds(dm, NAMES[0], [2e11, 10, 10, 0, 10])
    return path


MORE = "datamanager: only the newest 50 are here: --limit N is for more, 0 for all\n"


def valid(name: str, text: str) -> dict[str, Any]:
    found = json.loads(text)
    schema = {"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]}
    jsonschema.Draft202012Validator(schema).validate(found)
    assert isinstance(found, dict)
    return found


def json_of(path: Path, *command: str, schema: str | None = None) -> dict[str, Any]:
    done = run(*command, "--db", str(path), "--json")
    assert (done.returncode, done.stderr) in ((0, ""), (0, MORE))
    assert all(line.isprintable() for line in done.stdout.splitlines())
    return valid(schema or command[0], done.stdout)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_json(path: Path, command: list[str]) -> None:
    rows = json_of(path, *command)["rows"]
    names = {row["model"] for row in rows}
    assert HOSTILE in names if command != ["requests"] else rows
    with DataManager(path) as dm:
        assert names <= {*dm.get_models(), None}


def test_json_of_one_request(path: Path) -> None:
    found = json_of(path, *ONE_REQUEST, schema="cost of one request")
    with DataManager(path) as dm:
        wanted = dm.cost(NAMES[0], 3000, 10, 5)
    assert Decimal(found["cost_exact"]) == wanted.cost_exact
    assert sum(Decimal(row["cost_exact"]) for row in found["rows"]) == wanted.cost_exact


def test_json_of_the_others(tmp_path: Path) -> None:
    valid("sqlite-info", run("sqlite-info", "--json").stdout)
    (tmp_path / "data_manager.py").write_text("class Monitor: pass\n")
    valid("adopt", run("adopt", "--json", str(tmp_path)).stdout)
    assert len(valid("demo", run("demo", "--json", "--dir", str(tmp_path)).stdout)["rows"]) == 3


def test_the_figures_agree(path: Path) -> None:
    """Python, JSON, CSV and the terminal say the same, by day and in all."""
    options = [
        "--by",
        "day",
        "--tz",
        "Asia/Shanghai",
        "--since",
        "2025-10-09",
        "--to",
        "2025-10-11",
    ]
    start = datetime.fromisoformat("2025-10-09T00:00+08:00")
    end = datetime.fromisoformat("2025-10-12T00:00+08:00")
    with DataManager(path) as dm:
        wanted = dm.usage(start=start, end=end, by="day", tz="Asia/Shanghai")
    rows = json_of(path, "usage", *options, "--zeros")
    assert rows["window"] == {
        "start": start.timestamp(), "end": end.timestamp(), "tz": "Asia/Shanghai",
    }  # fmt: skip
    names = wanted.columns
    plain = [
        {n: f"{v:f}" if isinstance(v := getattr(row, n), Decimal) else v for n in names}
        for row in wanted
    ]
    assert rows["rows"] == plain
    assert Decimal(rows["total"]["cost_exact"]) == wanted.total.cost_exact
    done = run("usage", *options, "--zeros", "--csv", "--db", str(path))
    table = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["cost_exact"] for row in table] == [row["cost_exact"] for row in plain]
    assert [datetime.fromisoformat(row["start"]).timestamp() for row in table] == [
        row["start"] for row in plain
    ]
    shown = run("usage", *options, "--db", str(path)).stdout.splitlines()
    assert shown[-1].split()[-1] == f"{wanted.total.cost_exact:,.6f}"
    assert len(shown) == 2 + sum(1 for row in wanted if row.requests or row.runtime_seconds)


@pytest.mark.parametrize("command", [*READING, ["sqlite-info"], ONE_REQUEST], ids=" ".join)
def test_csv(path: Path, command: list[str]) -> None:
    """The same names and as many values in each row; names of models as they are."""
    database = [] if command == ["sqlite-info"] else ["--db", str(path)]
    done = run(*command, *database, "--csv")
    header, *rows = csv.reader(io.StringIO(done.stdout, newline=""))
    assert done.returncode == 0 and rows and {len(row) for row in rows} == {len(header)}
    if database and command != ONE_REQUEST:
        fields = json_of(path, *command)["rows"][0]
        assert header == list(fields)
        assert command == ["requests"] or HOSTILE in {row[0] for row in rows}


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_names_are_only_text(path: Path, command: list[str]) -> None:
    done = run(*command, "--db", str(path))
    assert done.returncode == 0
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert "\\x1b]0;owned\\x07" in done.stdout or command == ["requests"]


def test_requests(path: Path) -> None:
    with DataManager(path) as dm:
        wanted = {
            (name, row.id) for name in NAMES for row in dm.get_model_requests(name, limit=1000)
        }
    everything = json_of(path, "requests", "--limit", "0")["rows"]
    assert {(row["model"], row["id"]) for row in everything} == wanted
    times = [row["timestamp"] for row in everything]
    assert times == sorted(times, reverse=True)
    assert json_of(path, "requests", "--limit", "7")["rows"] == everything[:7]
    one = json_of(path, "requests", WIDE)["rows"]
    assert [row["id"] for row in one] == list(range(200, 150, -1))
    assert run("requests", "--limit", "-1", "--db", str(path)).returncode == 2


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_what_the_default_leaves_out_is_said(tmp_path: Path, form: list[str]) -> None:
    path = tmp_path / "usage.db"
    with DataManager(path) as dm:
        for model, count in (("one", 51), ("two", 50)):
            dm.add_model_requests(model, [[n, 1, 1, 0, 1] for n in range(count)])
            for n in range(count):
                dm.add_model_runtime_start(model, n)
    for command in ("requests", "runtime"):
        for words, said in (
            ([], MORE),
            (["one"], MORE),
            (["two"], ""),
            (["one", "--until", "@50"], ""),
            (["one", "--limit", "50"], ""),
        ):
            done = run(command, *words, *form, "--db", str(path))
            assert (done.returncode, done.stderr) == (0, said)
            assert form != ["--csv"] or done.stdout.count("\n") == 51


def test_runtime(path: Path) -> None:
    found = json_of(path, "runtime")["rows"]
    assert [row["seconds"] for row in found if row["model"] is None] == [172_800]
    assert len(found) == 4
    assert len(json_of(path, "runtime", "--program")["rows"]) == 1
    assert len(json_of(path, "runtime", WIDE)["rows"]) == 1
    assert json_of(path, "runtime", "--since", "2025-11-01")["rows"] == []


def test_prices(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    fill(path, ["m"])
    tiers = ["--tier", "0-100", "1", "2.5", "0.25", "--tier", "100-", "3", "4"]
    when = ["--since", "2025-10-10", "--tz", "UTC"]
    done = json_of(path, "prices", "set", "m", *tiers, *when, "--strategy", "volume")
    assert [row["input_price_per_million"] for row in done["rows"]] == [1, 3]
    with DataManager(path) as dm:
        before, after = dm.get_price_history("m")
    assert after.effective_from == datetime.fromisoformat("2025-10-10T00:00Z").timestamp()
    assert (after.strategy, before.strategy) == ("volume", "graduated")
    assert [tuple(vars(tier).values()) for tier in after.tier_pricing] == [
        (1, 0, 100, 1.0, 2.5, True, 0.25),
        (2, 100, 0, 3.0, 4.0, False, 0.0),
    ]
    assert len(json_of(path, "prices", "history")["rows"]) == 4
    earlier = json_of(path, "prices", "show", "--at", "2025-10-09", "--tz", "UTC")["rows"]
    assert [row["input_price_per_million"] for row in earlier] == [2, 4]
    hourly = json_of(path, "prices", "set", "m", "--hourly", "0.9")["rows"]
    assert hourly[0]["billed_by"] == "hourly" and hourly[0]["hourly_price"] == 0.9
    both = json_of(path, "prices", "set", "m", "--hourly", "1", *tiers, "--method", "tiers")["rows"]
    assert both[0]["billed_by"] == "tiers" and both[0]["hourly_price"] == 1


def test_prices_since_ever(tmp_path: Path) -> None:
    """What was used before keeps its prices, and it is said how they would change too."""
    path = tmp_path / "usage.db"
    fill(path, ["m"])
    with DataManager(path) as dm:  # else the change is a part of setting up
        dm.add_model_request("m", [datetime.now().timestamp(), 7, 7, 0, 7])
    words = ["prices", "set", "m", "--tier", "0-", "1", "0", "--db", str(path)]
    before = json_of(path, "usage")["total"]
    assert run(*words).stdout.splitlines()[-1].endswith("keeps its prices ('--since ever')")
    assert json_of(path, "usage")["total"] == before
    assert "keeps its prices" not in run(*words, "--since", "ever").stdout
    after = json_of(path, "usage")["total"]
    assert Decimal(after["cost_exact"]) == Decimal(before["input_tokens"]) / 10**6


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tier", "0", "1", "2"],
        ["--tier", "0-9", "1"],
        ["--tier", "0-9", "1", "2", "3", "4"],
        ["--tier", "0-9", "1", "two"],
        ["--tier", "9-0x", "1", "2"],
        ["--tier", "0-9", "1", "2", "--tier", "5-", "1", "2"],
        ["--hourly", "nan"],
        ["--hourly", "much"],
        ["--method", "neither"],
        [],
    ],
    ids=" ".join,
)
def test_prices_that_make_no_sense(tmp_path: Path, arguments: list[str]) -> None:
    path = tmp_path / "usage.db"
    fill(path, ["m"])
    done = run("prices", "set", "m", *arguments, "--db", str(path))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    with DataManager(path) as dm:
        assert len(dm.get_price_history("m")) == 1


# ---- windows of time ----


def window(path: Path, *options: str) -> tuple[Any, Any]:
    found = json_of(path, "usage", *options)["window"]
    return found["start"], found["end"]


@pytest.mark.parametrize(
    ("options", "start", "end"),
    [
        ("", None, None),
        ("--since 2025-10-09", "2025-10-09T00:00", None),
        ("--from 2025-10-09 --to 2025-10-09", "2025-10-09T00:00", "2025-10-10T00:00"),
        ("--from 2025-10-9T12:30 --to 2025-10-09T13:00:01.5", None, None),
        ("--from 2025-10-09T12:30 --to 2025-10-09T13:00:01.5", "2025-10-09T12:30",
         "2025-10-09T13:00:01.5"),
        ("--from 2025-10-09T12:30Z --to 2025-12", "2025-10-09T14:30", "2026-01-01T00:00"),
        ("--month 2025-10", "2025-10-01T00:00", "2025-11-01T00:00"),
        ("--month 2025-2", "2025-02-01T00:00", "2025-03-01T00:00"),
        ("--from 2024 --until 2025", "2024-01-01T00:00", "2026-01-01T00:00"),
        ("--from @1760000000 --until @1760000001.5", "2025-10-09T10:53:20",
         "2025-10-09T10:53:21.5"),
    ],
)  # fmt: skip
def test_windows(path: Path, options: str, start: str | None, end: str | None) -> None:
    from zoneinfo import ZoneInfo

    def seconds(text: str | None) -> float | None:
        if text is None:
            return None
        return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()

    words = options.split()
    if "2025-10-9T12:30" in words:
        assert run("usage", *words, "--db", str(path)).returncode == 2
        return
    assert window(path, *words, "--tz", "Europe/Berlin") == (seconds(start), seconds(end))


def test_windows_before_now(path: Path) -> None:
    now = datetime.now().timestamp()
    start, end = window(path, "--since", "1.5h", "--until", "now")
    assert end >= now and abs(end - start - 5400) < 60
    for ago, seconds in [
        ("90s", 90), ("3min", 180), ("7d", 604_800), ("2w", 1_209_600), ("7 Days ago", 604_800),
        ("1.5 hours", 5400), ("2 weeks", 1_209_600), ("10 minutes", 600), ("1m", 60),
    ]:  # fmt: skip
        start, end = window(path, "--since", ago)
        assert end is None and now - seconds <= start <= now - seconds + 600
    yesterday, today = window(path, "--since", "yesterday", "--until", "yesterday", "--tz", "UTC")
    assert today % 86_400 == 0 and today - yesterday == 86_400 and now - today < 2 * 86_400
    first, last = window(path, "--month", "last")
    assert first < last == window(path, "--month", "this")[0] <= now


def test_months_before_now(path: Path) -> None:
    from zoneinfo import ZoneInfo

    for day, months, wanted in [
        (31, 1, (2024, 2, 29)),
        (31, 13, (2023, 2, 28)),
        (5, 3, (2023, 12, 5)),
    ]:
        assert _months_ago(datetime(2024, 3, day, 7), months) == datetime(*wanted, 7)
    now = datetime.now(ZoneInfo("Asia/Shanghai"))
    for ago in ("1y", "1 year ago", "12 months", "12mo"):
        start, end = window(path, "--since", ago, "--tz", "Asia/Shanghai")
        begin = datetime.fromtimestamp(start, now.tzinfo)
        assert end is None and 364 <= (now - begin).days <= 366


@pytest.mark.parametrize(
    "options",
    [
        "--since 9999y", "--since 1.5mo", "--since 7fortnights",
        "--since tomorrowish", "--since 7", "--since 2025-13", "--since 2025-02-30",
        "--month 2025", "--month october", "--month 2025-10 --since 1d", "--since -5d",
        "--from 2025-10-10 --to 2025-10-09", "--tz Atlantis",
        "--since 1969-01-01", "--since @nan", "--by fortnight", "--by -1", "--by nan",
        "--strategy free", "--json --csv", "--billing-anchor 31", "--nonsense",
        "--by 0.001", "--by 1e-300", "--since 20251009", "--until 20251009", "--since 2025-W41",
    ],
)  # fmt: skip
def test_options_that_make_no_sense(path: Path, options: str) -> None:
    """Each is told in a line, and is the user's mistake."""
    done = run("usage", *options.split(), "--db", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("datamanager: ") and done.stderr.count("\n") == 1, done.stderr


def test_prices_alone_shows_them(path: Path) -> None:
    for words in ([], ["--json"], [NAMES[0]], ["--db", str(path), "--csv"]):
        asked = [*words, *([] if "--db" in words else ["--db", str(path)])]
        done, wanted = run("prices", *asked), run("prices", "show", *asked)
        assert (done.returncode, done.stdout) == (0, wanted.stdout), done.stderr
    assert "history" in run("prices", "--help").stdout


def test_a_request_of_a_model_by_the_hour(path: Path) -> None:
    with DataManager(path) as dm:
        (hourly,) = [n for n in dm.get_models() if not dm.get_model_billing(n).use_tier_pricing]
    done = run("cost", hourly, "--input", "5", "--db", str(path))
    assert (done.returncode, done.stdout) == (0, "nothing: it is billed by the hour\n")


def test_costs_of_what(path: Path) -> None:
    for words in (["--at", "now"], ["--input", "5"], ["a", "b", "--input", "5"]):
        assert run("cost", *words, "--db", str(path)).returncode == 2
    assert run("cost", NAMES[0], "--input", "5", "--since", "1d", "--db", str(path)).returncode == 2
    shown = run("cost", "--db", str(path)).stdout.splitlines()
    assert shown[-1].split()[0] == "total" and shown[-1].endswith("100.0%")


@pytest.mark.slow
def test_a_million_requests(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    count = 1_000_000
    columns = {
        "timestamp": array("d", range(BEGIN, BEGIN + count)),
        **{name: array("q", [7]) * count for name in ("input_tokens", "output_tokens")},
        **{name: array("q", [0]) * count for name in ("cache_n", "prompt_n")},
    }
    with DataManager(path, durability="normal") as dm:
        dm.add_model_requests("m", columns)
    for command in READING:
        assert json_of(path, *command)["rows"] or command == ["runtime"]
    assert json_of(path, "usage", "--by", "day")["total"]["input_tokens"] == 7 * count
    done = run("requests", "--limit", "0", "--csv", "--db", str(path))
    assert done.stdout.count("\n") == count + 1
    assert json_of(path, "check")["rows"] == []
    assert json_of(path, "backup", str(tmp_path / "backup.db"))["bytes"] == path.stat().st_size


def test_the_database_is_named_anywhere(path: Path, tmp_path: Path) -> None:
    wanted = run("models", "--db", str(path)).stdout
    assert run("--db", str(path), "models").stdout == wanted
    assert run("models", DATAMANAGER_DB=str(path)).stdout == wanted
    assert run("models", "--db", str(path), DATAMANAGER_DB="none").stdout == wanted
    (tmp_path / "webui").mkdir()
    fill(tmp_path / "webui" / "monitoring.db", ["of the default"])
    assert "of the default" in run("models", cwd=tmp_path).stdout
