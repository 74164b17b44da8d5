"""Export and import take bounded memory, however long the file is, and no more than there is."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from mounting import small_disk

from datamanager import DataManager
from datamanager.exchange.importing import _Occurrences

# Of the process alone: what resource tells began with the memory of the one that started it. A few
# requests first, there and back: what is imported for that is not of this file.
PEAK = """
import sys, datamanager
from pathlib import Path

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

what, store, file, form = sys.argv[1:]
with datamanager.DataManager(":memory:") as few:
    few.add_model_requests("m", [[second, 1, 2, 3, 4] for second in range(1000)])
    few.export(store + what + form, form)
    few.import_requests(store + what + form, form)
dm = datamanager.DataManager(store)
Path("/proc/self/clear_refs").write_text("5")
before = peak()
if what == "export":
    dm.export(file, form)
else:
    print(dm.import_requests(file, form).added, end=" ")
print(peak() - before)
"""


def peak(what: str, store: Path | str, file: Path, form: str) -> list[int]:
    command = [sys.executable, "-c", PEAK, what, str(store), str(file), form]
    return [int(word) for word in subprocess.check_output(command, timeout=300).split()]


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path, path: str) -> None:
    """Of 100,000 requests the columns alone have five megabytes, their Python objects fifty."""
    count, bound = 100_000, 8 * 1024  # kilobytes
    with DataManager(path, durability="normal") as dm:
        dm.add_model_requests("m", [[second, 1, 2, 3, 4] for second in range(count)])

    for form in ("csv", "jsonl"):
        file = tmp_path / form
        (grown,) = peak("export", path, file, form)
        assert grown < bound, grown
        added, grown = peak("import", tmp_path / f"{form}.db", file, form)
        assert (added, grown < bound) == (count, True), grown
    shutil.move(tmp_path / "csv", tmp_path / "whole")
    with open(tmp_path / "whole", newline="") as source, open(tmp_path / "csv", "w") as out:
        csv.writer(out).writerows(line[:6] for line in csv.reader(source))
    added, grown = peak("import", tmp_path / "others.db", tmp_path / "csv", "csv")
    assert (added, grown < bound) == (count, True), grown


@pytest.mark.slow
def test_memory_is_bounded_with_parquet(tmp_path: Path) -> None:
    """What is in one group of rows, here all, is read in parts, too."""
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    count, bound, random = 250_000, 64 * 1024, Random(7)
    columns = {
        "model": ["m"] * count,
        "request_id": [f"{random.getrandbits(1000):x}" for _ in range(count)],
        **{name: list(range(count)) for name in ("timestamp", "input_tokens", "output_tokens")},
    }
    file = tmp_path / "a.parquet"
    parquet.write_table(arrow.table(columns), file, row_group_size=count)
    added, grown = peak("import", tmp_path / "a.db", file, "parquet")
    assert (added, grown < bound) == (count, True), grown


# ---- what is kept of each line without an id ----

COUNTING = """
import datamanager
from datamanager.exchange.importing import _Occurrences
occurrences = _Occurrences()
try:
    for number in range(1, 20_000):
        occurrences.number(number * 0x9E3779B97F4A7C15 % 2**64)
except datamanager.DiskFullError as error:
    print(number, error)
"""


def test_lines_without_an_id_where_the_temporary_folder_is_full(tmp_path: Path) -> None:
    """That file is mapped: what has no room for it must be an error, not a signal."""
    mount = tmp_path / "mount"
    with small_disk(mount, "64k"):
        done = subprocess.run(
            [sys.executable, "-c", COUNTING],
            env=os.environ | {"TMPDIR": str(mount)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done
    assert done.stdout == f"2049 {mount} (TMPDIR): No space left on device\n"


def test_occurrences_are_those_of_a_dict() -> None:
    found, wanted = _Occurrences(), dict[int, int]()
    for number in range(60_000):
        key = (number * number) % 40_009 * 0x9E3779B97F4A7C15 % 2**64
        wanted[key] = wanted.get(key, 0) + 1
        if key:
            assert found.number(key) == wanted[key]
