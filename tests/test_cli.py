"""The command line through real processes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from unicodedata import east_asian_width

import pytest
from commands import READING, fill, run

import datamanager
from datamanager.cli import main


def test_demo(tmp_path: Path) -> None:
    done = run("demo", "--dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "3,000 requests" in done.stdout and "embedding-small" in done.stdout
    assert "replayed 3,000 of 3,000" in done.stderr
    header, *table, _ = done.stdout.splitlines()
    for title in ("runs", "uptime", "requests", "input", "output", "hits", "cost"):
        assert f" {title}" in header
    assert [" 3  " in line for line in table] == [True, True, True, False]  # runs
    again = run("demo", "--dir", str(tmp_path))
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)


def test_demo_of_a_trace(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109"
    )
    done = run("demo", "--trace", str(trace), "--dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "770" in done.stdout and "153" in done.stdout
    assert run("demo", "--trace", str(tmp_path / "none.csv")).returncode == 3


TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TRACE + "2023-11-16 18:15:47,many,44\n", "line 3: invalid literal for int"),
        (TRACE + "yesterday,374,44\n", "line 3: Invalid isoformat string"),
        (TRACE + "2023-11-16 18:15:47,374,-44\n", "line 3: a time before 1970, or tokens below 0"),
        (TRACE + f"2023-11-16 18:15:47,{2**53 + 1},44\n", "line 3: a time before 1970, or tokens"),
        (TRACE + "1969-11-16 18:15:47,374,44\n", "line 3: a time before 1970, or tokens"),
        (TRACE + "2023-11-16 18:15:47.x,374,44\n", "line 3: could not convert"),
        (TRACE + "2023-11-16 18:15:47,374\n", "line 3: the row is cut short"),
        (TRACE.replace("Context", ""), "line 1: there is no column ContextTokens"),
        ("", "line 1: there is no column TIMESTAMP, ContextTokens, GeneratedTokens"),
        (TRACE.encode() + b"2023-11-16 18:15:47,\xff,44\n", "line 3: invalid literal for int"),
        (TRACE.splitlines()[0], "the trace holds no request"),
    ],
)
def test_demo_of_a_bad_trace(tmp_path: Path, text: str | bytes, said: str) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = run("demo", "--trace", str(trace), "--dir", str(tmp_path / "out"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"datamanager: {trace}: ") and said in done.stderr
    assert not (tmp_path / "out").exists()


def test_demo_counts_wide_characters(tmp_path: Path) -> None:
    """In a terminal, where a Chinese character takes two columns, all rows end in one column."""
    done = run("demo", "--dir", str(tmp_path))
    table = done.stdout.splitlines()[:-1]
    assert any("本地嵌入" in line for line in table)
    wide = [sum(1 + (east_asian_width(sign) in "WF") for sign in line) for line in table]
    assert len(table) == 5 and len(set(wide)) == 1, done.stdout


def test_adopt(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    file = tmp_path / "core" / "data_manager.py"
    assert run("adopt", str(tmp_path)).returncode == 3
    file.write_text("x = 1\n")
    assert "neither Monitor nor DataManager" in run("adopt", str(tmp_path)).stderr
    file.write_text("class Monitor:\n    pass\n")
    assert run("adopt", str(tmp_path)).returncode == 0
    assert "already" in run("adopt", str(file)).stdout
    (tmp_path / "core" / "config_manager.py").write_text(
        "class ConfigManager:\n    def get_model_names(self): return ['a', '模型']\n"
    )
    code = (
        "from core.data_manager import Monitor, TierPricing\n"
        "m = Monitor(); print(m.get_models())\n"
        "m.update_program_runtime_end(1.0); m.delete_tier_pricing('a', 9)\n"
        "m.update_tier_pricing('a', [1, 0, 9, 1, 1, 1, 1])\n"
        "assert len(m.get_model_billing('a').tier_pricing) == 1\n"
        "assert list(m.get_model_requests('none')) == []\n"
    )
    host = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (host.returncode, host.stdout) == (0, "['a', '模型']\n"), host.stderr
    assert run("adopt", "--undo", str(tmp_path)).returncode == 0
    assert file.read_text() == "class Monitor:\n    pass\n"
    assert run("adopt", "--undo", str(tmp_path)).returncode == 3


def test_adopt_of_an_empty_file(tmp_path: Path) -> None:
    file = tmp_path / "monitoring.db"
    file.touch()
    done = run("adopt", str(file))
    assert (done.returncode, done.stdout) == (5, "") and "is empty" in done.stderr
    assert file.stat().st_size == 0 and os.listdir(tmp_path) == ["monitoring.db"]


@pytest.mark.parametrize(
    "source",
    [
        "\ufeffclass Monitor:\n    pass\n".encode(),
        "# coding: gbk\nclass Monitor:\n    '''监控'''\n".encode("gbk"),
        b"class Monitor:\r\n    pass\r\n",
    ],
)
def test_adopt_of_any_encoding(tmp_path: Path, source: bytes) -> None:
    file = tmp_path / "data_manager.py"
    file.write_bytes(source)
    file.chmod(0o640)
    done = run("adopt", str(file))
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert run("adopt", "--undo", str(file)).returncode == 0
    assert file.read_bytes() == source


@pytest.mark.parametrize("source", [b"class Monitor(:\n", b"\xff\n", b"class Monitor: 1\0", b""])
def test_adopt_leaves_what_it_does_not_understand(tmp_path: Path, source: bytes) -> None:
    file = tmp_path / "data_manager.py"
    file.write_bytes(source)
    done = run("adopt", str(file))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and done.stderr.endswith("left as it is\n")
    assert [file.read_bytes(), *tmp_path.iterdir()] == [source, file]


def test_adopt_that_was_stopped(tmp_path: Path) -> None:
    file, kept = (tmp_path / f"data_manager.py{end}" for end in ("", ".before-datamanager"))
    file.write_text("class Monitor:\n    pass\n")
    kept.hardlink_to(file)
    assert run("adopt", str(file)).returncode == 0
    assert kept.read_text() == "class Monitor:\n    pass\n"
    file.write_text("class Monitor:\n    '''another'''\n")
    assert "exists already" in run("adopt", str(file)).stderr


def test_sqlite_info() -> None:
    assert "wal_reset_race" in run("sqlite-info").stdout
    assert run("nonsense").returncode == 2


@pytest.mark.parametrize("command", READING)
def test_a_model_that_is_deleted_meanwhile(
    path: str, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Somebody else deletes one just after the names were read."""

    class Deleting(datamanager.DataManager):
        def get_models(self) -> list[str]:
            names = super().get_models()
            if "a" in names:
                with datamanager.DataManager(self.db_path) as other:
                    other.delete_model_tables("a")
            return names

    fill(Path(path), ["a", "b"], 40)
    with monkeypatch.context() as patched:
        patched.setattr(datamanager, "DataManager", Deleting)
        assert main([*command, "--db", path]) == 0
    assert capsys.readouterr().err == ""
