"""The sources of the site: pages.py FOLDER copies docs/ there and adds what is made from code.

What callers may rely on is said once, where it is written: in docstrings and stubs, in the parser
of the command line and in the core's header. These pages are made from them.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import datamanager
from datamanager import cli
from datamanager.performance import PerformanceTable
from datamanager.prune import PrunedTable
from datamanager.status import StatusTable
from datamanager.tables import Table
from datamanager.usage import UsageTable

ROOT = Path(__file__).resolve().parent.parent
SEQUENCES = (
    datamanager.ModelRequests,
    datamanager.Column,
    datamanager.Batch,
    Table,
    UsageTable,
    PerformanceTable,
    PrunedTable,
    StatusTable,
    datamanager.Invoice,
)
CODE = "```"


# ---- Python ----


def _stub() -> dict[str, ast.AST]:
    """What the stub of the C module says, by the dotted name of what it says it of."""
    tree = ast.parse((ROOT / "datamanager" / "_core.pyi").read_text(encoding="utf-8"))
    found: dict[str, ast.AST] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef):
                    found[f"{node.name}.{part.name}"] = part
    return found


STUB = _stub()


_NAMES = {
    "_Number": "float",
    "_Moment": "float | datetime",
    "Moment": "float | datetime",
    "_Strategy": "Strategy",
    "_Tier": "TierPricing | Sequence",
    "_Rows": "Iterable | Mapping",
}
_LINE = 88


def _plain(types: str) -> str:
    """Types as a reader of the stub would call them."""
    return re.sub(r"\b\w+\b", lambda word: _NAMES.get(word[0], word[0]), types)


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + ("" if default is None else f" = {ast.unparse(default)}")


def _arguments(given: ast.arguments) -> list[str]:
    """Each as it is written, without self."""
    placed = [*given.posonlyargs, *given.args]
    first = len(placed) - len(given.defaults)
    parts = [
        _argument(argument, given.defaults[at - first] if at >= first else None)
        for at, argument in enumerate(placed)
        if argument.arg != "self"
    ]
    named = [_argument(*pair) for pair in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return [*parts, *(["*", *named] if named else [])]


def _signature(name: str, value: Any, stub: str) -> str:
    """With types: from the stub where the code is C, from the code where it is Python."""
    node = STUB.get(stub)
    if inspect.isfunction(value):
        node = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    assert isinstance(node, ast.FunctionDef), name
    parts = [_plain(part) for part in _arguments(node.args)]
    back = "" if node.returns is None else f" -> {_plain(ast.unparse(node.returns))}"
    back = "" if node.name == "__init__" else back
    line = f"{name}({', '.join(parts)}){back}"
    if len(line) <= _LINE:
        return line
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){back}"])


def _doc(value: Any) -> str:
    """The docstring, without the signature that those of C begin with."""
    text = inspect.getdoc(value) or ""
    return re.sub(r"^\w+\(.*?\)\n--\n\n", "", text, flags=re.S).replace("``", "`")


def _call(name: str, value: Any, stub: str, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{name}`\n"
    yield f"{CODE}python\n{_signature(name, value, stub)}\n{CODE}\n"
    yield _doc(value) + "\n"


def _members(kind: type, *, of_bases: bool = False) -> list[str]:
    names = dir(kind) if of_bases else list(vars(kind))
    return sorted(name for name in names if not name.startswith("_"))


def _record(name: str, kind: Any) -> Iterator[str]:
    yield f"### `{name}`\n"
    yield (_doc(kind) or "A record of these fields.") + "\n"
    yield "| field | type |\n| --- | --- |"
    for field in kind.__match_args__:
        node = STUB.get(f"{name}.{field}")
        types = (
            ast.unparse(node.returns) if isinstance(node, ast.FunctionDef) and node.returns else ""
        )
        types = types or inspect.formatannotation(get_type_hints(kind)[field], "decimal")
        yield f"| `{field}` | `{_plain(types)}` |".replace(" | None`", r" \| None`")
    yield ""


def _sequence(name: str, kind: type) -> Iterator[str]:
    yield f"### `{name}`\n"
    yield _doc(kind) + "\n"
    for member in _members(kind):
        value = inspect.getattr_static(kind, member)
        if callable(value) and not isinstance(value, property):
            yield from _call(f"{name}.{member}", getattr(kind, member), f"{name}.{member}", 4)
        else:
            yield f"- `{member}`: {_doc(value)}\n"


def _errors() -> Iterator[str]:
    yield "| error | is also | when |\n| --- | --- | --- |"
    for name, kind in vars(datamanager).items():
        if isinstance(kind, type) and issubclass(kind, datamanager.DataManagerError):
            also = [base.__name__ for base in kind.__bases__ if base.__module__ == "builtins"]
            yield f"| `{name}` | `{'`, `'.join(also)}` | {_doc(kind).rstrip('.')} |"
    yield ""


def python_page() -> str:
    """Everything that ``import datamanager`` gives."""
    public = {name: getattr(datamanager, name) for name in datamanager.__all__}
    records = {name: v for name, v in public.items() if hasattr(v, "__match_args__")}
    parts = ["# Python\n", "Made from the docstrings and the stubs of `datamanager`.\n"]
    parts += ["## DataManager\n", f"{CODE}python"]
    parts += [_signature("DataManager", datamanager.DataManager.__init__, ""), f"{CODE}\n"]
    parts.append(_doc(datamanager.DataManager) + "\n")
    for name in _members(datamanager.DataManager, of_bases=True):
        value = getattr(datamanager.DataManager, name)
        if callable(value):
            parts += _call(name, value, f"Manager.{name}", 3)
        else:
            parts.append(f"### `{name}`\n\n{_doc(value)}\n")
    parts.append("## Functions\n")
    for name in ("cost", "restore", "sqlite_info", "usage_from_response"):
        value = getattr(datamanager, name)
        parts += _call(f"datamanager.{name}", value, name, 3)
    parts.append("## Records\n")
    for name, kind in records.items():
        parts += _record(name, kind)
    parts.append("## Sequences and tables\n")
    for kind in SEQUENCES:
        parts += _sequence(kind.__name__, kind)
    parts.append("## Errors\n")
    parts += _errors()
    return "\n".join(parts)


# ---- the command line ----


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for command in group.choices.values():
            yield from _commands(command)


def commands_page() -> str:
    """What ``--help`` says of each command."""
    os.environ["COLUMNS"] = "90"
    parts = [
        "# Command line\n",
        "What `--help` says of each. Windows of time, output and exit codes are told in the"
        " [manual](../manual.md#the-command-line); `--json` is described by"
        " [cli.schema.json](../cli.schema.json).\n",
    ]
    for parser in _commands(cli._parser()):
        parts += [f"## {parser.prog.partition(' ')[2]}\n", f"{CODE}text"]
        parts += [parser.format_help().rstrip(), f"{CODE}\n"]
    return "\n".join(parts)


# ---- the core ----

_HEADING = re.compile(r"^/\* ---- (.*?) ----(.*?)\*/$", re.S | re.M)


def _prose(comment: str) -> str:
    """A comment as text; what is set in further is code."""
    lines = [re.sub(r"^ \* ?", "", line) for line in comment.split("\n")]
    return textwrap.dedent("\n".join(lines)).strip()


def core_page() -> str:
    """The header, whose first comment and headings are prose."""
    text = (ROOT / "csrc" / "core" / "dm.h").read_text(encoding="utf-8")
    begin, _, rest = text.removeprefix("/* ").partition("*/\n")
    _, _, intro = begin.partition("\n *\n")
    parts = ["# The C core\n", "`csrc/core/dm.h`, whole.\n", _prose(intro) + "\n"]
    title, about = "Status and errors", ""
    pieces = _HEADING.split(rest)
    for at in range(0, len(pieces), 3):
        parts += [f"## {title[0].upper()}{title[1:]}\n", *([about + "\n"] if about else [])]
        parts += [f"{CODE}c", pieces[at].strip("\n"), f"{CODE}\n"]
        if at + 2 < len(pieces):
            title, about = pieces[at + 1].strip(), _prose(pieces[at + 2].lstrip("\n"))
    return "\n".join(parts)


# ---- the site ----


def _of_the_tree(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


PAGES = {
    "reference/python.md": python_page,
    "reference/commands.md": commands_page,
    "reference/core.md": core_page,
    "changes.md": lambda: _of_the_tree("CHANGELOG.md"),
    "contributing.md": lambda: _of_the_tree("CONTRIBUTING.md"),
}
# What stands beside every page, by heading.
CONTENTS = {
    "Begin": ["quickstart"],
    "Manual": ["English <manual>", "中文 <manual.zh>"],
    "How to": [
        "Adopt it in an existing host <howto/adopt>",
        "Use it from several processes <howto/processes>",
        "Use it in notebooks <howto/notebooks>",
        "Back it up <howto/backup>",
        "Price models <howto/pricing>",
    ],
    "Background": ["How costs come about <billing>", "费用如何产生 <billing.zh>"],
    "Reference": ["reference/python", "reference/commands", "reference/core"],
    "About": ["promises", "benchmarks", "decisions", "changes", "contributing"],
}
CONFIGURATION = """\
project = "datamanager"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "datamanager"
html_show_copyright = html_show_sphinx = False
html_copy_source = False
myst_heading_anchors = 4
html_static_path = ["static"]
html_css_files = ["site.css"]
suppress_warnings = ["misc.highlighting_failure"]  # {safe_name} in SQL
"""


def _contents() -> str:
    """For Sphinx, which refuses a page that is in no list."""
    lists = (
        "\n".join([f"{CODE}{{toctree}}", ":hidden:", f":caption: {caption}", "", *pages, CODE])
        for caption, pages in CONTENTS.items()
    )
    return "\n\n" + "\n\n".join(lists) + "\n"


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    for name, page in PAGES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(page(), encoding="utf-8")
    with (folder / "index.md").open("a", encoding="utf-8") as index:
        index.write(_contents())
    (folder / "static").mkdir()
    (folder / "static" / "site.css").write_text("td code { overflow-wrap: anywhere; }\n")
    (folder / "conf.py").write_text(CONFIGURATION, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
