"""Who may include what, what the module exports, and how long files and functions may be."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

from datamanager import _core

SOURCES = sorted((ROOT / "csrc").glob("*/*.[ch]"))
PURE = {"cost.c", "money.c"}
PURE_INCLUDES = {"dm.h", "float.h", "stdarg.h", "stdio.h", "stdlib.h", "string.h", "wide.h"}
SQL = re.compile(
    r"\b(SELECT .+ FROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE TABLE|PRAGMA \w+)"
)


def includes(source: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', source.read_text(), re.M)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_includes(source: Path) -> None:
    found = includes(source)
    if source.parent.name == "core":
        assert "Python.h" not in found
        assert source.name not in PURE or set(found) <= PURE_INCLUDES
        return
    assert "sqlite3.h" not in found
    assert not {"dm_internal.h", "dm_store.h", "platform.h"} & set(found)
    if source.suffix == ".c":
        assert found[0] in ("Python.h", "module.h", "call.h")


def test_the_parts_of_the_core_are_listed() -> None:
    """In the comment that dm_internal.h begins with: each file once."""
    header = (ROOT / "csrc" / "core" / "dm_internal.h").read_text(encoding="utf-8")
    parts = re.findall(r"^ \*   (\w+(?: \w+)*)", header.partition("*/")[0], re.M)
    listed = sorted(name for part in parts for name in part.split())
    assert listed == sorted(source.stem for source in SOURCES if source.match("core/*.c"))


def test_python_comes_first() -> None:
    assert includes(ROOT / "csrc" / "binding" / "module.h")[0] == "Python.h"


def test_no_sql_in_python() -> None:
    for source in sorted((ROOT / "datamanager").rglob("*.py")):
        assert not SQL.search(source.read_text(encoding="utf-8")), source.name


def test_only_the_platform_opens_files() -> None:
    """To close a database that SQLite has open would drop this process's locks on it."""
    opens = re.compile(r"\b(f?open|openat|creat)\(")
    found = {source.name for source in SOURCES if opens.search(source.read_text(encoding="utf-8"))}
    assert found == {"platform.c"}


def test_only_the_init_function_is_exported() -> None:
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", str(_core.__file__)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    names = {line.split()[-1] for line in listing.splitlines()}
    assert names - {"_init", "_fini"} == {"PyInit__core"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_lengths(source: Path) -> None:
    lines = source.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 700
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            assert number - start - 1 <= 60, f"{source.name}:{start}"
            start = None
