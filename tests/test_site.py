"""The site builds without a warning, says what the code says, and refuses dead links."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT
from test_docs import choices

import datamanager
from datamanager import DataManager, cli

WHY = "needs the libraries of the docs extra"
needs_sphinx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("sphinx", "myst_parser", "furo")), reason=WHY
)
HEADER = (ROOT / "csrc" / "core" / "dm.h").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "docs"
    subprocess.run([sys.executable, ROOT / "scripts" / "pages.py", folder], check=True)
    return folder


def built(sources: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` does."""
    (options,) = re.findall(r"-m sphinx (.*) -d", (ROOT / "Makefile").read_text(encoding="utf-8"))
    folders = ["-d", sources.with_name("cache"), sources, sources.with_name("site")]
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *options.split(), *folders],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONWARNINGS": ""},
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(sources: Path) -> Path:
    done = built(sources)
    assert (done.returncode, done.stderr) == (0, "")
    return sources.with_name("site")


# ---- what is made from code ----


def test_the_reference_is_whole(sources: Path) -> None:
    text = (sources / "reference" / "python.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^#+ `(.*)`$", text, re.M))
    methods = {name for name in dir(DataManager) if not name.startswith("_")}
    assert methods <= headings
    public = {name for name in datamanager.__all__ if name != "DataManager"}
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    assert {n for n in public if f"datamanager.{n}" not in headings} <= headings | rows
    assert "`model` | `str \\| None`" in text
    assert "`cost_exact` | `Decimal`" in text and "ForwardRef" not in text


def test_every_call_says_what_it_does(sources: Path) -> None:
    """Below each heading there is a signature with types, and text."""
    text = (sources / "reference" / "python.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^#+ `.*`\n\n```python$", text, re.M)) > 45
    for part in re.split(r"^#+ `", text, flags=re.M)[1:]:
        name, _, rest = part.partition("`\n\n")
        signature = re.match(r"```python\n(.*?)\n```\n\n(.*)", rest, re.S)
        if signature is not None:
            assert signature[1].startswith(f"{name}(") and signature[2].strip(), name


def test_every_command_is_there(sources: Path) -> None:
    text = (sources / "reference" / "commands.md").read_text(encoding="utf-8")
    headings = [heading.split()[0] for heading in re.findall(r"^## (.*)$", text, re.M)]
    assert list(dict.fromkeys(headings)) == list(choices(cli._parser()))


def test_the_header_is_whole(sources: Path) -> None:
    """Each line of code, in its order."""
    text = (sources / "reference" / "core.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```c\n(.*?)\n```$", text, re.M | re.S))
    code = re.sub(r"\s+", "", re.sub(r"^/\* (----|SPDX).*?\*/$", "", HEADER, flags=re.M | re.S))
    assert re.sub(r"\s+", "", blocks) == code


# ---- the site ----


@needs_sphinx
def test_it_builds(site: Path) -> None:
    pages = {str(page.relative_to(site)) for page in site.rglob("*.html")}
    wanted = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    made = {f"reference/{name}.md" for name in ("python", "commands", "core")}
    assert {name.replace(".md", ".html") for name in wanted | made} <= pages
    manual = html.unescape((site / "manual.zh.html").read_text(encoding="utf-8"))
    assert "全部调用" in manual and next(site.rglob("cli.schema.json"))


@needs_sphinx
def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loads = re.compile(
        r"""<(?:script|img|iframe)[^>]*src="(?:https?:)?//|<link[^>]*href="https?:"""
    )
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = page.read_text(encoding="utf-8")
        assert not loads.search(text) and "url(http" not in text, page


@needs_sphinx
@pytest.mark.parametrize(
    "text",
    ["[x](nowhere.md)", "[x](manual.md#nowhere)", "![x](nowhere.png)", "[x](nowhere.json)",
     "[x](#nowhere)"],
)  # fmt: skip
def test_dead_links_are_refused(sources: Path, tmp_path: Path, text: str) -> None:
    copy = tmp_path / "docs"
    copy.mkdir()
    shutil.copytree(sources / "static", copy / "static")
    shutil.copy(sources / "conf.py", copy)
    (copy / "manual.md").write_text("# x\n\n## fork\n")
    index = "# x\n\n{}\n\n```{{toctree}}\nmanual\n```\n"
    (copy / "index.md").write_text(index.format("[x](manual.md#fork)"))
    done = built(copy)
    assert done.returncode == 0, done.stderr
    (copy / "index.md").write_text(index.format(text))
    assert built(copy).returncode != 0
