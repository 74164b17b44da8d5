"""``status`` and ``performance``: once, and watched in a terminal that shows the present alone."""

from __future__ import annotations

import csv
import io
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from commands import BEGIN, COMMAND, environment, fill, run
from terminals import CTRL_C, Terminal
from test_cli_forms import json_of

from datamanager import DataManager
from datamanager.cli.output import values


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "usage.db"
    fill(path, ["m", "other"])
    with DataManager(path) as dm:
        for second in range(100):
            dm.add_model_request(
                "m", [BEGIN + second, 200, 100, 0, 200], duration=second / 10 + 1, first_token=0.5
            )
    return path


# ---- status ----


def test_status(path: Path) -> None:
    now = time.time()
    with DataManager(path) as dm:
        dm.add_model_runtime_start("m", now - 3600)
        dm.update_model_runtime_end("m", now)
        wanted = dm.get_status(stale_after=1e9, start=BEGIN, end=BEGIN + 200_000)
    asked = ["--stale-after", "1e9", "--from", f"@{BEGIN}", "--to", f"@{BEGIN + 200_000}"]
    found = json_of(path, "status", *asked)
    assert found["stale_after"] == 1e9
    assert [list(row.values()) for row in found["rows"]] == [values(row) for row in wanted]
    assert found["rows"][0]["model"] is None and found["rows"][0]["running"]
    (other,) = json_of(path, "status", "other")["rows"]
    assert not other["running"] and other["availability"] == 0
    shown = run("status", "--db", str(path)).stdout.splitlines()
    assert shown[1].startswith("(the program)") and len(shown) == 4


@pytest.mark.parametrize(
    "options", ["--stale-after 0", "--stale-after soon", "--watch 0", "--watch -1", "--watch nan"]
)
def test_what_makes_no_sense(path: Path, options: str) -> None:
    done = run("status", *options.split(), "--db", str(path))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr


def watching(path: Path, columns: int = 120, **env: str) -> Terminal:
    words = [*COMMAND, "status", "--watch", "0.05", "--db", str(path)]
    return Terminal(words, environment(NO_COLOR="1", **env), columns)


def test_watch(path: Path) -> None:
    """It draws over what it showed, sees what happens meanwhile, and Ctrl-C ends it."""
    with watching(path) as terminal:
        terminal.wait_for(b"Ctrl-C ends")
        assert b"7,777,777" not in terminal.shown
        with DataManager(path) as dm:
            dm.add_model_request("other", [BEGIN + 99_999, 7_777_777 - 936_800, 0, 0, 0])
        terminal.wait_for(b"\x1b[J\x1b[H")
        with DataManager(path) as dm:
            wanted = f"{dm.get_model_status('other').input_tokens:,}".encode()
        terminal.wait_for(wanted)
        terminal.press(CTRL_C)
        assert terminal.finish() == 130
    text = terminal.shown
    assert text.count(b"\x1b[2J") == 1 and b"Traceback" not in text
    assert set(re.findall(rb"\x1b\[[0-9;?]*[A-Za-z]", text)) == {
        b"\x1b[2J", b"\x1b[H", b"\x1b[K", b"\x1b[J",
    }  # fmt: skip


def test_watch_keeps_to_the_terminal(tmp_path: Path) -> None:
    """Of sixty models on forty lines, what has room."""
    path = tmp_path / "usage.db"
    DataManager(path, models=[f"model {number}" for number in range(60)]).close()
    with watching(path, 200) as terminal:
        terminal.wait_for(b"\x1b[J\x1b[H")
        terminal.press(CTRL_C)
        terminal.finish()
    first = terminal.shown.split(b"\x1b[2J\x1b[H")[1].split(b"\x1b[J")[0]
    lines = first.decode().split("\n")[:-1]
    assert len(lines) == 39 and lines[-1].startswith("…")


def test_watch_follows_the_file(path: Path) -> None:
    """One that was replaced is read anew; one that is gone ends it."""
    with watching(path) as terminal:
        terminal.wait_for(b"other")
        DataManager(path.with_name("new.db"), models=["a new one"]).close()
        path.with_name("new.db").replace(path)
        terminal.wait_for(b"a new one")
        path.unlink()
        assert terminal.finish() == 3


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]], ids=str)
def test_watch_into_a_pipe(path: Path, form: list[str]) -> None:
    """One result after the other, with nothing in them that a terminal would obey."""
    words = [*COMMAND, "status", "other", "--watch", "0.05", *form, "--db", str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        once = run("status", "other", *form, "--db", str(path)).stdout.splitlines(keepends=True)
        shown = [process.stdout.readline() for _ in range(2 * len(once))]
        assert shown == once * 2 and "\x1b" not in "".join(shown)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 130


def test_a_pipe_does_not_wait(path: Path) -> None:
    """For a second result, a day later."""
    words = [*COMMAND, "status", "--watch", "86400", "--db", str(path)]
    env = environment(PYTHONUNBUFFERED="")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        assert [process.stdout.readline().split()[0] for _ in range(3)][1:] == ["(the", "m"]
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        watchdog.cancel()


def test_watch_on_a_terminal_that_cannot(path: Path) -> None:
    with watching(path, TERM="dumb") as terminal:
        terminal.wait_for(b"(the program)")
        terminal.press(CTRL_C)
        assert terminal.finish() == 130
    assert b"\x1b" not in terminal.shown


# ---- performance ----


def test_performance(path: Path) -> None:
    with DataManager(path) as dm:
        wanted = dm.performance()
    found = json_of(path, "performance")["rows"]
    assert [list(row.values()) for row in found] == [values(row) for row in wanted]
    window = ["--from", f"@{BEGIN}", "--to", f"@{BEGIN + 100}"]
    (row,) = json_of(path, "performance", "m", *window)["rows"]
    assert (row["duration_p50"], row["duration_p99"], row["first_token_max"]) == (5.9, 10.8, 0.5)
    shown = run("performance", "m", *window, "--db", str(path)).stdout.splitlines()
    assert shown[1].split()[-6:] == ["5.900", "10.400", "10.800", "0.500", "0.500", "0.500"]


def test_performance_over_time(path: Path) -> None:
    options = ["--by", "day", "--tz", "Asia/Shanghai"]
    with DataManager(path) as dm:
        dm.add_model_request("m", [BEGIN + 9 * 86_400, 1, 1, 0, 1])
        wanted = dm.performance(by="day", tz="Asia/Shanghai")
    found = json_of(path, "performance", *options)["rows"]
    assert [row["start"] for row in found] == [row.start for row in wanted if row.requests]
    every = json_of(path, "performance", *options, "--zeros")["rows"]
    assert [row["start"] for row in every] == [row.start for row in wanted]
    assert len(every) > len(found)
    done = run("performance", *options, "--csv", "--db", str(path))
    days = [row["start"] for row in csv.DictReader(io.StringIO(done.stdout))]
    assert all(day.endswith("T00:00:00+08:00") for day in days) and len(days) == len(found)
    assert run("performance", "--by", "fortnight", "--db", str(path)).returncode == 2
