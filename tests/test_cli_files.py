"""Every command on every kind of file: what it returns, in one line, and what it leaves alone."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from commands import READING, damaged, fill, foreign, older, run, run_as_nobody

from datamanager import DataManager

WRITING = [
    ["prices", "set", "m", "--hourly", "1", "--new"],
    ["rename", "m", "n"],
    ["delete", "m", "--yes"],
    ["vacuum"],
    ["prune", "--before", "1d", "--yes"],
]
CHECKS = [["check"], ["check", "--quick"], ["check", "--repair"]]
OTHERS = [["report"], *CHECKS]
every_command = pytest.mark.parametrize("command", [*READING, *OTHERS, *WRITING], ids=" ".join)
every_reading = pytest.mark.parametrize("command", [*READING, ["report"]], ids=" ".join)


def refused(done: subprocess.CompletedProcess[str], code: int, said: str) -> None:
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("datamanager: ") and done.stderr.count("\n") == 1, done.stderr
    assert said in done.stderr


@every_command
def test_missing(tmp_path: Path, command: list[str]) -> None:
    """No command makes a database by the way, and none its folder."""
    file = tmp_path / "folder" / "none.db"
    refused(run(*command, "--db", str(file)), 3, "there is no such file")
    assert list(tmp_path.iterdir()) == []
    refused(run(*command, cwd=tmp_path), 3, "webui/monitoring.db: there is no such file")
    refused(run(*command, cwd=tmp_path, DATAMANAGER_DB="other.db"), 3, "other.db: there is no")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [["models"], ["report"], ["restore", "usage.db"], ["import", "new.csv", "--new"], *WRITING],
    ids=" ".join,
)
def test_an_empty_name_is_not_the_default(tmp_path: Path, command: list[str]) -> None:
    """What "$UNSET" gives would otherwise be another database than the one that was meant."""
    (tmp_path / "webui").mkdir()
    for name in ("webui/monitoring.db", "usage.db"):
        with DataManager(tmp_path / name) as dm:
            dm.add_model_request("m", [1, 2, 3, 0, 2])
    (tmp_path / "new.csv").write_text("model,timestamp,input_tokens,output_tokens\nm,5,1,1\n")
    refused(run(*command, "--db", "", cwd=tmp_path), 2, "--db is empty")
    refused(run("--db", "", *command, cwd=tmp_path), 2, "--db is empty")
    refused(run(*command, cwd=tmp_path, DATAMANAGER_DB=""), 2, "DATAMANAGER_DB is empty")
    with DataManager(tmp_path / "webui/monitoring.db", read_only=True) as dm:
        assert len(dm.get_model_requests("m")) == 1


Make = Callable[[Path], object]
UNUSABLE: dict[str, tuple[Make, int, str]] = {
    "damaged": (damaged, 5, "damaged"),
    "text": (lambda path: path.write_text("no database" * 1000), 5, "not a database"),
    "foreign": (foreign, 5, "another program"),
    "folder": (Path.mkdir, 6, "not a regular file"),
}


@every_command
@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable(tmp_path: Path, command: list[str], kind: str) -> None:
    make, code, said = UNUSABLE[kind]
    path = tmp_path / "usage.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    done = run(*command, "--db", str(path))
    if command == ["vacuum"] and kind == "damaged":  # what it need not read it need not know
        assert done.returncode == 0
        return
    if command in CHECKS and kind == "damaged":  # which is what it is there to find
        assert (done.returncode, done.stderr) == (5, "") and done.stdout.startswith("error: ")
    else:
        refused(done, code, said)
    assert before is None or path.read_bytes() == before


def test_the_damaged_file_is_named(tmp_path: Path) -> None:
    """Also where the damage shows later, and another file is in the command."""
    path, source = tmp_path / "usage.db", tmp_path / "requests.csv"
    fill(path, ["m"])
    content = bytearray(path.read_bytes())
    content[8192:12288] = b"\xa5" * 4096
    path.write_bytes(content)
    source.write_text("timestamp,model,input_tokens,output_tokens\n1,m,1,1\n")
    for words in (["usage"], ["models"], ["import", str(source)], ["prices"]):
        refused(run(*words, "--db", str(path)), 5, f"datamanager: {path}: the database file is")
    source.write_text("time\n1\n")
    DataManager(tmp_path / "other.db").close()
    bad = run("import", str(source), "--db", str(tmp_path / "other.db"))
    refused(bad, 2, f"datamanager: {source}: ")


def test_what_reading_leaves_beside_the_file(tmp_path: Path) -> None:
    """A log, if any, with nothing in it, which goes with the next that writes."""
    path = tmp_path / "usage.db"
    fill(path, ["m"])
    assert run("usage", "--db", str(path)).returncode == 0
    assert sum(file.stat().st_size for file in tmp_path.glob("*-wal")) == 0
    assert run("vacuum", "--db", str(path)).returncode == 0
    assert [*tmp_path.iterdir()] == [path]


def test_output_into_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """It is made, as for backups and exports; what cannot be is said without the workings."""
    fill(tmp_path / "usage.db", ["m"])
    file = tmp_path / "reports" / "2026" / "may.md"
    assert run("report", "-o", str(file), "--db", str(tmp_path / "usage.db")).returncode == 0
    assert [entry.name for entry in file.parent.iterdir()] == ["may.md"]
    for bad, code, why in [
        (file / "x.md", 6, "Not a directory"), (Path("/proc/x.md"), 3, "No such file or directory"),
    ]:  # fmt: skip
        done = run("report", "-o", str(bad), "--db", str(tmp_path / "usage.db"))
        assert (done.returncode, done.stderr) == (code, f"datamanager: {bad}: {why}\n")
    done = run("usage", "--wait", "-1", "--db", str(tmp_path / "usage.db"))
    refused(done, 2, "argument --wait: invalid seconds value: '-1'")


def test_what_is_adopted(tmp_path: Path) -> None:
    """Whatever is no Python is taken for a database, and the error is about that."""
    path = tmp_path / "usage.db"
    refused(run("adopt", str(path)), 3, f"{path}: there is no such file")
    path.write_bytes(b"\xa5" * 5000)
    refused(run("adopt", str(path)), 5, f"{path}: ")
    path.write_text("# no database\n" * 400)
    refused(run("adopt", str(path)), 5, "not a database")


@every_command
def test_an_empty_file_does_not_become_a_database(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "usage.db"
    path.touch()
    refused(run(*command, "--db", str(path)), 5, f"{path} is empty, and no database")
    assert path.read_bytes() == b"" and [*tmp_path.iterdir()] == [path]


@every_reading
def test_what_must_be_converted(tmp_path: Path, command: list[str]) -> None:
    """Reading changes nothing; the message names the command that may."""
    path = tmp_path / "usage.db"
    older(path)
    before = path.read_bytes()
    done = run(*command, "--db", str(path))
    refused(done, 6, f"'datamanager adopt {path}' does that")
    assert path.read_bytes() == before
    adopted = run("adopt", str(path))
    assert (adopted.returncode, adopted.stdout.count("\n")) == (0, 1), adopted.stderr
    assert run(*command, "--db", str(path)).returncode == 0


@every_reading
@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]], ids=str)
def test_no_models(tmp_path: Path, command: list[str], form: list[str]) -> None:
    path = tmp_path / "usage.db"
    DataManager(path).close()
    done = run(*command, *form, "--db", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@every_reading
def test_unknown_model(tmp_path: Path, command: list[str]) -> None:
    fill(tmp_path / "usage.db", ["m"])
    if command not in (["models"], ["storage"]):
        refused(run(*command, "nobody\x1b[2J", "--db", str(tmp_path / "usage.db")), 3, "\\x1b[2J")


def test_a_price_for_a_name_mistyped(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    fill(path, ["m"])
    refused(run("prices", "set", "n", "--hourly", "1", "--db", str(path)), 3, "'n' is not known")
    assert run("prices", "set", "n", "--hourly", "1", "--new", "--db", str(path)).returncode == 0
    with DataManager(path) as dm:
        assert dm.get_models() == ["m", "n"]


# ---- files that may not be written ----


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A database that its reader may not write to, in a folder that any user reaches."""
    folder = Path(tempfile.mkdtemp(prefix="datamanager-test-"))
    fill(folder / "usage.db", ["m"], 40)
    (folder / "usage.db").chmod(0o444)
    folder.chmod(0o777)
    yield folder / "usage.db"
    shutil.rmtree(folder)


@every_reading
def test_reading_a_read_only_file(read_only: Path, command: list[str]) -> None:
    before = read_only.read_bytes()
    done = run_as_nobody(*command, "--db", str(read_only))
    assert (done.returncode, done.stderr) == (0, "")
    assert "m" in done.stdout and read_only.read_bytes() == before


@pytest.mark.parametrize("command", WRITING, ids=" ".join)
def test_writing_a_read_only_file(read_only: Path, command: list[str]) -> None:
    before = read_only.read_bytes()
    refused(run_as_nobody(*command, "--db", str(read_only)), 6, "reading only")
    assert read_only.read_bytes() == before


def test_a_file_that_may_not_be_read(read_only: Path) -> None:
    read_only.chmod(0)
    refused(run_as_nobody("models", "--db", str(read_only)), 6, str(read_only))


# ---- what keeps others out ----


def test_busy(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    fill(path, ["m"])
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert run("usage", "--db", str(path)).returncode == 0
        done = run("prices", "set", "m", "--hourly", "1", "--wait", "0.05", "--db", str(path))
        refused(done, 4, "")
    assert run("prices", "set", "m", "--hourly", "1", "--db", str(path)).returncode == 0
