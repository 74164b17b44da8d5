"""Putting the drop-in into a host's tree, and taking it out again."""

from __future__ import annotations

import ast
import os
import shutil
from pathlib import Path

_DROP_IN = (
    b"# The host's own class is kept beside this file; `datamanager adopt --undo` puts it back.\n"
    b"from datamanager.compat import *  # noqa: F403\n"
)
_SUFFIX = ".before-datamanager"


def _target(path: str | os.PathLike[str]) -> Path:
    given = Path(path)
    for candidate in (given, given / "core" / "data_manager.py", given / "data_manager.py"):
        if candidate.is_file():
            return candidate.resolve()
    raise FileNotFoundError(f"{given}: there is no core/data_manager.py")


def _is_drop_in(source: bytes) -> bool:
    return source.replace(b"\r\n", b"\n") == _DROP_IN  # as a checkout on Windows may have it


def _write_drop_in(target: Path) -> None:
    temporary = target.with_name(target.name + ".new")
    temporary.write_bytes(_DROP_IN)
    shutil.copymode(target, temporary)
    os.replace(temporary, target)


def _classes(target: Path, source: bytes) -> set[str]:
    try:
        # Not as text: it may have a byte order mark, or name its encoding.
        body = ast.parse(source).body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{target} is no Python that runs here: {error}: left as it is") from error
    return {node.name for node in body if isinstance(node, ast.ClassDef)}


def adopt(path: str | os.PathLike[str]) -> str:
    """Replace the host's ``core/data_manager.py``; returns what was done, as a sentence.

    Raises FileNotFoundError, and ValueError where the file does not define the host's class.
    """
    target = _target(path)
    kept = target.with_name(target.name + _SUFFIX)
    source = target.read_bytes()
    if _is_drop_in(source):
        return f"{target} is the drop-in already"
    if not _classes(target, source) & {"Monitor", "DataManager"}:
        raise ValueError(f"{target} defines neither Monitor nor DataManager: left as it is")
    if not kept.exists():
        os.link(target, kept)
    elif not kept.samefile(target):  # it is the same where an adoption was stopped just here
        raise ValueError(f"{kept} exists already: left as it is")
    _write_drop_in(target)
    return f"{target} is the drop-in now; the old file is {kept.name}"


def undo(path: str | os.PathLike[str]) -> str:
    """Put the host's own file back. Raises ValueError where the drop-in was changed since."""
    target = _target(path)
    kept = target.with_name(target.name + _SUFFIX)
    if not kept.exists():
        raise FileNotFoundError(f"{kept} does not exist: nothing to undo")
    if not _is_drop_in(target.read_bytes()):
        raise ValueError(f"{target} was changed since: left as it is")
    os.replace(kept, target)
    return f"{target} is the host's own again"
