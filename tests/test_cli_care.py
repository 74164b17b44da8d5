"""``backup``, ``restore``, ``check``, ``vacuum``, ``storage``, ``rename`` …, as processes."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from commands import COMMAND, HOSTILE, damaged, environment, fill, older, run
from terminals import Terminal
from test_cli_files import UNUSABLE, refused
from test_cli_forms import json_of, valid

from datamanager import DataManager
from datamanager.cli import main
from datamanager.tables import printable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fill(tmp_path / "usage.db", ["m", HOSTILE])
    return tmp_path / "usage.db"


def changed(path: Path, text: str, *values: Any) -> None:
    """Another program's change of the table that stands for {} in the text."""
    with DataManager(path, read_only=True) as dm:
        table = dm.get_safe_model_name("m")
    with closing(sqlite3.connect(path)) as other:
        other.execute(text.format(table), values)
        other.commit()


def total_of(path: Path) -> Any:
    with DataManager(path, read_only=True) as dm:
        return dm.usage().total


def same(path: Path, other: Path) -> bool:
    return bool(total_of(path) == total_of(other))


# ---- backup and restore ----


def test_there_and_back(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    done = run("backup", str(copy), "--db", str(path))
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert same(path, copy)
    with DataManager(path) as dm:
        dm.delete_model_tables("m")
        done = run("restore", str(copy), "--json", "--db", str(path))  # while it is open here
        kept = valid("restore", done.stdout)["kept"]
        assert dm.get_models() == ["m", HOSTILE]
    with DataManager(kept, read_only=True) as dm:
        assert dm.get_models() == [HOSTILE]


def test_a_backup_overwrites_only_when_told(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_text("mine")
    done = run("backup", str(copy), "--db", str(path))
    assert (done.returncode, done.stdout, copy.read_text()) == (1, "", "mine")
    assert "exists already" in done.stderr
    found = json_of(path, "backup", str(copy), "--overwrite")
    assert found == {"path": str(copy), "bytes": copy.stat().st_size} and same(path, copy)


@pytest.mark.parametrize("kind", UNUSABLE)
def test_what_is_not_backed_up(tmp_path: Path, kind: str) -> None:
    make, code, said = UNUSABLE[kind]
    make(tmp_path / "usage.db")
    refused(run("backup", str(tmp_path / "b.db"), "--db", str(tmp_path / "usage.db")), code, said)
    assert [name for name in os.listdir(tmp_path) if not name.startswith("usage.db")] == []


def test_a_restore_makes_what_is_missing(path: Path, tmp_path: Path) -> None:
    new = tmp_path / "folder" / "new.db"
    done = run("restore", str(path), "--json", "--db", str(new))
    assert valid("restore", done.stdout)["kept"] is None and same(path, new)
    lost = tmp_path / "lost.db"
    damaged(lost)
    assert run("restore", str(path), "--db", str(lost)).returncode == 0 and same(path, lost)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (None, 3),
        (damaged, 5),
        (lambda path: path.write_text("no database"), 5),
        (older, 6),
        (Path.mkdir, 6),
    ],
    ids=["missing", "damaged", "text", "older", "folder"],
)
def test_what_is_not_restored(path: Path, tmp_path: Path, make: Any, code: int) -> None:
    source, before = tmp_path / "source", path.read_bytes()
    if make is not None:
        make(source)
    done = run("restore", str(source), "--db", str(path))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), done.stderr
    assert str(source) in done.stderr and path.read_bytes() == before
    assert make is not older or f"'datamanager adopt {source}' does that" in done.stderr
    assert [name for name in os.listdir(tmp_path) if "before-restore" in name] == []


def test_progress_is_for_terminals(path: Path, tmp_path: Path) -> None:
    words = ["backup", str(tmp_path / "copy.db"), "--db", str(path)]
    with Terminal([*COMMAND, *words], environment()) as terminal:
        assert terminal.finish() == 0
        assert any(line.endswith(" pages and checking them") for line in terminal.lines)
    assert run(*words, "--overwrite").stderr == ""


# ---- check ----


def test_nothing_is_wrong(path: Path) -> None:
    done = run("check", "--db", str(path))
    assert (done.returncode, done.stdout) == (0, "nothing is wrong\n")
    assert json_of(path, "check")["rows"] == []


def test_findings(path: Path) -> None:
    """Warnings are 8, errors 5; each is a line, and JSON and CSV say the same."""
    changed(path, "CREATE VIEW a_view AS SELECT 1")
    done = run("check", "--db", str(path))
    assert done.returncode == 8 and done.stdout.startswith("warning: a_view: "), done.stdout
    changed(path, "UPDATE {}_requests SET input_tokens = -5 WHERE id = 7")
    done = run("check", "--db", str(path))
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (5, "", 2)
    assert "_requests, row 7: " in done.stdout and "error: " in done.stdout
    with DataManager(path, read_only=True) as dm:
        wanted = dm.check()
    found = run("check", "--json", "--db", str(path))
    assert found.returncode == 5
    rows = valid("check", found.stdout)["rows"]
    assert [row["text"] for row in rows] == [finding.text for finding in wanted]
    listed = run("check", "--csv", "--db", str(path))
    assert listed.returncode == 5 and listed.stdout.count("\n") == 1 + len(rows)
    assert run("check", "--quick", "--db", str(path)).returncode == 8


def test_repair(path: Path) -> None:
    """What is mended counts no more, and a check that repairs nothing changes nothing."""
    changed(path, "DROP TABLE {}_billing")
    before = path.read_bytes()
    assert run("check", "--db", str(path)).returncode != 0
    assert path.read_bytes() == before
    done = run("check", "--repair", "--db", str(path))
    assert done.returncode == 0 and done.stdout.endswith(" (repaired)\n"), done.stdout
    assert run("check", "--db", str(path)).stdout == "nothing is wrong\n"


def test_findings_are_only_text(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute('CREATE VIEW "\x1b[31mred" AS SELECT 1')
        other.commit()
    done = run("check", "--db", str(path))
    assert "\\x1b[31mred" in done.stdout and "\x1b" not in done.stdout


# ---- room and names ----


def test_vacuum(path: Path) -> None:
    with DataManager(path) as dm, dm.batch():  # outside of one its room comes back at once
        dm.delete_model_tables("m")
    free = json_of(path, "storage")["free_bytes"]
    before = path.stat().st_size
    found = json_of(path, "vacuum")
    assert found["before"] == before and found["after"] <= before - free < before
    assert path.stat().st_size == found["after"]


def test_storage(path: Path) -> None:
    with DataManager(path, read_only=True) as dm:
        wanted = dm.get_storage_stats()
    found = json_of(path, "storage")
    assert {row.pop("model"): row for row in found.pop("rows")} == wanted.pop("models")
    found.pop("log_bytes"), wanted.pop("log_bytes")
    assert found == wanted
    assert "bytes in the file" in run("storage", "--db", str(path)).stdout


def test_rename(path: Path) -> None:
    assert json_of(path, "rename", "m", "n") == {"model": "n", "merged": False}
    done = run("rename", HOSTILE, "x", "--db", str(path))
    assert (done.returncode, done.stdout) == (0, f"{printable(HOSTILE)} is x now\n")
    assert run("rename", "m", "y", "--db", str(path)).returncode == 3
    with DataManager(path) as dm:
        assert dm.get_models() == ["n", "x"]


def test_two_become_one_only_when_told(path: Path) -> None:
    before = total_of(path)
    done = run("rename", "m", HOSTILE, "--db", str(path))
    assert (done.returncode, done.stdout) == (2, "") and "--merge" in done.stderr
    found = json_of(path, "rename", "m", HOSTILE, "--merge")
    assert found == {"model": HOSTILE, "merged": True}
    after = total_of(path)
    assert after.requests == before.requests and after.input_tokens == before.input_tokens


def test_a_name_that_comes_between_is_not_merged(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    known = DataManager.get_models

    def get_models(dm: DataManager) -> list[str]:
        names = known(dm)
        with DataManager(path) as other:
            other.add_model_request("new", [1, 1, 1, 0, 1])
        return names

    monkeypatch.setattr(DataManager, "get_models", get_models)
    assert main(["rename", "--db", str(path), "m", "new"]) == 2
    assert "there is a model 'new'" in capfd.readouterr().err
    monkeypatch.undo()
    with DataManager(path) as dm:
        assert {"m", "new"} <= {*dm.get_models()} and len(dm.get_model_requests("new")) == 1


def test_delete(path: Path) -> None:
    before = total_of(path)
    with DataManager(path) as dm:
        dm.prune(before.last_request)
    found = json_of(path, "delete", "m", "--yes")
    assert found["model"] == "m" and 0 < found["requests"] < before.requests
    assert total_of(path).requests == before.requests - found["requests"]
    with DataManager(path) as dm:
        assert dm.get_models() == [HOSTILE]
    assert run("delete", "m", "--yes", "--db", str(path)).returncode == 3
    done = run("delete", HOSTILE, "--yes", "--db", str(path))
    assert done.returncode == 0 and f"deleted {printable(HOSTILE)}, its prices" in done.stdout


def test_nothing_is_deleted_unasked(path: Path) -> None:
    before = total_of(path)
    refused(run("delete", "m", "--db", str(path)), 2, "--yes is needed")
    for answer, code in ((b"n\n", 2), (b"y\n", 0)):
        delete = [*COMMAND, "delete", "m", "--db", str(path)]
        with Terminal(delete, environment()) as terminal:
            terminal.wait_for(b"pruned ones too? [y/N] ")
            terminal.press(answer)
            assert terminal.finish() == code
        assert (total_of(path) == before) == (code == 2)
