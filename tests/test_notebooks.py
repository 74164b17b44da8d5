"""The notebooks run from first to last, show what they speak of, and are kept empty."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import datamanager

WHY = "needs the libraries of the dev extra"
nbclient = pytest.importorskip("nbclient", reason=WHY)
nbformat = pytest.importorskip("nbformat", reason=WHY)
for name in ("ipykernel", "duckdb", "numpy", "pandas", "plotly", "polars", "pyarrow"):
    pytest.importorskip(name, reason=WHY)

EXAMPLES = sorted((ROOT / "examples").glob("*.ipynb"))
PLOT, TABLE, TEXT = "application/vnd.plotly.v1+json", "text/html", "text/plain"
every_notebook = pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def executed(file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """As Jupyter would, in an empty folder, with the package that is tested."""
    monkeypatch.setenv("PYTHONPATH", str(Path(datamanager.__file__).parents[1]))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(folder / "config"))
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    notebook = nbformat.read(file, as_version=4)
    work = folder / "work"
    work.mkdir()
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(work)}}
    ).execute()
    return notebook


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda file: file.stem)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("notebook")
        return request.param.stem, executed(request.param, folder, monkeypatch), folder / "work"


def test_three_of_them() -> None:
    assert [file.stem for file in EXAMPLES] == ["billing_strategies", "cost_analysis", "first_look"]


@every_notebook
def test_kept_without_outputs(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert outputs(notebook) == [] and {cell.execution_count for cell in cells} == {None}
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert os.linesep == "\n" and max(map(len, file.read_text().splitlines())) < 140


WANTED = {
    "first_look": {PLOT: 2, TABLE: 7, "True": 1},
    "cost_analysis": {PLOT: 3, TABLE: 1, "True": 2, "'the dearest tenth pays 29%'": 1},
    "billing_strategies": {PLOT: 2},
}


@pytest.mark.slow
def test_what_they_show(run: Any) -> None:
    """Plots as plots, tables as tables; where a cell says that sums agree, they do."""
    name, notebook, _ = run
    found: Counter[str] = Counter()
    for output in outputs(notebook):
        assert output.output_type != "stream" or output.name == "stdout", output.text
        if output.output_type in ("execute_result", "display_data"):
            kinds = output.data
            kind = PLOT if PLOT in kinds else TABLE if TABLE in kinds else str(kinds[TEXT])
            found[kind] += 1
    assert not any("False" in kind for kind in found)
    assert {kind: found[kind] for kind in WANTED[name]} == WANTED[name], found


@pytest.mark.slow
def test_what_is_left_behind(run: Any) -> None:
    name, _, folder = run
    left = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert left == {f"{name}.db"} | ({f"{name}.html"} if name == "first_look" else set())


@pytest.mark.slow
def test_the_strategies_cost_what_the_text_says(run: Any) -> None:
    name, notebook, _ = run
    if name != "billing_strategies":
        return
    (totals,) = [o.data[TEXT] for o in outputs(notebook) if "'graduated': " in str(o.get("data"))]
    costs = [float(cost) for cost in re.findall(r"Decimal\('([^']+)'\)", totals)]
    graduated, volume, cumulative = costs
    assert 4 / 3 < volume / graduated < 3 / 2 and 2 * graduated < cumulative
