"""The C extension; everything else is in pyproject.toml."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from itertools import chain
from pathlib import Path
from typing import Any

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


class BuildOnAllProcessors(build_ext):
    """Compiles as many sources at once as there are processors."""

    def build_extension(self, ext: Extension) -> None:
        compile_in_turn = self.compiler.compile

        def compile_at_once(sources: list[str], **options: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(lambda source: compile_in_turn([source], **options), sources)
                return list(chain.from_iterable(objects))

        self.compiler.compile = compile_at_once
        super().build_extension(ext)


compile_args, link_args = flags()
setup(
    cmdclass={"build_ext": BuildOnAllProcessors},
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
