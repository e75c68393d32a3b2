"""The notebooks in examples/ run from top to bottom, and have small outputs to look at."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
MAX_BYTES = 500_000


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_is_a_notebook_for_each_user():
    assert [path.stem for path in NOTEBOOKS] == ["explore", "production", "researcher"]


@pytest.mark.guides
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    recorded = [[output.output_type for output in cell.outputs] for cell in code_cells(notebook)]
    # A cell that fails raises CellExecutionError.
    NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    # Notes on stderr may come and go with the versions of what is installed.
    shown = [
        [output.output_type for output in cell.outputs if output.get("name") != "stderr"]
        for cell in code_cells(notebook)
    ]
    assert shown == recorded


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_recorded_outputs_are_complete_and_small(path):
    assert path.stat().st_size < MAX_BYTES
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"execute_result", "stream"}
    assert all(output.get("name") != "stderr" for output in outputs)
    # At least one picture to look at.
    found = [output.get("data", {}) for output in outputs]
    assert any("image/png" in data or "<img" in data.get("text/html", "") for data in found)


def test_a_recorded_output_holds_the_player():
    notebook = nbformat.read(ROOT / "examples" / "explore.ipynb", as_version=4)
    shown = [output.get("data", {}).get("text/html", "") for cell in code_cells(notebook) for output in cell.outputs]
    assert sum("data-keras-tagger-frame" in text for text in shown) == 1
