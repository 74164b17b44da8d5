"""``export`` and ``import``, as processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from commands import BEGIN, COMMAND, HOSTILE, WIDE, environment, fill, run
from terminals import CTRL_C, Terminal
from test_cli_files import UNUSABLE, refused
from test_cli_forms import json_of, valid

from datamanager import DataManager
from datamanager.tables import printable

HEAD = "model,timestamp,input_tokens,output_tokens\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fill(tmp_path / "usage.db", ["m", WIDE, HOSTILE])
    return tmp_path / "usage.db"


def count_of(path: Path) -> int:
    with DataManager(path, read_only=True) as dm:
        return sum(len(dm.get_model_requests(name)) for name in dm.get_models())


def files_of(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if not name.startswith("usage.db")]


@pytest.mark.parametrize("form", ["csv", "jsonl", "ndjson", "parquet"])
def test_there_and_back(path: Path, tmp_path: Path, form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="needs the library of the parquet extra")
    file, other = str(tmp_path / f"a.{form}"), str(tmp_path / "folder" / "other.db")
    done = run("export", file, "--db", str(path))
    said = (0, f"{file} holds 600 requests\n", "")
    assert (done.returncode, done.stdout, done.stderr) == said
    refused(run("import", file, "--db", other), 3, "there is no such file (--new makes one)")
    done = run("import", file, "--db", other, "--new", "--json")
    found = valid("import", done.stdout)
    assert found == {"read": 600, "added": 600, "known": 0, "bad": 0, "rows": []}
    assert count_of(Path(other)) == count_of(path) == 600
    for database in (other, str(path)):
        done = run("import", file, "--db", database)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "600 requests: 0 added, 600 were there already, 0 are bad\n"


def test_windows_models_and_forms(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.out"
    until = ["--until", f"@{BEGIN + 86_400}"]
    found = json_of(path, "export", str(file), "m", HOSTILE, *until, "--format", "jsonl")
    assert found == {"path": str(file), "requests": 200}
    names = {json.loads(line)["model"] for line in file.read_text("utf-8").splitlines()}
    assert names == {"m", HOSTILE}
    again = ["export", str(file), "--format", "csv", "--db", str(path)]
    refused(run(*again), 1, "exists already")
    assert run(*again, "--overwrite").returncode == 0
    for options, code, said in [
        ([str(tmp_path / "b.txt")], 2, "does not say which"),
        ([str(tmp_path / "b.csv"), "nobody"], 3, "nobody"),
        ([str(tmp_path / "b.csv"), "--since", "whenever"], 2, "whenever"),
        ([str(path), "--format", "csv", "--overwrite"], 1, "usage.db"),
    ]:
        with DataManager(path):
            refused(run("export", *options, "--db", str(path)), code, said)
    assert files_of(tmp_path) == ["a.out"] and count_of(path) == 600


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_databases(tmp_path: Path, kind: str) -> None:
    make, code, said = UNUSABLE[kind]
    path, file = tmp_path / "usage.db", tmp_path / "a.csv"
    make(path)
    refused(run("export", str(file), "--db", str(path)), code, said)
    file.write_text(HEAD + "m,1,2,3\n")
    refused(run("import", str(file), "--db", str(path)), code, said)
    refused(run("import", str(file), "--db", str(path), "--new"), code, said)
    assert files_of(tmp_path) == ["a.csv"]


def test_bad_lines(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(HEAD + "m,1,2,3\nm,1,-2,3\nm,\x1b]0;owned\x07,2,3\nm,2,2,3\n")
    strict = run("import", str(file), "--strict", "--db", str(path))
    assert (strict.returncode, strict.stdout) == (2, "") and count_of(path) == 600
    *told, last = strict.stderr.splitlines()
    assert f"datamanager: {file}: nothing was imported: 2 bad lines, the first is line 3:" in last
    done = run("import", str(file), "--db", str(path))
    assert done.returncode == 8 and done.stderr.splitlines() == told
    assert done.stdout == "4 requests: 2 added, 0 were there already, 2 are bad\n"
    assert told[0].startswith(f"{file}: line 3: input_tokens must be a whole number")
    assert len(told) == 2 and all(line.isprintable() for line in told)
    done = run("import", str(file), "--db", str(path), "--json")
    found = valid("import", done.stdout)
    assert (found["known"], found["bad"], done.returncode) == (2, 2, 8)
    assert [
        f"{file}: line {row['line']}: {printable(row['text'])}" for row in found["rows"]
    ] == told
    done = run("import", str(file), "--db", str(path), "--csv")
    assert done.stdout.startswith('line,text\n3,"input_tokens') and done.returncode == 8


def test_files_of_others(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68059,374,44\n")
    columns = ["timestamp=TIMESTAMP", "input_tokens=ContextTokens", "output_tokens=GeneratedTokens"]
    mapped = [word for column in columns for word in ("--column", column)]
    words = ["import", str(file), "--db", str(path), "--model", "trace"]
    assert run(*words, *mapped, "--tz", "UTC").returncode == 0
    with DataManager(path, read_only=True) as dm:
        assert dm.get_model_requests("trace")[0].timestamp == 1_700_158_546.68059
    for options, said in [
        ([], "'TIMESTAMP', 'ContextTokens', 'GeneratedTokens' (see --column)"),
        (["--column", "timestamp"], "--column wants FIELD=NAME, not 'timestamp'"),
        (["--column", "time=TIMESTAMP"], "not time"),
        (["--tz", "Nowhere"], "tz must be the name of a time zone"),
    ]:
        refused(run(*words, *options), 2, said)
    refused(run("import", str(file), "--db", str(path)), 2, "(--model names one for all lines)")
    refused(
        run("import", str(tmp_path / "none.csv"), "--db", str(path)), 3, "none.csv: there is no"
    )
    refused(run("import", str(path), "--format", "csv", "--db", str(path)), 2, "that is open")


def test_progress_is_for_terminals(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    export = ["export", str(file), "--overwrite", "--db", str(path)]
    with Terminal([*COMMAND, *export], environment()) as terminal:
        assert terminal.finish() == 0
        assert "wrote 600 of 600 requests" in terminal.lines
    file.write_text(file.read_text() + "bad\n")
    with Terminal([*COMMAND, "import", str(file), "--db", str(path)], environment()) as terminal:
        assert terminal.finish() == 8
        assert any(line.endswith(" bytes read") for line in terminal.lines)
        assert any("line 602: there are 1 values, not 9" in line for line in terminal.lines)
        assert sum("bytes read" in line for line in terminal.lines) == 1


def test_progress_of_a_pipe_is_one_line(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(HEAD + "".join(f"long,{second},1,2\n" for second in range(20_000)))
    words = ["import", "/dev/stdin", "--format", "csv", "--db", str(path)]
    piped = ["sh", "-c", f'cat "{file}" | "$@"', "sh", *COMMAND, *words]
    with Terminal(piped, environment()) as terminal:
        assert terminal.finish() == 0
        size = f"{file.stat().st_size:,}"
        told = [line for line in terminal.lines if "bytes read" in line]
        assert len(told) == 1 and told[0].endswith(f"{size} of {size} bytes read")
        assert " of 0 " not in told[0]


@pytest.mark.slow
def test_ctrl_c(path: Path, tmp_path: Path) -> None:
    """Whatever was added stays, whole transactions of it, and the next time the rest is."""
    file = tmp_path / "long.csv"
    count = 400_000
    file.write_text(HEAD + "".join(f"long,{second},1,2\n" for second in range(count)))
    with Terminal([*COMMAND, "import", str(file), "--db", str(path)], environment()) as terminal:
        terminal.wait_for(b"bytes read\r")
        terminal.press(CTRL_C)
        assert terminal.finish() == 130
    assert b"Traceback" not in terminal.shown
    with DataManager(path, read_only=True) as dm:
        there = len(dm.get_model_requests("long"))
        assert 0 < there < count and there % 1000 == 0
