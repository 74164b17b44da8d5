"""Python modules of C that only tests need, built as they are wanted."""

from __future__ import annotations

import shlex
import subprocess
import sysconfig
from pathlib import Path

from conftest import ROOT


def build(folder: Path, *sources: str) -> Path:
    """Compile `sources`, of which the last names the module, into `folder`: the module's file."""
    name = Path(sources[-1]).stem
    target = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = [sysconfig.get_path("include"), "csrc/binding", "csrc/core"]
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    options = [
        "-std=c11",
        "-O1",
        "-Wall",
        "-Werror",
        "-shared",
        "-fPIC",
        *(f"-I{include}" for include in includes),
    ]
    done = subprocess.run(
        [*compiler, *options, *sources, "-o", str(target)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target
