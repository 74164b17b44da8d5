"""The C extension; everything else is in pyproject.toml."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from glob import glob
from pathlib import Path

from setuptools import Extension, setup

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Wvla",
    "-Wpointer-arith",
]
COMPILING = {"bdist_wheel", "build", "build_ext", "develop", "editable_wheel", "install"}
HEADERS = {"stdio.h": "libc6-dev", "Python.h": "python3-dev", "sqlite3.h": "libsqlite3-dev"}


def flags() -> tuple[list[str], list[str]]:
    compile_args = ["-std=c11", "-D_GNU_SOURCE", "-O3", "-fvisibility=hidden", "-pthread"]
    link_args = ["-pthread"]
    if os.environ.get("DATAMANAGER_WERROR"):
        compile_args += [*WARNINGS, "-Werror"]
    if os.environ.get("DATAMANAGER_DEBUG"):
        compile_args += ["-O0", "-g", "-UNDEBUG"]
    sanitize = os.environ.get("DATAMANAGER_SANITIZE")
    if sanitize:
        compile_args += [f"-fsanitize={sanitize}", "-g", "-O1", "-fno-omit-frame-pointer"]
        link_args += [f"-fsanitize={sanitize}"]
    return compile_args, link_args


def finds(compiler: list[str], header: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(f"#include <{header}>\n")
        probe = [*compiler, f"-I{sysconfig.get_path('include')}", "-E", str(source)]
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def missing() -> str | None:
    """One sentence that says what to install, or None."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        return (
            f"datamanager needs a C compiler and there is no {compiler[0]}: "
            "install one with 'apt-get install gcc libc6-dev'."
        )
    for header, package in HEADERS.items():
        if not finds(compiler, header):
            return f"datamanager needs {header}: install it with 'apt-get install {package}'."
    return None


# Asked before setuptools says anything, so that the sentence is all that pip has to show.
if os.name == "posix" and COMPILING & set(sys.argv[1:]) and (problem := missing()):
    sys.exit(problem)

compile_args, link_args = flags()
setup(
    ext_modules=[
        Extension(
            "datamanager._core",
            sources=sorted(glob("csrc/core/*.c") + glob("csrc/binding/*.c")),
            depends=sorted(glob("csrc/*/*.h")),
            include_dirs=["csrc/core"],
            libraries=["sqlite3", "m"],
            extra_compile_args=compile_args,
            extra_link_args=link_args,
        )
    ],
)
