# SPDX-License-Identifier: MIT
"""The C extension; everything else about the package is in pyproject.toml.

Environment, for developers:
    DATAMANAGER_DEBUG=1         no optimisation, asserts on
    DATAMANAGER_SANITIZE=LIST   for example address,undefined or thread
    DATAMANAGER_COVERAGE=1      gcov counters
    DATAMANAGER_WERROR=1        all warnings on, and each an error
"""

import os
import subprocess
import sys
import tempfile
from glob import glob

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


def switched_on(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


def compile_flags() -> list[str]:
    flags = ["-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden", "-pthread"]
    if switched_on("DATAMANAGER_WERROR"):
        flags += [*WARNINGS, "-Werror"]
    if switched_on("DATAMANAGER_DEBUG"):
        flags += ["-O0", "-g", "-UNDEBUG"]
    return flags


def instrument_flags() -> list[str]:
    """What the compiler and the linker must agree on."""
    flags = []
    sanitizers = os.environ.get("DATAMANAGER_SANITIZE", "")
    if sanitizers:
        # A report that lets the program go on is one that a test suite does not see.
        flags += [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
        flags += ["-O1", "-g", "-fno-omit-frame-pointer", "-UNDEBUG"]
    if switched_on("DATAMANAGER_COVERAGE"):
        flags += ["--coverage", "-O0", "-g"]
    return flags


class CheckedBuildExt(build_ext):
    """Says in one sentence what is missing, instead of a page of compiler output."""

    def build_extensions(self) -> None:
        # Only compilers in the Unix manner have the attribute; others report for themselves.
        compiler = getattr(self.compiler, "compiler_so", None)
        if compiler:
            include = [f"-I{folder}" for folder in self.compiler.include_dirs]
            self.check_toolchain([*compiler, *include])
        super().build_extensions()

    def check_toolchain(self, compiler: list[str]) -> None:
        python_dev = f"python{sys.version_info.major}.{sys.version_info.minor}-dev"
        if not self.compiles(compiler, "int main(void) { return 0; }"):
            self.stop(
                f"a C compiler ({compiler[0]} does not work)", "apt install build-essential"
            )
        if not self.compiles(compiler, "#include <Python.h>\n"):
            self.stop("Python's headers (Python.h was not found)", f"apt install {python_dev}")
        if not self.compiles(compiler, "#include <sqlite3.h>\n"):
            self.stop("SQLite's headers (sqlite3.h was not found)", "apt install libsqlite3-dev")
        uses_sqlite = "#include <sqlite3.h>\nint f(void) { return sqlite3_libversion_number(); }\n"
        if not self.compiles([*compiler, "-shared"], uses_sqlite, ["-lsqlite3"]):
            self.stop("SQLite's library (-lsqlite3 was not found)", "apt install libsqlite3-dev")

    @staticmethod
    def compiles(compiler: list[str], text: str, libraries: list[str] | None = None) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "check.c")
            with open(source, "w", encoding="ascii") as file:
                file.write(text)
            stop_at = libraries if libraries is not None else ["-c"]
            command = [*compiler, source, "-o", os.path.join(folder, "check.out"), *stop_at]
            try:
                done = subprocess.run(command, capture_output=True, check=False)
            except OSError:
                return False
            return done.returncode == 0

    @staticmethod
    def stop(what: str, command: str) -> None:
        raise SystemExit(
            f"datamanager cannot be built without {what}: on Debian or Ubuntu, "
            f"install it with '{command}'."
        )


setup(
    cmdclass={"build_ext": CheckedBuildExt},
    ext_modules=[
        Extension(
            "datamanager._core",
            sources=sorted(glob("csrc/core/*.c") + glob("csrc/binding/*.c")),
            depends=sorted(glob("csrc/core/*.h") + glob("csrc/binding/*.h")),
            include_dirs=["csrc/core"],
            libraries=["sqlite3"],
            extra_compile_args=compile_flags() + instrument_flags(),
            extra_link_args=["-pthread", *instrument_flags()],
        )
    ],
)
