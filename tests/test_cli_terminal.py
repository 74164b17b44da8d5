"""The command line in a terminal, in pipes and in shells."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import COMMAND, HOSTILE, READING, WIDE, environment, fill, run
from terminals import CTRL_C, Terminal

from datamanager.tables import width

CLEAR_LINE = b"\x15"
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
LONG = "a-model-with-a-name-that-is-so-long-that-no-table-has-room-for-it:q4_K_M-" + "x" * 60


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("terminal") / "usage.db"
    fill(path, ["Qwen3-Coder-30B", WIDE, HOSTILE, LONG])
    return path


def shown(path: Path, *command: str, columns: int = 80, **env: str) -> tuple[int, list[str]]:
    words = [*COMMAND, *command, "--db", str(path)]
    with Terminal(words, environment(**env), columns) as terminal:
        return terminal.finish(), terminal.lines


@pytest.mark.parametrize("columns", [200, 120, 80, 40])
@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_tables_fit(path: Path, command: list[str], columns: int) -> None:
    code, lines = shown(path, *command, columns=columns, NO_COLOR="1")
    assert code == 0 and lines
    assert [line for line in lines if width(line) > columns] == []
    text = "\n".join(lines)
    assert all(line.isprintable() for line in lines)
    for sign in ("Qwen3-Coder", WIDE[:5]):
        assert sign in text or command == ["requests"]


def test_a_wide_terminal_cuts_nothing(path: Path) -> None:
    _, lines = shown(path, "usage", columns=300, NO_COLOR="1")
    assert any(line.startswith(LONG) for line in lines) and "…" not in "".join(lines)
    piped = run("usage", "--db", str(path)).stdout.splitlines()
    assert piped == lines


def test_a_narrow_terminal_shows_every_value(path: Path) -> None:
    _, lines = shown(path, "usage", "Qwen3-Coder-30B", columns=40, NO_COLOR="1")
    wide = run("usage", "Qwen3-Coder-30B", "--db", str(path)).stdout.splitlines()
    found = [line.split() for line in lines if line]
    assert [words[0] for words in found[: len(found) // 2]] == wide[0].split()
    assert [words[1] for words in found[: len(found) // 2]] == wide[1].split()


def test_colour(path: Path) -> None:
    """On a terminal alone, and not where NO_COLOR or the terminal says so."""
    _, lines = shown(path, "usage")
    assert lines[0].startswith("\x1b[1m") and lines[-1].endswith("\x1b[0m")
    assert all(ESCAPES.sub("", line).isprintable() for line in lines)
    for plain in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in "".join(shown(path, "usage", **plain)[1])
    assert "\x1b" not in run("usage", "--db", str(path)).stdout
    code, lines = shown(path, "usage", "nobody")
    assert code == 3 and lines[0].startswith("\x1b[31mdatamanager:\x1b[0m model 'nobody'")


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_nothing_is_raw_on_a_terminal(path: Path, form: str) -> None:
    for command in READING:
        code, lines = shown(path, *command, form)
        assert code == 0 and all(line.isprintable() for line in lines), command


def long_trace(folder: Path) -> str:
    """So many requests, each of them synced, that no machine is done before a key is pressed."""
    trace = folder / "trace.csv"
    rows = (f"2023-11-16 18:15:46.{number:07},374,44\n" for number in range(500_000))
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(rows))
    return str(trace)


def test_ctrl_c(tmp_path: Path) -> None:
    words = [*COMMAND, "demo", "--trace", long_trace(tmp_path), "--dir", str(tmp_path)]
    with Terminal(words, environment()) as terminal:
        terminal.wait_for(b"of 500,000 requests\r")
        terminal.press(CTRL_C)
        assert terminal.finish() == 130
    assert b"Traceback" not in terminal.shown
    assert run("usage", "--db", str(tmp_path / "webui" / "monitoring.db")).returncode == 0


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]], ids=str)
def test_a_pipe_that_is_closed(tmp_path: Path, form: list[str]) -> None:
    """As in ``datamanager requests | head -1``."""
    path = tmp_path / "usage.db"
    fill(path, ["m"], requests=20_000)
    words = [*COMMAND, "requests", "--limit", "0", *form, "--db", str(path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def test_output_that_cannot_be_written(path: Path) -> None:
    command = [*COMMAND, "usage", "--db", str(path)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (7, 1), done.stderr
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *command], check=False)
    assert closed.returncode == 0


def test_standard_error_that_is_closed(path: Path) -> None:
    """Progress and messages go nowhere; the work and the code are the same."""
    for words, code in ([["check"], 0], [["report"], 0], [["check", "--db", "none"], 3]):
        command = [*COMMAND, "--db", str(path), *words]
        closed = subprocess.run(
            ["sh", "-c", 'exec "$@" 2>&-', "sh", *command],
            stdout=subprocess.PIPE, env=environment(), check=False,
        )  # fmt: skip
        assert (closed.returncode, bool(closed.stdout)) == (code, code == 0), words


def test_standard_input_that_is_closed(path: Path) -> None:
    """Nobody can be asked there."""
    command = [*COMMAND, "prune", "--before", "1d", "--db", str(path)]
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert (closed.returncode, closed.stderr.count("\n")) == (2, 1), closed.stderr


def test_ascii_output(path: Path) -> None:
    done = run("usage", "--db", str(path), PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0 and "\\u901a" in done.stdout


def test_start_is_cheap() -> None:
    """What makes a start slow is not loaded by commands that have no use for it."""
    code = (
        "import sys; from datamanager.cli import main; main(['sqlite-info', '--json']);"
        "print(*sorted({'dataclasses', 'inspect', 'zoneinfo', 'csv', 'html', 'asyncio',"
        " 'importlib.metadata', 'numpy', 'plotly', 'datamanager.usage'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == [""]


# ---- completion ----


@pytest.fixture
def program(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``datamanager`` is this tree's."""
    file = tmp_path / "bin" / "datamanager"
    file.parent.mkdir()
    file.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    file.chmod(0o755)
    return environment(PATH=f"{file.parent}:{os.environ['PATH']}")


CASES = [
    (["mo"], ["models"]),
    (["prices", "s"], ["show", "set"]),
    (["prices", "--js"], ["--json"]),
    (["prices", "m", "--js"], ["--json"]),
    (["usage", "--st"], ["--strategy"]),
    (["usage", "--strategy", ""], ["graduated", "volume", "cumulative"]),
    (["completion", "f"], ["fish"]),
    (["usage", "--db", "PATH", "Q"], ["Qwen3-Coder-30B"]),
    (["usage", "--db", "none.db", "Q"], []),
    (["nonsense", "--x"], []),
]


@pytest.mark.parametrize(("words", "wanted"), CASES, ids=[" ".join(words) for words, _ in CASES])
def test_candidates(path: Path, words: list[str], wanted: list[str]) -> None:
    words = [str(path) if word == "PATH" else word for word in words]
    done = run("completion", "words", "--", *words)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, wanted, "")


def test_no_hostile_candidate(path: Path) -> None:
    done = run("completion", "words", "--", "requests", "--db", str(path), "")
    assert done.stdout.splitlines() == ["Qwen3-Coder-30B", WIDE, LONG]


BASH = """
source <(datamanager completion bash)
COMP_WORDS=(datamanager "$@") COMP_CWORD=$#
_datamanager
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_bash(tmp_path: Path, program: dict[str, str]) -> None:
    fill(tmp_path / "usage.db", ["two words", "t*", "$(touch owned)"], requests=1)
    words = ["runtime", "--db", str(tmp_path / "usage.db"), ""]
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", *words], capture_output=True, text=True, check=True,
        env=program, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["two\\ words", "t\\*", "\\$\\(touch\\ owned\\)"]
    assert done.stderr == "" and not (tmp_path / "owned").exists()


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
def test_fish(tmp_path: Path, program: dict[str, str]) -> None:
    """Files are offered where nothing else is, and not beside what is."""
    env = {**program, "HOME": str(tmp_path)}
    (tmp_path / "some.db").touch()
    for line, wanted in [
        ("datamanager prices s", {"show", "set"}),
        ("datamanager prices ", {"show", "set", "history"}),
        ("datamanager usage --db so", {"some.db"}),
    ]:
        script = f"datamanager completion fish | source; complete -C '{line}'"
        done = subprocess.run(
            ["fish", "-c", script],
            capture_output=True, text=True, check=False, env=env, cwd=tmp_path,
        )  # fmt: skip
        assert set(done.stdout.split()) == wanted, done.stderr


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh(tmp_path: Path, program: dict[str, str]) -> None:
    """A zsh of its own in a terminal, in which Tab is pressed."""
    env = {**program, "HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "PS1": "ready> "}
    (tmp_path / ".zshrc").write_text(
        "autoload -Uz compinit; compinit -u; PS1='ready> '\nsource <(datamanager completion zsh)\n"
    )
    with Terminal(["zsh", "-i"], env) as terminal:
        terminal.wait_for(b"ready> ")
        terminal.press(b"datamanager mo\t")
        terminal.wait_for(b"models")
        terminal.press(CLEAR_LINE + b"exit\n")
        terminal.finish()
