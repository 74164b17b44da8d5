"""Any bytes as a file of CSV or of JSON lines: every line is added, known or bad, and repeated none
is added. The first byte says which of both it is, and whether it names its models.

Options and folders are libFuzzer's. With DM_PLANT a bug is planted, which must be found.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from itertools import count
from typing import Any

import atheris

with atheris.instrument_imports(include=["datamanager"]):
    from datamanager import DataManager, InvalidDataError
    from datamanager.exchange import importing

if os.environ.get("DM_PLANT"):
    importing._NUMBER = re.compile(r"[^x]+")  # and is then no number for float()
folder = tempfile.TemporaryDirectory(dir="/dev/shm")
path = f"{folder.name}/file"
numbers = count()
dm = DataManager(":memory:", durability="normal")


def one_input(data: bytes) -> None:
    global dm
    if next(numbers) % 500 == 0:  # so that it stays small
        dm.close()
        dm = DataManager(":memory:", durability="normal")
    flags = data[0] if data else 0
    with open(path, "wb") as file:
        file.write(data[1:])
    options: dict[str, Any] = {
        "format": "jsonl" if flags & 1 else "csv",
        "model": "m" if flags & 2 else None,
    }
    try:
        first = dm.import_requests(path, **options)
    except InvalidDataError as error:
        assert str(error)
        return
    assert first.read == first.added + first.known + first.bad
    assert len(first.bad_lines) == min(first.bad, 1000)
    again = dm.import_requests(path, **options)
    assert (again.read, again.added, again.bad) == (first.read, 0, first.bad)


atheris.Setup(sys.argv, one_input)
atheris.Fuzz()
