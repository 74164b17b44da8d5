"""Requests out to files and in again: whole files or none, and every request exactly once."""

from __future__ import annotations

import codecs
import csv
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datamanager
from datamanager import (
    CannotOpenError,
    DataManager,
    DestinationExistsError,
    InvalidDataError,
    restore,
)
from datamanager.exchange.formats import FIELDS

ROW = [1_700_000_000.125, 150, 80, 5, 145]
NAME = '通义千问-32B, "quoted"\r\n=cmd \u2028🦙'
FORMATS = ["csv", "jsonl", "parquet"]
TRACE = {
    "timestamp": "TIMESTAMP",
    "input_tokens": "ContextTokens",
    "output_tokens": "GeneratedTokens",
}


@pytest.fixture(params=FORMATS)
def form(request: pytest.FixtureRequest) -> Any:
    if request.param == "parquet":
        pytest.importorskip("pyarrow", reason="needs the library of the parquet extra")
    return request.param


@pytest.fixture
def filled(dm: DataManager) -> DataManager:
    dm.add_model_requests("m", [ROW] * 5, request_ids=["a", None, "b", None, "é" * 127])
    dm.add_model_requests("m", [[second, 1, 2, 3, 4] for second in range(10)])
    dm.add_model_request(NAME, ROW, duration=2.5)
    dm.add_model_request(NAME, ROW, duration=0.1, first_token=1e-9, request_id=NAME)
    return dm


def rows(dm: DataManager, model: str) -> list[tuple[Any, ...]]:
    """What is in them, in order, without their ids."""
    found = dm.get_model_requests(model)[::-1]
    return list(zip(*(found.columns[name] for name in FIELDS[1:6]), strict=True))


def same(one: DataManager, other: DataManager) -> bool:
    return all(rows(one, name) == rows(other, name) for name in one.get_models()) and (
        one.get_models() == other.get_models()
    )


# ---- there and back ----


def test_there_and_back(filled: DataManager, tmp_path: Path, form: Any) -> None:
    file, back = tmp_path / f"a.{form}", tmp_path / f"b.{form}"
    assert filled.export(file, form) == 17
    assert filled.import_requests(file)[:4] == (17, 0, 17, 0)
    with DataManager(tmp_path / "other.db") as other:
        assert other.import_requests(file)[:4] == (17, 17, 0, 0)
        assert other.import_requests(file)[:4] == (17, 0, 17, 0)
        assert same(filled, other) and other.check() == []
        (row,) = other.performance(NAME)
        assert (row.duration_max, row.first_token_max) == (2.5, 1e-9)
        assert other.export(back, form) == 17
    assert filled.import_requests(back)[:4] == (17, 0, 17, 0)
    assert file.read_bytes() == back.read_bytes() or form == "parquet"


TIMES = st.floats(0, 1e11) | st.floats(0, 253_402_300_800, exclude_max=True)  # the year 10000
TOKENS = st.integers(0, 2**53) | st.integers(0, 3)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
TIMINGS = st.none() | st.tuples(st.floats(0, 1e6), st.floats(0, 1))
REQUESTS = st.tuples(
    TEXT.filter(lambda name: len(name) < 100),
    TIMES,
    TOKENS,
    TOKENS,
    TOKENS,
    TOKENS,
    TIMINGS,
    st.none() | TEXT.filter(lambda name: len(name.encode()) < 256),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(REQUESTS, max_size=12))
@pytest.mark.parametrize("kind", FORMATS)
def test_any_requests(kind: Any, requests: list[tuple[Any, ...]]) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="needs the library of the parquet extra")
    with (
        tempfile.TemporaryDirectory() as folder,
        DataManager(":memory:") as dm,
        DataManager(":memory:") as other,
    ):
        for model, *row, timings, request_id in requests:
            duration, share = timings or (None, None)
            first = None if duration is None or share is None else duration * share
            dm.add_model_request(
                model, row, duration=duration, first_token=first, request_id=request_id
            )
        file = os.path.join(folder, "file")
        count = dm.export(file, kind)
        assert count == sum(len(dm.get_model_requests(name)) for name in dm.get_models())
        assert other.import_requests(file, kind)[:4] == (count, count, 0, 0)
        assert same(dm, other)
        for name in dm.get_models():
            assert str(dm.performance(name)) == str(other.performance(name))
        again = os.path.join(folder, "again")
        assert other.export(again, kind) == count
        for store, source in ((dm, file), (other, file), (dm, again), (other, again)):
            assert store.import_requests(source, kind)[:4] == (count, 0, count, 0)


def test_equal_requests_of_two_databases_are_two(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with DataManager(tmp_path / f"{name}.db") as dm:
            dm.add_model_requests("m", [ROW] * 2)
            dm.export(tmp_path / f"{name}.csv")
    with DataManager(tmp_path / "sum.db") as dm:
        for _ in range(2):
            for name in ("one", "two"):
                dm.import_requests(tmp_path / f"{name}.csv")
        assert len(dm.get_model_requests("m")) == 4


def test_a_copy_that_went_on_is_another(tmp_path: Path) -> None:
    """Rows of before are known in both; those of the same number but of afterwards are not."""
    with DataManager(tmp_path / "one.db") as one:
        one.add_model_requests("m", [ROW] * 3)
        one.backup(tmp_path / "two.db")
        with DataManager(tmp_path / "two.db") as two:
            two.add_model_request("m", [5, 5, 5, 5, 5])
            two.export(tmp_path / "two.csv")
        one.add_model_request("m", [6, 6, 6, 6, 6])
        assert one.import_requests(tmp_path / "two.csv")[:3] == (4, 1, 3)
        assert one.import_requests(tmp_path / "two.csv")[:3] == (4, 0, 4)
        assert [request.timestamp for request in one.get_model_requests("m", limit=2)] == [5, 6]


def test_a_file_that_was_plainly_copied(tmp_path: Path) -> None:
    """Both go on in the same era: rows of the same number are told apart by what is in them."""
    with DataManager(tmp_path / "one.db") as one:
        one.add_model_request("m", ROW)
    shutil.copyfile(tmp_path / "one.db", tmp_path / "two.db")
    with DataManager(tmp_path / "two.db") as two:
        two.add_model_request("m", [5, 5, 5, 5, 5])
        two.export(tmp_path / "two.csv")
    with DataManager(tmp_path / "one.db") as one:
        one.add_model_request("m", [6, 6, 6, 6, 6])
        assert one.import_requests(tmp_path / "two.csv")[:3] == (2, 1, 1)
        assert one.import_requests(tmp_path / "two.csv")[:3] == (2, 0, 2)
        assert [request.timestamp for request in one.get_model_requests("m", limit=2)] == [5, 6]


def test_a_row_that_came_from_elsewhere_is_not_that_of_its_number(tmp_path: Path) -> None:
    """Also when it has gone since, and nothing tells any more what was in it."""
    with DataManager(tmp_path / "one.db") as one:
        one.add_model_request("m", ROW)
    shutil.copyfile(tmp_path / "one.db", tmp_path / "two.db")
    with DataManager(tmp_path / "two.db") as two:
        two.add_model_request("m", [5, 5, 5, 5, 5])
        two.export(tmp_path / "two.csv")
    with DataManager(tmp_path / "one.db") as one:
        assert one.add_model_request("m", [6, 6, 6, 6, 6], request_id="its own") == 2
        one.prune(ROW[0] + 1, None)
        for added in (1, 0):
            assert one.import_requests(tmp_path / "two.csv")[1:3] == (added, 2 - added)
        assert [request.timestamp for request in one.get_model_requests("m")] == [5]


def test_what_was_removed_since(filled: DataManager, path: str, tmp_path: Path) -> None:
    """Rows that were pruned do not come back; a model that was deleted does, whole, and once."""
    file = tmp_path / "a.csv"
    filled.export(file)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(f"DELETE FROM {filled.get_safe_model_name('m')}_requests WHERE id < 9")
    assert filled.import_requests(file)[:3] == (17, 0, 17)
    filled.delete_model_tables("m")
    filled.add_model_requests("m", [ROW] * 4)  # as rows 1, 2 and 4 of before were
    for added in (15, 0):
        assert filled.import_requests(file).added == added
    assert len(filled.get_model_requests("m")) == 19
    filled.rename_model("m", "renamed")
    file.write_bytes(file.read_bytes().replace(b"\nm,", b"\nrenamed,"))
    assert filled.import_requests(file).added == 0


def rows_at(second: float, count: int) -> list[list[float]]:
    return [[second + i, 10, 1, 0, 10] for i in range(count)]


def test_rows_of_a_number_that_was_used_before(dm: DataManager, tmp_path: Path) -> None:
    """Of a model that was deleted; also where those that have the numbers now were pruned."""
    file = tmp_path / "x.csv"
    for name in ("x", "renamed"):
        dm.add_model_requests("x", rows_at(1000, 5))
        dm.export(file, models="x", overwrite=True)
        if name == "renamed":
            dm.rename_model("x", name)
        else:
            dm.delete_model_tables("x")
        dm.add_model_requests("x", rows_at(50_000, 3))
        dm.prune(60_000, tz="UTC", models="x")
        for added in (5, 0):
            assert dm.import_requests(file)[1:3] == (added, 5 - added)
        assert dm.usage("x").total.requests == 8
        dm.delete_model_tables("x")
    file.write_bytes(file.read_bytes().replace(b"\nx,", b"\nrenamed,"))
    assert dm.import_requests(file).known == 5


def test_rows_of_a_number_that_is_in_a_copy_too(tmp_path: Path) -> None:
    with DataManager(tmp_path / "a.db") as a:
        a.add_model_requests("x", rows_at(1000, 5))
        a.backup(tmp_path / "c.db")
        a.add_model_requests("x", rows_at(2000, 5))
        with DataManager(tmp_path / "c.db") as c:
            c.add_model_requests("x", rows_at(3000, 5))
            for name, dm in (("a", a), ("c", c)):
                dm.export(tmp_path / f"{name}.csv")
                dm.prune(60_000, tz="UTC")
            for name, dm in (("a", c), ("c", a)):
                for added in (5, 0):
                    assert dm.import_requests(tmp_path / f"{name}.csv").added == added
                assert dm.usage("x").total.requests == 15


def test_rows_of_a_number_that_was_used_before_a_restore(tmp_path: Path) -> None:
    """Twice from the same file, to a database that is there and to one that is not yet."""
    path, backup, file = tmp_path / "a.db", tmp_path / "backup.db", tmp_path / "x.csv"
    with DataManager(path) as dm:
        dm.add_model_requests("x", rows_at(1000, 5))
        dm.backup(backup)
    for turn in range(4):
        if turn == 2:
            path.unlink()
        restore(backup, path)
        with DataManager(path) as dm:
            assert dm.check() == []
            if turn:
                dm.add_model_requests("x", rows_at(10_000 * turn, 5))
                dm.prune(60_000, tz="UTC")
                for added in (5, 0):
                    assert dm.import_requests(file)[1:3] == (added, 10 - added)
                assert dm.usage("x").total.requests == 15
                restore(backup, path)
            dm.add_model_requests("x", rows_at(2000 * turn, 5))
            dm.export(file, overwrite=True)


def test_rows_of_models_that_have_no_era(tmp_path: Path) -> None:
    """As the older class makes them: they go by the id of the file."""
    path, backup, file = tmp_path / "a.db", tmp_path / "backup.db", tmp_path / "x.csv"
    with DataManager(path) as dm:
        dm.add_model_requests("x", rows_at(1000, 5))
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE datamanager_eras")
    with DataManager(path) as dm:
        dm.export(file)
        assert dm.import_requests(file)[1:3] == (0, 5)
        dm.backup(backup)
        dm.add_model_requests("x", rows_at(2000, 5))
        dm.export(file, overwrite=True)
    restore(backup, path)
    with DataManager(path) as dm:
        dm.add_model_requests("x", rows_at(3000, 5))
        dm.prune(60_000, tz="UTC")
        for added in (5, 0):
            assert dm.import_requests(file)[1:3] == (added, 10 - added)


def test_rows_of_models_without_an_era_that_a_file_and_its_copy_begin(tmp_path: Path) -> None:
    """A copy has an id of its own for them."""
    with DataManager(tmp_path / "a.db") as dm:
        dm.add_model_request("x", ROW)
        dm.backup(tmp_path / "c.db")
    for name, second in (("a", 1000), ("c", 2000)):
        with DataManager(tmp_path / f"{name}.db") as dm:
            dm.add_model_requests("y", rows_at(second, 5))
            safe = dm.get_safe_model_name("y")
        with closing(sqlite3.connect(tmp_path / f"{name}.db")) as other, other:
            other.execute("DELETE FROM datamanager_eras WHERE safe_name=?", (safe,))
        with DataManager(tmp_path / f"{name}.db") as dm:
            dm.export(tmp_path / f"{name}.csv", models="y")
            dm.prune(60_000, tz="UTC")
    with DataManager(tmp_path / "a.db") as dm:
        for file, added in (("a", 0), ("c", 5), ("c", 0)):
            assert dm.import_requests(tmp_path / f"{file}.csv")[1:3] == (added, 5 - added)


def test_a_copy_of_eras_that_are_not_as_they_should_be(dm: DataManager, tmp_path: Path) -> None:
    """Whoever has changed them does not keep a backup from being made."""
    dm.add_model_requests("x", rows_at(1000, 5))
    with closing(sqlite3.connect(dm.db_path)) as other:
        other.execute("ALTER TABLE datamanager_eras RENAME last_row TO last")
    dm.backup(tmp_path / "copy.db")
    with DataManager(tmp_path / "copy.db") as copy:
        assert len(copy.get_model_requests("x")) == 5


def test_without_the_store_table(filled: DataManager, path: str, tmp_path: Path) -> None:
    """Nothing is lost where others drop it: what the file itself had is then added again."""
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DROP TABLE datamanager_store")
    filled.export(tmp_path / "a.csv")
    with DataManager(tmp_path / "other.db") as other_store:
        assert other_store.import_requests(tmp_path / "a.csv").added == 17
        assert other_store.import_requests(tmp_path / "a.csv").added == 0


# ---- export ----


def test_what_is_written(filled: DataManager, tmp_path: Path) -> None:
    filled.export(tmp_path / "a.csv", models=NAME)
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        header, first, second = csv.reader(file)
    assert tuple(header) == FIELDS
    assert first[:8] == [NAME, "1700000000.125", "150", "80", "5", "145", "2.5", ""]
    assert second[6:] == ["0.1", "1e-09", NAME]
    filled.export(tmp_path / "a.jsonl", "jsonl", models=[NAME])
    first, second = map(json.loads, (tmp_path / "a.jsonl").read_text("utf-8").split("\n")[:2])
    assert list(first) == [field for field in FIELDS if field != "first_token"]
    assert list(second) == list(FIELDS) and second["request_id"] == NAME


def test_windows_and_models(filled: DataManager, tmp_path: Path, form: Any) -> None:
    def count(**options: Any) -> int:
        return filled.export(tmp_path / "a", form, overwrite=True, **options)

    assert (count(start=3, end=7), count(models="m", end=7), count(models=[])) == (4, 7, 0)
    assert count(start=ROW[0], models=["m", NAME]) == 7
    filled.import_requests(tmp_path / "a", form)
    for options, error, said in [
        ({"models": "nobody"}, datamanager.ModelNotFoundError, "nobody"),
        ({"models": ["m", "m"]}, InvalidDataError, "twice"),
        ({"start": float("nan")}, InvalidDataError, "start must be"),
        ({"start": 5, "end": 1}, InvalidDataError, "end 1.0 must be after start 5.0"),
        ({"start": 5, "end": 5}, InvalidDataError, "end 5.0 must be after start 5.0"),
    ]:
        with pytest.raises(error, match=said):
            count(**options)
    with pytest.raises(InvalidDataError, match="format must be one of csv, jsonl, parquet"):
        filled.export(tmp_path / "b", "xml")  # type: ignore[arg-type]
    assert {*os.listdir(tmp_path)} == {"usage.db", "usage.db-shm", "usage.db-wal", "a"}


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o277])
def test_only_its_owner_reads_it(
    filled: DataManager, tmp_path: Path, form: Any, umask: int
) -> None:
    mask = os.umask(umask)
    try:
        filled.export(tmp_path / "a", form)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) == 0o600


def test_a_name_of_another_format_is_refused(filled: DataManager, tmp_path: Path) -> None:
    for name, form in (("a.parquet", "csv"), ("a.NDJSON", "csv"), ("a.csv", "jsonl")):
        with pytest.raises(
            InvalidDataError, match=f"format is '{form}', but the name of .*{name} says"
        ):
            filled.export(tmp_path / name, form)  # type: ignore[arg-type]
    for name in ("a.csv.gz", "a.ZST", b"a.parquet"):
        with pytest.raises(InvalidDataError, match=r"but the name of .* says '(gz|zst|parquet)'$"):
            filled.export(tmp_path / name if isinstance(name, str) else name)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("a.*"))
    assert filled.export(tmp_path / "a.txt") == filled.export(tmp_path / "a.ndjson", "jsonl")


def test_what_is_there_stays(filled: DataManager, path: str, tmp_path: Path, form: Any) -> None:
    file = tmp_path / "a"
    file.write_text("before")
    with pytest.raises(DestinationExistsError):
        filled.export(file, form)

    def stop(done: int, total: int) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        filled.export(file, form, progress=stop, overwrite=True)
    with pytest.raises(DestinationExistsError, match=r"a log|is open here"):
        filled.export(path, form, overwrite=True)
    assert file.read_text() == "before" and len(filled.get_model_requests("m")) == 15
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".datamanager")]
    filled.export(file, form, overwrite=True)
    assert file.read_bytes()[:6] != b"before"


def test_progress(filled: DataManager, tmp_path: Path) -> None:
    filled.add_model_requests("big", [ROW] * 10_000)
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))
        filled.add_model_request("big", ROW)  # another moment's
        with pytest.raises(datamanager.DataManagerError, match="close"):
            filled.close()

    assert filled.export(tmp_path / "a.csv", progress=tell) == 10_017
    assert told == sorted(told) and len(told) == 5
    assert {total for _, total in told} == {10_017} and told[-1][0] == 10_017


def test_from_memory_and_for_reading_only(filled: DataManager, path: str, tmp_path: Path) -> None:
    with DataManager(path, read_only=True) as reader:
        assert reader.export(tmp_path / "a.csv") == 17
        with pytest.raises(datamanager.ReadOnlyError):
            reader.import_requests(tmp_path / "a.csv")
    assert filled.import_requests(tmp_path / "a.csv").added == 0
    with DataManager(":memory:") as dm:
        dm.import_requests(tmp_path / "a.csv")
        assert dm.export(tmp_path / "b.csv", progress=lambda *_: dm.get_models()) == 17
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


EXPORTING = """
import sys, datamanager
dm = datamanager.DataManager(sys.argv[1])
told = []
def tell(done, total):
    if not told:
        told.append(print("ready", flush=True))
        sys.stdin.readline()
dm.export(sys.argv[2], progress=tell)
"""


def test_killed_while_exporting(filled: DataManager, path: str, tmp_path: Path) -> None:
    filled.add_model_requests("big", [ROW] * 10_000)
    folder = tmp_path / "files"
    command = [sys.executable, "-c", EXPORTING, path, str(folder / "a.csv")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL
    (left,) = os.listdir(folder)
    assert left.startswith(".datamanager-unfinished-")
    assert filled.export(folder / "a.csv") == 10_017
    assert os.listdir(folder) == ["a.csv"]


def test_ctrl_c(filled: DataManager, path: str, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    command = [sys.executable, "-c", EXPORTING, path, str(folder / "a.csv")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(60) != 0
        assert "KeyboardInterrupt" in child.stderr.read()
    assert os.listdir(folder) == []


# ---- import: files of others ----


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_the_files_own_names(dm: DataManager, tmp_path: Path) -> None:
    text = (
        "\ufeffTIMESTAMP,ContextTokens,GeneratedTokens,note\r\n"
        "2023-11-16 18:15:46.6805900,374,44,x\r\n"
        "2023-11-16T18:15:46+01:00, 374 ,44.0,\r\n"
        "\r\n"
        '1700158546,1e2,0,"a\nb"\r\n'
        "2023-11-16 18:15:50Z,396,109,last line without an end"
    )
    file = written(tmp_path / "trace.csv", text)
    result = dm.import_requests(file, model=NAME, columns=TRACE, tz="UTC")
    assert result == (4, 4, 0, 0, [])
    assert rows(dm, NAME) == [
        (1_700_158_546.68059, 374, 44, 0, 374),
        (1_700_154_946.0, 374, 44, 0, 374),
        (1_700_158_546.0, 100, 0, 0, 100),
        (1_700_158_550.0, 396, 109, 0, 396),
    ]
    assert dm.import_requests(file, model=NAME, columns=TRACE, tz="UTC").known == 4
    berlin = dm.import_requests(file, model="elsewhere", columns=TRACE, tz="Europe/Berlin")
    assert berlin.added == 4 and rows(dm, "elsewhere")[0][0] == 1_700_158_546.68059 - 3600


def test_json_of_others(dm: DataManager, tmp_path: Path) -> None:
    lines = [
        {"model": "m", "timestamp": 1.5, "input_tokens": 9, "output_tokens": 2, "cache_n": 4},
        {"timestamp": "2023-11-16", "input_tokens": 1, "output_tokens": 2, "cache_n": 3, "x": [{}]},
        {"timestamp": 2, "input_tokens": 1.0, "output_tokens": 2, "prompt_n": None},
    ]
    file = written(tmp_path / "a.ndjson", "\n".join(map(json.dumps, lines)) + "\n\n")
    assert dm.import_requests(file, model="other", tz="UTC")[:4] == (3, 3, 0, 0)
    assert rows(dm, "m") == [(1.5, 9, 2, 4, 5)]
    assert rows(dm, "other") == [(1_700_092_800.0, 1, 2, 3, 0), (2.0, 1, 2, 0, 1)]


def test_lines_without_an_id(dm: DataManager, tmp_path: Path) -> None:
    """Equal lines are as many requests; the same lines are known in other files as well."""
    head, line, other = "timestamp,input_tokens,output_tokens\n", "1.5,2,3\n", "1.5,2,4\n"
    file = tmp_path / "log.csv"
    for text, added, known in [
        (line * 2 + other, 3, 0),
        (line * 2 + other, 0, 3),
        (line * 2 + other + line, 1, 3),  # it has grown
        (other + line, 0, 2),  # its beginning has been cut off
        ("1.50, 2, 3.0\n" * 4 + other, 1, 4),  # written in another way
    ]:
        written(file, head + text)
        assert dm.import_requests(file, model="m")[1:3] == (added, known)
    assert dm.import_requests(written(file, head + line), model="n").added == 1
    assert len(dm.get_model_requests("m")) == 5


def test_a_line_is_told_from_that_of_another_model(dm: DataManager, tmp_path: Path) -> None:
    """Also where what comes before its name ends in what the other's name begins with."""
    head = "model,timestamp,input_tokens,output_tokens,duration,first_token\n"
    line = "o,1000,10,1,2.0,0.54\n"
    both = written(tmp_path / "both.csv", f"{head}4o,1000,10,1,2.0,0.5\n{line}")
    assert dm.import_requests(both).added == 2
    assert dm.import_requests(written(tmp_path / "one.csv", head + line)).known == 1


# ---- import: bad lines ----

HEAD = b"model,timestamp,input_tokens,output_tokens,cache_n,prompt_n,duration,request_id\n"
BAD_CSV = {
    b"m,1,2,3\n": "there are 4 values, not 8",
    b"m,1,2,3,4,5,,,\n": "there are 9 values, not 8",
    b",1,2,3,4,5,,\n": "there is no model",
    b"m,,2,3,4,5,,\n": "there is no timestamp",
    b"m,yesterday,2,3,4,5,,\n": "timestamp must be seconds since 1970 or like 2026-10-05T12:30:00",
    b"m,-1,2,3,4,5,,\n": "timestamp must be a finite number",
    b"m,nan,2,3,4,5,,\n": "timestamp must be seconds since 1970",
    b"m," + b"x" * 100_000 + b",2,3,4,5,,\n": "timestamp must be seconds since 1970",
    b"m,1e999,2,3,4,5,,\n": "timestamp must be a finite number",
    b"m,0001-01-01,2,3,4,5,,\n": "timestamp must be",
    b"m,1,-2,3,4,5,,\n": "input_tokens must be a whole number",
    b"m,1,2,3.5,4,5,,\n": "output_tokens must be a whole number",
    b"m,1,2,0x3,4,5,,\n": "output_tokens must be a whole number",
    b"m,1,2,1_0,4,5,,\n": "output_tokens must be a whole number",
    "m,1,2,٣,4,5,,\n".encode(): "output_tokens must be a whole number",
    b"m,1,2,3,9007199254740993,5,,\n": "cache_n must be a whole number",
    b"m,1,2,3,4," + b"9" * 4000 + b",,\n": "prompt_n must be a whole number",
    b"m,1,2,3,4,5,soon,\n": "duration must be a finite number",
    b"m,1,2,3,4,5,," + b"x" * 256 + b"\n": "request_id must have at most 255 bytes",
    "m型,1,2,3,4,5,,\n".encode("gbk"): "the line is not UTF-8: model_name must not",
    b"m\0,1,2,3,4,5,,\n": "NUL",
    b"m" * 1025 + b",1,2,3,4,5,,\n": "model_name must have at most 1024 bytes",
    b'"m"x,1,2,3,4,5,,\n': "',' expected after '\"'",
    b"m,1,2,3,4,5,," + b"y" * 200_000 + b"\n": "field larger than field limit",
    b"m,1,2,3,4,5,," + b"," * 2_000_000 + b"\n": "the line has more than 1048576 characters",
}
GOOD = b'"m",1,2,3,4,5,,\n'


@pytest.mark.parametrize("at", range(len(BAD_CSV)), ids=list(map(str, range(len(BAD_CSV)))))
def test_bad_lines_of_csv(dm: DataManager, tmp_path: Path, at: int) -> None:
    bad, said = list(BAD_CSV.items())[at]
    file = written(tmp_path / "a.csv", HEAD + GOOD + bad + GOOD * 2)
    told: list[tuple[int, str]] = []
    result = dm.import_requests(file, on_bad_line=lambda *line: told.append(line))
    assert result[:4] == (4, 3, 0, 1)
    assert told == result.bad_lines
    ((number, text),) = told
    assert number == 3 and said in text
    assert len(text) < 2000  # a thousand of them are kept
    assert dm.get_models() == ["m"] and len(dm.get_model_requests("m")) == 3


BAD_JSON = {
    b"[1]\n": "no JSON object",
    b"1.5\n": "no JSON object",
    b"{\n": "no JSON: ",
    b"[" * 100_000 + b"\n": "no JSON: ",
    b'{"timestamp":' + b"9" * 5000 + b"}\n": "no JSON: ",
    b'{"timestamp":1,"input_tokens":2}\n': "there is no output_tokens",
    b'{"timestamp":true,"input_tokens":2,"output_tokens":1}\n': "timestamp must be",
    b'{"timestamp":NaN,"input_tokens":2,"output_tokens":1}\n': "timestamp must be",
    b'{"timestamp":[],"input_tokens":2,"output_tokens":1}\n': "timestamp must be",
    b'{"timestamp":1,"input_tokens":{},"output_tokens":1}\n': "input_tokens must be",
    b'{"timestamp":1,"input_tokens":1,"output_tokens":1,"model":5}\n': "model_name must be a str",
    b'{"timestamp":1,"input_tokens":1,"output_tokens":1,"model":"\\udc80"}\n': "lone surrogates",
    b'{"timestamp":1,"input_tokens":1,"output_tokens":1,"request_id":5}\n': "request_id must be",
    b'{"timestamp":1,"input_tokens":1,"output_tokens":1,"first_token":-1}\n': "first_token must be",
    b'"' + b"x" * 3_000_000 + b'"\n': "the line has more than 1048576 characters",
}


@pytest.mark.parametrize("at", range(len(BAD_JSON)))
def test_bad_lines_of_json(dm: DataManager, tmp_path: Path, at: int) -> None:
    bad, said = list(BAD_JSON.items())[at]
    good = b'{"timestamp":1,"input_tokens":2,"output_tokens":3}\n'
    file = written(tmp_path / "a.jsonl", good + b"\n" + bad + good)
    result = dm.import_requests(file, model="m")
    assert result[:4] == (3, 2, 0, 1)
    assert result.bad_lines[0].line == 3 and said in result.bad_lines[0].text
    assert "UTF-8" not in result.bad_lines[0].text


def test_a_quote_that_is_never_closed(dm: DataManager, tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", HEAD + GOOD + b'"m,1,2,3,4,5,,\n' + b"m,1,2,3,4,5,,\n" * 3)
    result = dm.import_requests(file)
    assert result[:4] == (2, 1, 0, 1)
    assert result.bad_lines[0] == (3, "unexpected end of data (up to line 6)")


def test_strict(dm: DataManager, tmp_path: Path, form: Any) -> None:
    good = {"timestamp": 1.5, "input_tokens": 2, "output_tokens": 3}
    records = [good, good, {**good, "input_tokens": -5}, good, {**good, "output_tokens": -6}]
    file = tmp_path / f"a.{form}"
    if form == "csv":
        with open(file, "w", newline="") as out:
            writer = csv.DictWriter(out, list(good))
            writer.writeheader()
            writer.writerows(records)
    elif form == "jsonl":
        written(file, "".join(json.dumps(record) + "\n" for record in records))
    else:
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), file)
    number = 4 if form == "csv" else 3
    said = f"nothing was imported: 2 bad lines, the first is line {number}: input_tokens must"
    told: list[int] = []
    with pytest.raises(InvalidDataError, match=said):
        dm.import_requests(file, model="m", strict=True, on_bad_line=lambda n, _: told.append(n))
    assert told == [number, number + 2] and dm.get_models() == []
    assert dm.import_requests(file, model="m")[:4] == (5, 3, 0, 2)


def test_a_thousand_bad_lines_are_kept(dm: DataManager, tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", HEAD + GOOD + b"m\n" * 3000 + GOOD)
    told: list[int] = []
    result = dm.import_requests(file, on_bad_line=lambda number, text: told.append(number))
    assert result[:4] == (3002, 2, 0, 3000)
    assert told == list(range(3, 3003))
    assert [bad.line for bad in result.bad_lines] == told[:1000]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", {}, "there is no column 'model' in the file, nor another .model= names one for all l"),
        ("Model,a\n", {}, r"no column 'model' in the file, only 'Model', 'a' \(model= names one"),
        ("timestamp,a\n", {"model": "m"}, r"no column 'input_tokens' .* 'a' \(see columns=\)$"),
        ("sep=,\nmodel,timestamp\n", {}, "only 'sep=', '' "),
        (
            "model;timestamp\n",
            {},
            r"only 'model;timestamp', where ';' may be the separator, not ',' \(model=",
        ),
        (
            "a\ttimestamp\n",
            {"model": "m"},
            r"only 'a\\ttimestamp', where '\\t' may be the separator",
        ),
        ("模型,时间\n".encode("gbk"), {}, r"only '.*udcd0.*', which are not UTF-8 \(model="),
        (b"\x1f\x8b\x08", {}, "the file is compressed by gzip"),
        ("model,timestamp".encode("utf-16"), {}, "the file is UTF-16, and must be UTF-8"),
        (codecs.BOM_UTF16_BE + "{}".encode("utf-16-be"), {"format": "jsonl"}, "is UTF-16"),
        ("timestamp,timestamp,input_tokens,output_tokens\n", {"model": "m"}, "2 columns 'timest"),
        ("a,b,c\n", {"columns": {"timestamps": "a"}}, "columns may name model, .*, not timestamps"),
        (
            "timestamp,input_tokens,output_tokens\n",
            {"model": "m", "columns": {"cache_n": "hits"}},
            "there is no column 'hits'",
        ),
        ('"a\n', {"model": "m"}, "the header cannot be read"),
        ("a\n", {"columns": ["timestamp"]}, r"columns must map fields .*, not \['timestamp'\]"),
        ("a\n", {"columns": "timestamp"}, "columns must map fields .*, not 'timestamp'"),
        ("a\n", {"columns": {5: "a", "b": "c"}}, "columns may name model, .*, not 5, b"),
        ("a\n", {"columns": {"timestamp": []}}, r"the name of timestamp must be a str, not \[\]"),
        ("a\n", {"format": "xml"}, "format must be one of csv, jsonl, parquet, not 'xml'"),
        ("a\n", {"strict": "no"}, "strict must be True or False, not 'no'"),
        ("a\n", {"strict": None}, "strict must be True or False, not None"),
        ("a\n", {"tz": "Nowhere/At_all"}, "tz must be the name of a time zone"),
    ],
)
def test_files_that_do_not_serve(
    dm: DataManager, tmp_path: Path, text: str | bytes, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidDataError, match=said):
        dm.import_requests(written(tmp_path / "a.csv", text), **options)
    with pytest.raises(InvalidDataError, match=r"the name of .*/a\.txt does not say which"):
        dm.import_requests(written(tmp_path / "a.txt", text))
    assert dm.get_models() == []


def test_a_name_of_bytes(filled: DataManager, tmp_path: Path, form: Any) -> None:
    name = os.fsencode(tmp_path / f"模.{form}")
    assert filled.export(name, form) == 17  # type: ignore[arg-type]
    assert filled.import_requests(name).known == 17  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not int"):
        filled.import_requests(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["on_bad_line", "progress"])
def test_what_cannot_be_called(dm: DataManager, tmp_path: Path, field: str) -> None:
    """Also where no line would be bad, and nothing has been opened yet."""
    said = f"^{field} must be callable, not int$"
    with pytest.raises(TypeError, match=said):
        dm.import_requests(tmp_path / "none.csv", model="m", **{field: 5})  # type: ignore[arg-type]
    if field == "progress":
        with pytest.raises(TypeError, match=said):
            dm.export(tmp_path / "folder" / "a.csv", progress=5)  # type: ignore[arg-type]
        assert not (tmp_path / "folder").exists()


def test_open_databases_are_not_read(filled: DataManager, path: str, tmp_path: Path) -> None:
    """Closing a descriptor of one drops its locks."""
    names = [path, f"{path}-wal", f"{path}-shm"]
    for name in names[:]:
        for make in (os.symlink, os.link):
            names.append(str(tmp_path / f"{len(names)}.csv"))
            make(name, names[-1])
    for name in names:
        with pytest.raises(InvalidDataError, match="is a database that is open"):
            filled.import_requests(name, "csv", model="m")
    with pytest.raises(FileNotFoundError):
        filled.import_requests(tmp_path / "none.csv", model="m")


def test_no_part_of_a_batch(dm: DataManager, tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", HEAD + GOOD)
    with pytest.raises(InvalidDataError, match="cannot be a part of a batch"), dm.batch():
        dm.import_requests(file)
    assert dm.get_models() == []
    file.write_bytes(HEAD + GOOD * 1500)
    with dm.batch() as batch:
        dm.add_model_request("other", [1, 1, 1, 0, 1])
        with pytest.raises(InvalidDataError, match="cannot be a part of a batch"):
            dm.import_requests(file)
    assert (batch.ids, dm.get_models()) == ([1], ["other"])


def test_without_pyarrow(dm: DataManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = r"Parquet files need pyarrow: pip install 'datamanager\[parquet\]'"
    with pytest.raises(ImportError, match=said):
        dm.export(tmp_path / "a.parquet", "parquet")
    with pytest.raises(ImportError, match=said):
        dm.import_requests(written(tmp_path / "b.parquet", "x"))
    assert not (tmp_path / "a.parquet").exists()


def test_progress_of_an_import(filled: DataManager, tmp_path: Path, form: Any) -> None:
    filled.add_model_requests("big", [ROW] * 5000)
    filled.export(tmp_path / f"a.{form}", form)
    total = 5017 if form == "parquet" else (tmp_path / f"a.{form}").stat().st_size
    told: list[tuple[int, int]] = []
    with DataManager(tmp_path / "other.db") as other:
        tell = told.append
        other.import_requests(tmp_path / f"a.{form}", progress=lambda *at: tell(at))
        once, told[:] = told[:], []
        other.import_requests(tmp_path / f"a.{form}", progress=lambda *at: tell(at), strict=True)
    assert once == sorted(once) and len(once) == 6
    assert {at[1] for at in once} == {total} and once[-1][0] == total
    assert told == once[:-1] + once  # all is read, and then read again and added


def test_progress_of_what_has_no_position(dm: DataManager, tmp_path: Path) -> None:
    """Of a pipe the total is not known before its end."""
    content = HEAD + "模,1,2,3,4,5,,\n".encode() * 3000
    told: list[tuple[int, int]] = []
    reading, writing = os.pipe()
    with open(writing, "wb") as pipe, open(reading, "rb"):
        thread = threading.Thread(target=lambda: (pipe.write(content), pipe.close()))
        thread.start()
        dm.import_requests(f"/dev/fd/{reading}", "csv", progress=lambda *at: told.append(at))
        thread.join()
    size = len(content)
    line = (size - len(HEAD)) // 3000
    assert told == [*((len(HEAD) + line * n * 1000, 0) for n in (1, 2, 3)), (size, size)]


# ---- import: whatever happens ----

IMPORTING = """
import sys, datamanager
dm = datamanager.DataManager(sys.argv[1])
def tell(done, total):
    print("ready" if done * 3 > total else "", flush=True)
    if done * 3 > total and sys.argv[3] == "wait":
        sys.stdin.readline()
print("begin", flush=True)
if sys.argv[3] == "go":
    sys.stdin.readline()
print(dm.import_requests(sys.argv[2], progress=tell if sys.argv[3] == "wait" else None), flush=True)
"""


@pytest.fixture(params=["exported", "of others"])
def long_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """12,000 requests of two models, each of them twice."""
    file = tmp_path / "long.csv"
    with DataManager(":memory:") as dm:
        for model in ("m", NAME):
            dm.add_model_requests(model, [[i % 3000, 1, 2, 3, 4] for i in range(6000)])
        dm.export(file)
    if request.param == "of others":
        with open(file, encoding="utf-8", newline="") as source:
            lines = [line[:6] for line in csv.reader(source)]
        with open(file, "w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows(lines)
    return file


def importer(path: str, file: Path, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", IMPORTING, path, str(file), how]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "begin\n"
    return child


def test_killed_and_repeated(path: str, long_file: Path) -> None:
    with importer(path, long_file, "wait") as child:
        assert child.stdout is not None
        assert any(line == "ready\n" for line in child.stdout)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    with DataManager(path) as dm:
        there = sum(len(dm.get_model_requests(name)) for name in dm.get_models())
        assert 0 < there < 12_000
        result = dm.import_requests(long_file)
        assert result[:4] == (12_000, 12_000 - there, there, 0)
        assert [len(dm.get_model_requests(name)) for name in ("m", NAME)] == [6000, 6000]
        assert dm.import_requests(long_file).added == 0
        assert dm.check() == []


def test_by_two_processes_at_once(path: str, long_file: Path) -> None:
    children = [importer(path, long_file, "go") for _ in range(2)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    outputs = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert all("read=12000" in output and "bad=0" in output for output in outputs)
    with DataManager(path) as dm:
        assert [len(dm.get_model_requests(name)) for name in ("m", NAME)] == [6000, 6000]
        assert rows(dm, "m")[:3] == [(second, 1, 2, 3, 4) for second in range(3)]


@pytest.mark.parametrize("model", ["", 5, "n" * 2000])
def test_a_model_that_cannot_be_is_refused_at_once(
    dm: DataManager, tmp_path: Path, model: Any
) -> None:
    file = written(tmp_path / "a.csv", HEAD + GOOD)
    with pytest.raises(InvalidDataError, match=r"^model must"):
        dm.import_requests(file, model=model)


@pytest.mark.parametrize("name", ["none.csv", "none.parquet"])
def test_a_missing_file_is_an_error_of_ours_too(dm: DataManager, tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=name) as caught:
        dm.import_requests(tmp_path / name, model="m")
    assert isinstance(caught.value, CannotOpenError)
