"""Installing: from the tree, in place, from an sdist; and what is said where something is missing.

All of it happens in copies of the tree and in venvs that the test makes. The network is used by
pip alone, for the build backend.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT
from documents import blocks, text_of
from test_older_layout import build_older

slow = pytest.mark.slow
GENERATED = (".git", ".venv*", "build", "dist", "*.egg-info", "*.so", "__pycache__", ".*_cache")
OF_TOOLS = (".hypothesis",)


def call(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "CFLAGS": "-O0", **environment},
    )


def succeed(*command: str | Path, **environment: str) -> str:
    done = call(*command, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copied(folder: Path) -> Path:
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*GENERATED, *OF_TOOLS))
    return folder


def new_venv(folder: Path) -> Path:
    """The folder of its programs."""
    succeed(sys.executable, "-m", "venv", folder)
    return folder / "bin"


@dataclass(frozen=True)
class Builder:
    """A copy of the tree, and a venv with what builds it."""

    tree: Path
    programs: Path

    def wheel(self, into: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        pip: list[str | Path] = [
            self.programs / "python",
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
        ]
        return call(*pip, "-w", into, self.tree, **environment)


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    folder = tmp_path_factory.mktemp("builder")
    programs = new_venv(folder / "venv")
    succeed(programs / "pip", "install", "-q", "setuptools>=77", "wheel", "build")
    return Builder(copied(folder / "tree"), programs)


@pytest.fixture(scope="module")
def sdist(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    command: list[str | Path] = [
        builder.programs / "python",
        "-m",
        "build",
        "--sdist",
        "--no-isolation",
    ]
    succeed(*command, "--outdir", folder, builder.tree)
    (file,) = folder.iterdir()
    return file


@slow
@pytest.mark.parametrize("source", ["tree", "editable", "sdist"])
def test_pip_install(tmp_path: Path, source: str, request: pytest.FixtureRequest) -> None:
    """In a clean venv, with pip's own isolated build; then it works, from any folder."""
    programs = new_venv(tmp_path / "venv")
    what: list[str | Path] = [request.getfixturevalue("sdist")]
    if source != "sdist":
        what = [*(["-e"] if source == "editable" else []), copied(tmp_path / "tree")]
    succeed(programs / "python", "-m", "pip", "install", "-q", *what)
    listed = succeed(programs / "python", "-m", "pip", "list", "--format=freeze")
    installed = {re.split("==| @ ", line)[0] for line in listed.splitlines()}
    assert installed - {"pip", "setuptools"} == {"datamanager"}
    os.mkdir(tmp_path / "elsewhere")
    code = (
        "import os, sys; os.chdir(sys.argv[1]); import datamanager\n"
        "with datamanager.DataManager() as dm:\n"
        "    dm.add_model_request('m', [1, 2, 3, 4, 5]); print(len(dm.get_model_requests('m')))\n"
        "print(datamanager.__file__)\n"
    )
    python = programs / "python"
    rows, file = succeed(python, "-I", "-c", code, tmp_path / "elsewhere").splitlines()
    assert rows == "1"
    assert Path(file).is_relative_to(tmp_path / ("tree" if source == "editable" else "venv"))
    assert succeed(programs / "datamanager", "--version").startswith("datamanager ")
    assert "version" in succeed(programs / "datamanager", "sqlite-info")


@slow
def test_as_a_new_user(tmp_path: Path) -> None:
    """A fresh venv, the README, an older host's file: from pip to a report within two minutes."""
    install, *_ = re.findall(r"^pip (install .*?) *#", text_of("README.md"), re.M)
    (commands,) = blocks("README.md", "bash")
    (tmp_path / "host" / "webui").mkdir(parents=True)
    file = tmp_path / "host" / "webui" / "monitoring.db"
    build_older(str(file), names=["Qwen3-Coder-30B"])
    tree = copied(tmp_path / "tree")
    script = (
        f"unset DATAMANAGER_DB; cd {shlex.quote(str(tree))}\n"
        f"{shlex.quote(sys.executable)} -m venv ../venv\n"
        f". ../venv/bin/activate; pip -q {install}\ncd ../host\n{commands.code}"
    )
    began = time.monotonic()
    done = call("bash", "-ec", script, PYTHONPATH="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 120
    page = (file.parents[1] / "report.html").read_text(encoding="utf-8")
    cost = 50 * (2 * 0.4 + 3 * 8.0) / 10**6  # 50 requests of 2 in, all from the cache, and 3 out
    assert f"<dd>{cost:,.6f}</dd>" in page


@slow
def test_wheel_holds_the_package_alone(builder: Builder, tmp_path: Path) -> None:
    done = builder.wheel(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = {name.split("/", 1)[1] for name in names if name.startswith("datamanager/")}
    extension = "_core" + str(sysconfig.get_config_var("EXT_SUFFIX"))
    sources = {
        str(file.relative_to(ROOT / "datamanager"))
        for file in (ROOT / "datamanager").rglob("*")
        if file.is_file() and file.suffix not in (".so", ".pyc")
    }
    assert {"py.typed", "_core.pyi"} <= sources
    assert package == {*sources, extension}
    assert all(name.startswith(("datamanager/", "datamanager-")) for name in names)


def files_of_the_tree() -> set[str]:
    if (ROOT / ".git").exists():
        listed = succeed("git", "-C", ROOT, "ls-files", "-z").split("\0")
        return {name for name in listed if (ROOT / name).is_file()}
    # An unpacked sdist: what its own list says.
    text = (ROOT / "datamanager.egg-info" / "SOURCES.txt").read_text(encoding="utf-8")
    return {name for name in text.splitlines() if not name.startswith("datamanager.egg-info/")}


@slow
def test_sdist_holds_the_tree(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {m.name.split("/", 1)[1] for m in archive.getmembers() if m.isfile()}
    assert files_of_the_tree() - names == set()
    assert {"PKG-INFO", "tests/c/check.h", "csrc/core/dm.h", ".ci/run", "docs/manual.md"} <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc", ".db"))]


def only_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What pip quotes of the build: it must be one line."""
    assert done.returncode != 0
    text = done.stdout + done.stderr
    (quoted,) = re.findall(r"lines of output\]\n(.*?)\n *\[end of output\]", text, re.S)
    (sentence,) = quoted.splitlines()
    return str(sentence).strip()


def compiler_without(header: str, folder: Path) -> Path:
    """The real compiler, in a world where one header is not installed.

    It searches none of its own folders of headers but their copies, made of links, from which the
    one is missing. What the build itself names with -I is searched unless the header is there.
    """
    real = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC"))
    probe = subprocess.run(
        [*real, "-E", "-v", "-x", "c", os.devnull], capture_output=True, text=True, check=True
    )
    searched = probe.stderr.partition("<...> search starts here:\n")[2].partition("End of")[0]
    options = ["-nostdinc"]
    for number, name in enumerate(searched.split()):
        copy = folder / str(number)
        copy.mkdir()
        for entry in Path(name).iterdir():
            if entry.name != header:
                (copy / entry.name).symlink_to(entry)
        options += ["-isystem", str(copy)]
    wrapper = folder / "cc"
    wrapper.write_text(
        "#!/bin/sh\n"
        "for option; do\n"
        "    shift\n"
        f'    case $option in -I*) [ -f "${{option#-I}}/{header}" ] && continue ;; esac\n'
        '    set -- "$@" "$option"\n'
        "done\n"
        f'exec {shlex.join([*real, *options])} "$@"\n'
    )
    wrapper.chmod(0o755)
    return wrapper


@slow
@pytest.mark.parametrize(
    ("header", "package"),
    [("sqlite3.h", "libsqlite3-dev"), ("Python.h", "python3-dev"), ("stdio.h", "libc6-dev")],
)
def test_missing_header(builder: Builder, tmp_path: Path, header: str, package: str) -> None:
    compiler = compiler_without(header, tmp_path)
    for other in {"sqlite3.h", "stdio.h", "Python.h"} - {header}:
        source = tmp_path / "other.c"
        source.write_text(f"#include <{other}>\n")
        include = f"-I{sysconfig.get_path('include')}"
        if header != "stdio.h":  # which the others include
            succeed(compiler, include, "-fsyntax-only", source)
    done = builder.wheel(tmp_path / "wheels", CC=str(compiler))
    assert only_sentence(done) == (
        f"datamanager needs {header}: install it with 'apt-get install {package}'."
    )


@slow
def test_missing_compiler(builder: Builder, tmp_path: Path) -> None:
    named = sysconfig.get_config_var("CC").split()[0]
    nowhere = str(tmp_path / "cc")
    for compiler, environment in [
        (nowhere, {"CC": nowhere}),
        (named, {"PATH": str(tmp_path), "CC": ""}),
    ]:
        done = builder.wheel(tmp_path / "wheels", **environment)
        assert only_sentence(done) == (
            f"datamanager needs a C compiler and there is no {compiler}: "
            "install one with 'apt-get install gcc libc6-dev'."
        )


@slow
def test_a_broken_source_is_not_called_missing(tmp_path: Path, builder: Builder) -> None:
    tree = copied(tmp_path / "tree")
    (tree / "csrc" / "core" / "error.c").write_text("#error of ours\n")
    done = Builder(tree, builder.programs).wheel(tmp_path / "wheels")
    text = done.stdout + done.stderr
    assert done.returncode != 0 and "of ours" in text and "datamanager needs" not in text


@slow
def test_an_sdist_needs_no_compiler(builder: Builder, tmp_path: Path) -> None:
    command: list[str | Path] = [
        builder.programs / "python",
        "-m",
        "build",
        "--sdist",
        "--no-isolation",
    ]
    succeed(*command, "--outdir", tmp_path, builder.tree, CC=str(tmp_path / "cc"))


@pytest.mark.parametrize("file", ["Makefile", "setup.py", ".ci/run", "scripts"])
def test_the_network_is_used_for_packages_alone(file: str) -> None:
    found = ROOT / file
    for source in sorted(found.iterdir()) if found.is_dir() else [found]:
        text = source.read_text(encoding="utf-8")
        assert not re.search(r"https?://|git\+|\b(curl|wget|git (clone|fetch))\b", text), source
