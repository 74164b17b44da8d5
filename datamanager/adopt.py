"""Putting the drop-in into a host's tree, and taking it out again."""

from __future__ import annotations

import ast
import os
from pathlib import Path

_DROP_IN = (
    "# The host's own class is kept beside this file; `datamanager adopt --undo` puts it back.\n"
    "from datamanager.compat import *  # noqa: F403\n"
)
_SUFFIX = ".before-datamanager"


def _target(path: str | os.PathLike[str]) -> Path:
    given = Path(path)
    for candidate in (given, given / "core" / "data_manager.py", given / "data_manager.py"):
        if candidate.is_file():
            return candidate.resolve()
    raise FileNotFoundError(f"{given}: there is no core/data_manager.py")


def _write(target: Path, text: str) -> None:
    temporary = target.with_name(target.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, target)


def adopt(path: str | os.PathLike[str]) -> str:
    """Replace the host's ``core/data_manager.py``; returns what was done, as a sentence.

    Raises FileNotFoundError, and ValueError where the file does not define the host's class.
    """
    target = _target(path)
    kept = target.with_name(target.name + _SUFFIX)
    text = target.read_text(encoding="utf-8")
    if text == _DROP_IN:
        return f"{target} is the drop-in already"
    classes = {node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    if not classes & {"Monitor", "DataManager"}:
        raise ValueError(f"{target} defines neither Monitor nor DataManager: left as it is")
    if kept.exists():
        raise ValueError(f"{kept} exists already: left as it is")
    os.link(target, kept)
    _write(target, _DROP_IN)
    return f"{target} is the drop-in now; the old file is {kept.name}"


def undo(path: str | os.PathLike[str]) -> str:
    """Put the host's own file back. Raises ValueError where the drop-in was changed since."""
    target = _target(path)
    kept = target.with_name(target.name + _SUFFIX)
    if not kept.exists():
        raise FileNotFoundError(f"{kept} does not exist: nothing to undo")
    if target.read_text(encoding="utf-8") != _DROP_IN:
        raise ValueError(f"{target} was changed since: left as it is")
    os.replace(kept, target)
    return f"{target} is the host's own again"
