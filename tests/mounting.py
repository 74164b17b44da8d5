"""A file system of a test's own, where the machine lets us mount one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(at: Path, *how: str) -> Iterator[None]:
    """``mount *how at``"""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    at.mkdir(exist_ok=True)
    if subprocess.run(["mount", *how, at], check=False).returncode != 0:
        pytest.skip("this machine does not let us mount")
    try:
        yield
    finally:
        subprocess.run(["umount", at], check=True)


def small_disk(at: Path, size: str) -> AbstractContextManager[None]:
    return mounted(at, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")
