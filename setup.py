"""The C extension; everything else is in pyproject.toml."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Wvla",
    "-Wpointer-arith",
]


def flags() -> tuple[list[str], list[str]]:
    compile_args = ["-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden", "-pthread"]
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


def missing(compiler: list[str]) -> str | None:
    """One sentence that says what to install, or None."""
    if not compiler or shutil.which(compiler[0]) is None:
        return "datamanager needs a C compiler: install it with 'apt-get install gcc'."
    include = sysconfig.get_path("include")
    for header, package in (("Python.h", "python3-dev"), ("sqlite3.h", "libsqlite3-dev")):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(f"#include <{header}>\n")
            probe = [*compiler, f"-I{include}", "-E", str(source)]
            if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
                return f"datamanager needs {header}: install it with 'apt-get install {package}'."
    return None


class Build(build_ext):
    def build_extensions(self) -> None:
        problem = missing(list(getattr(self.compiler, "compiler_so", []))[:1])
        if problem:
            sys.exit(problem)
        super().build_extensions()


compile_args, link_args = flags()
setup(
    cmdclass={"build_ext": Build},
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
