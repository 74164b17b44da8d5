"""What the documents hold: their blocks of code, run as a reader would, and their tables."""

from __future__ import annotations

import ast
import re
import subprocess
from dataclasses import dataclass
from typing import Any

from commands import COMMAND, environment
from conftest import ROOT

# A code span with the cell's first; further cells are text.
_ROW = re.compile(r"^\| `([^`]+)` \|(.*)\|$", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block; its name in pytest's list is the line where it begins."""

    document: str
    line: int
    code: str
    language: str = "python"

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, *languages: str) -> list[Block]:
    text = text_of(document)
    fence = re.compile(rf"^```({'|'.join(languages)})\n(.*?)^```$", re.S | re.M)
    return [
        Block(document, text.count("\n", 0, found.start(2)) + 1, found[2], found[1])
        for found in fence.finditer(text)
    ]


def section(document: str, heading: str) -> str:
    """The text under a heading, up to the next of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    _, _, rest = f"\n{text_of(document)}".partition(f"\n{heading}\n")
    assert rest, f"{document} has no heading {heading}"
    return re.split(rf"^#{{1,{level}}} ", rest, maxsplit=1, flags=re.M)[0]


def table(document: str, heading: str) -> dict[str, list[str]]:
    """The rows of the table under a heading, by the code in their first cell."""
    rows = _ROW.findall(section(document, heading))
    assert rows, f"{document} has no table under {heading}"
    assert len({first for first, _ in rows}) == len(rows), f"{heading}: a row is there twice"
    return {first: [cell.strip() for cell in rest.split(" | ")] for first, rest in rows}


def run_in_bash(code: str, **variables: str) -> None:
    """The commands in the current folder; ``datamanager`` is the one that is tested."""
    script = f'set -e\ndatamanager() {{ {" ".join(COMMAND)} "$@"; }}\n{code}'
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False,
        env=environment(**variables),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def run(block: Block, names: dict[str, Any]) -> None:
    """Execute the block as it stands."""
    if block.language == "bash":
        run_in_bash(block.code)
        return
    # Lines of a traceback are then those of the document.
    code = "\n" * (block.line - 1) + block.code
    exec(compile(code, str(ROOT / block.document), "exec"), names)


def promised(block: Block) -> list[str]:
    """What the comments behind its prints say that it prints."""
    if block.language != "python":
        return []
    return re.findall(r"^ *print\(.*\)  # (.*)$", block.code, re.M)


def _closes(statement: ast.stmt) -> bool:
    defines = (ast.FunctionDef, ast.ClassDef)
    return not isinstance(statement, defines) and any(
        isinstance(node, ast.Attribute) and node.attr == "close" for node in ast.walk(statement)
    )


def left_open(block: Block) -> Block:
    """The block without its end, from where it closes what it opened: for who reads on."""
    for statement in ast.parse(block.code).body:
        if _closes(statement):
            lines = block.code.splitlines(keepends=True)[: statement.lineno - 1]
            return Block(block.document, block.line, "".join(lines))
    return block
