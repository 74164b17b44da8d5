"""The documents are right: their blocks run, and their tables are those of the code."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from commands import fill
from conftest import ROOT
from documents import Block, blocks, promised, run, run_in_bash, section, table, text_of
from test_older_layout import build_older

import datamanager
from datamanager import DataManager, cli, compat
from datamanager.cli import errors

HOW_TO = ROOT / "docs" / "howto"
ENGLISH, CHINESE = "docs/manual.md", "docs/manual.zh.md"
READMES = ["README.md", "README.zh-CN.md"]
BILLING = ["docs/billing.md", "docs/billing.zh.md"]
HOST = "docs/howto/adopt.md"
PAGES = ["docs/quickstart.md", *sorted(f"docs/howto/{p.name}" for p in HOW_TO.glob("*.md"))]
OTHERS = [f"docs/{name}.md" for name in ("index", "promises", "benchmarks", "decisions")]
DOCUMENTS = [*READMES, "CONTRIBUTING.md", ENGLISH, CHINESE, *BILLING, *PAGES, *OTHERS]
BLOCKS = {
    document: blocks(document, "python", "bash")
    for document in (ENGLISH, *READMES, *BILLING, *PAGES)
}
CASES = [(block, number) for found in BLOCKS.values() for number, block in enumerate(found)]
RECORDS = [
    "ModelRunTime",
    "ModelRequest",
    "TierPricing",
    "ModelBilling",
    "Tariff",
    "UsageRow",
    "Finding",
    "PerformanceRow",
    "ModelStatus",
    "Pruned",
    "Cost",
    "ResponseUsage",
    "CostSlice",
    "InvoiceLine",
]
OF_BOTH = pytest.mark.parametrize("manual", [ENGLISH, CHINESE])
HEADINGS = {
    ENGLISH: {
        "additions": "## What this implementation adds",
        "calls": "### All calls",
        "prices": "### Prices with a history",
        "options": "### Options of DataManager",
        "errors": "### Errors",
        "compat": "### In place of the host's class",
        "stats": "### Numbers for operators",
        "sqlite": "### Other programs and checkpoints",
        "command line": "### The command line",
        "commands": "#### Commands",
        "windows": "#### Windows and output",
        "codes": "#### Exit codes",
    },
    CHINESE: {
        "additions": "## 本实现的补充说明",
        "calls": "### 全部调用",
        "prices": "### 价格的历史",
        "options": "### DataManager 的选项",
        "errors": "### 错误",
        "compat": "### 在已有程序中替换",
        "stats": "### 给运维的数字",
        "sqlite": "### 其他程序与检查点",
        "command line": "### 命令行",
        "commands": "#### 命令",
        "windows": "#### 时间范围与输出",
        "codes": "#### 返回代码",
    },
}


def prepare(document: str, folder: Path) -> None:
    """What a page takes for granted: a host, and its database of the older layout."""
    if document in READMES:
        (folder / "webui").mkdir()
        build_older(str(folder / "webui" / "monitoring.db"), names=["Qwen3-Coder-30B"])
    if document == HOST:
        (folder / "host" / "core").mkdir(parents=True)
        (folder / "host" / "core" / "data_manager.py").write_text("class Monitor: ...\n")
        (folder / "host" / "webui").mkdir()
        build_older(str(folder / "host" / "webui" / "monitoring.db"))


def needed(found: list[Block]) -> list[str]:
    """The libraries that these blocks take for granted."""
    code = "".join(block.code for block in found)
    names = [n for n in ("duckdb", "numpy", "polars", "pyarrow", "pandas") if n in code]
    return names + ["plotly"] * (".html" in code or ".plot(" in code)


@pytest.mark.parametrize(("block", "number"), CASES, ids=[str(block) for block, _ in CASES])
def test_block(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    block: Block,
    number: int,
) -> None:
    """As it stands, after those before it, with nothing else supplied."""
    for library in needed(BLOCKS[block.document][: number + 1]):
        pytest.importorskip(library, reason="needs the libraries of the dev extra")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATAMANAGER_DB", raising=False)
    prepare(block.document, tmp_path)
    names: dict[str, Any] = {}
    try:
        for earlier in BLOCKS[block.document][:number]:
            run(earlier, names)
        capsys.readouterr()
        run(block, names)
    finally:
        for manager in [value for value in names.values() if isinstance(value, DataManager)]:
            manager.close()
    assert not promised(block) or capsys.readouterr().out.splitlines() == promised(block)


def codes(text: str) -> list[str]:
    return re.findall(r"^```\w+\n(.*?)^```$", text, re.S | re.M)


def spans(text: str) -> list[list[str]]:
    """The code in each row of the tables."""
    return [re.findall(r"`([^`]+)`", row) for row in re.findall(r"^\| `.*$", text, re.M)]


def test_the_chinese_manual_says_the_same() -> None:
    ours, theirs = (section(m, HEADINGS[m]["additions"]) for m in (ENGLISH, CHINESE))
    assert codes(ours) == codes(theirs)
    assert spans(ours) == spans(theirs)
    levels = [[len(h) for h in re.findall(r"^#+", text, re.M)] for text in (ours, theirs)]
    assert levels[0] == levels[1]


def test_the_readmes_say_the_same() -> None:
    ours, theirs = (text_of(document) for document in READMES)
    python = [code for code in codes(ours) if "import" in code]
    assert python and python == [code for code in codes(theirs) if "import" in code]
    commands = [
        re.findall(r"^(?:make|pip) [^#\n]*\b", "".join(codes(t)), re.M) for t in (ours, theirs)
    ]
    assert commands[0] == commands[1] != []
    links = [re.findall(r"\]\(([^)]+)\)", text) for text in (ours, theirs)]
    assert sorted(set(links[0])) == sorted(set(links[1]))


def promises(text: str) -> list[list[str]]:
    """The cells of each row, without those of the headings."""
    rows = re.findall(r"^\| (?!promise|---)(.*) \|$", text, re.M)
    return [row.split(" | ") for row in rows]


def is_there(proof: str) -> bool:
    file, _, name = proof.partition("::")
    return not name or re.search(rf"^def {name}\(", text_of(file), re.M) is not None


PROOF = re.compile(r"`((?:tests|scripts|bench)/[^`]+)`")


def test_the_proofs_of_promises_exist() -> None:
    """Each names a test that there is, and each row names one; so with what else is named."""
    rows = promises(text_of("docs/promises.md"))
    assert rows
    for row in rows:
        assert re.search(r"`tests/[^`]+`", row[2]), row
        for proof in PROOF.findall(" ".join(row)):
            assert (ROOT / proof.partition("::")[0]).is_file() and is_there(proof), proof


def test_each_promise_under_faults_has_a_control() -> None:
    """It names a test or a script, or one that the row names speaks of its control."""
    rows = promises(section("docs/promises.md", "## Under faults"))
    assert len(rows) > 10
    for row in rows:
        assert len(row) == 4 and row[3].strip(), row
        files = [proof.partition("::")[0] for proof in PROOF.findall(" ".join(row[1:]))]
        assert PROOF.search(row[3]) or any("control" in text_of(file) for file in files), row


def test_the_schema_is_the_chinese_manuals() -> None:
    tables = [re.sub(r"--.*\n", "", blocks(manual, "sql")[0].code) for manual in HEADINGS]
    assert tables[0] == tables[1]


def call_of(method: Any) -> str:
    """Its signature as a caller writes it: without self and without types."""
    signature = inspect.signature(method)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in list(signature.parameters.values())[1:]
    ]
    bare = signature.replace(parameters=parameters, return_annotation=signature.empty)
    return str(bare)


@OF_BOTH
def test_calls(manual: str) -> None:
    found = table(manual, HEADINGS[manual]["calls"])
    wanted = []
    for name, method in inspect.getmembers(DataManager, callable):
        if not name.startswith("_"):
            wanted.append(name + call_of(method))
    assert sorted(found) == sorted(wanted)


def types_in_stub(record: str) -> dict[str, str]:
    """The types that the stub gives the fields of a record, or its class where it is Python's."""
    if issubclass(kind := getattr(datamanager, record), tuple):
        return {n: inspect.formatannotation(t, "decimal") for n, t in get_type_hints(kind).items()}
    stub = ast.parse((ROOT / "datamanager" / "_core.pyi").read_text(encoding="utf-8"))
    (body,) = [n.body for n in stub.body if isinstance(n, ast.ClassDef) and n.name == record]
    return {
        node.name: ast.unparse(node.returns)
        for node in body
        if isinstance(node, ast.FunctionDef)
        and node.returns
        and [ast.unparse(d) for d in node.decorator_list] == ["property"]
    }


@OF_BOTH
@pytest.mark.parametrize("record", RECORDS)
def test_fields(manual: str, record: str) -> None:
    found = table(manual, f"#### {record}")
    assert tuple(found) == getattr(datamanager, record).__match_args__
    types = {name: kind.replace("_Strategy", "str") for name, kind in types_in_stub(record).items()}
    assert {name: cells[0].strip("`").replace("\\|", "|") for name, cells in found.items()} == types


def test_every_record_is_listed() -> None:
    public = {name: getattr(datamanager, name) for name in datamanager.__all__}
    kinds = {name for name, value in public.items() if hasattr(value, "__match_args__")}
    assert kinds - {"ImportResult", "BadLine"} == set(RECORDS)  # those two are in the text


@OF_BOTH
def test_options(manual: str) -> None:
    found = table(manual, HEADINGS[manual]["options"])
    wanted = inspect.signature(DataManager).parameters
    assert {name: cells[0].strip("`") for name, cells in found.items()} == {
        name: repr(parameter.default) for name, parameter in wanted.items()
    }


@OF_BOTH
def test_errors(manual: str) -> None:
    found = table(manual, HEADINGS[manual]["errors"])
    base = datamanager.DataManagerError
    assert {name: cells[0].strip("`") for name, cells in found.items()} == {
        name: error.__bases__[1].__name__
        for name, error in vars(datamanager).items()
        if isinstance(error, type) and issubclass(error, base) and error is not base
    }


@OF_BOTH
def test_differences_of_the_drop_in(manual: str) -> None:
    found = table(manual, HEADINGS[manual]["compat"])
    overridden = {name for name, value in vars(compat.DataManager).items() if callable(value)}
    assert set(found) == overridden


@OF_BOTH
def test_tables_beside(manual: str, dm: DataManager, path: str) -> None:
    dm.set_pricing("m", tiers=[[1, 0, 0, 1, 1, False, None]])
    with closing(sqlite3.connect(path)) as file:
        rows = file.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'datamanager_price%'")
        beside = {row[0] for row in rows}
    assert set(table(manual, HEADINGS[manual]["prices"])) == beside


@OF_BOTH
def test_lowest_versions(manual: str) -> None:
    """Those of pyproject.toml, with which `make consumers` tests."""
    project = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
    bounds = dict(line.split(">=") for line in [*project["test"], *project["dev"]] if ">=" in line)
    for name in ("pyarrow", "polars", "pandas", "DuckDB", "NumPy"):
        assert re.search(rf"{name} {re.escape(bounds[name.lower()])}\b", text_of(manual)), name


@OF_BOTH
def test_sqlite_info(manual: str) -> None:
    assert list(table(manual, HEADINGS[manual]["sqlite"])) == list(datamanager.sqlite_info())


def choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (commands,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(commands.choices)


@OF_BOTH
def test_stats(manual: str, dm: DataManager) -> None:
    assert list(table(manual, HEADINGS[manual]["stats"])) == list(dm.stats())


@OF_BOTH
def test_commands(manual: str) -> None:
    commands = choices(cli._parser())
    assert list(table(manual, HEADINGS[manual]["commands"])) == list(commands)
    options = commands["usage"]._option_string_actions
    assert set(table(manual, HEADINGS[manual]["windows"])) <= set(options)


@OF_BOTH
def test_exit_codes(manual: str) -> None:
    codes = [0, *range(errors.FAILED, errors.WARNED + 1), errors.STOPPED, errors.OUTPUT_GONE]
    assert list(table(manual, HEADINGS[manual]["codes"])) == [str(code) for code in codes]


def test_the_command_lines_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand, in bash, on a database that has the model they name."""
    fill(tmp_path / "shop.db", ["Qwen3-Coder-30B"])
    (lines,) = [
        block.code
        for block in blocks(ENGLISH, "sh")
        if block.code in section(ENGLISH, HEADINGS[ENGLISH]["command line"])
    ]
    monkeypatch.chdir(tmp_path)
    run_in_bash(lines, DATAMANAGER_DB="shop.db")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links(document: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text_of(document)):
        assert (ROOT / document).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets(document: str) -> None:
    makefile = text_of("Makefile")
    for target in re.findall(r"\bmake ([a-z][a-z-]+)", "\n".join(code_of(document))):
        assert re.search(rf"^{target}:", makefile, re.M), target


def code_of(document: str) -> list[str]:
    text = text_of(document)
    return codes(text) + re.findall(
        r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    )
