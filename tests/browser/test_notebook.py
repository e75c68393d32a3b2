"""A notebook that is executed, and then reopened without its kernel."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
CELLS = (
    """\
import numpy as np
from keras_tagger.explain import listen
from keras_tagger.attention import Attention, AttentionWindow
from keras_tagger.heatmap import Heatmap

tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * 16000) / 16000)).astype(np.float32)
heat = Heatmap(np.eye(2, 16), ("<b>guitar", "piano"), np.arange(16) / 8 + 1 / 16, "contributions", scores=[0.9, 0.1],
               audio=(tone, 16000))
""",
    "heat",
    "Attention((AttentionWindow(0.0, np.full((2, 2, 17, 17), 1 / 17), 16),), 0.125, audio=(tone, 16000))",
    "heat.plot(spectrogram=True)",
    'listen(heat, (tone, 16000), "piano")',
)
REPRESENTATIONS = (
    "Heatmap(contributions: 2 rows, 16 columns, 0.06 to 1.94 s)",
    "Attention(2 layers, 2 heads, 16 tokens in 1 window, 0.06 to 1.94 s)",
    "<Axes: ",
    "Heard(2.00 s at 16000 Hz, kept and removed)",
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What the cells show, by media type."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        folder = str(tmp_path_factory.mktemp("notebook"))
        NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return [cell.outputs[-1]["data"] for cell in notebook.cells[1:]]


def test_cells_show_players_and_pictures_and_short_text(outputs: list[dict[str, str]]) -> None:
    heat, attention, plot, heard = outputs
    assert "data-keras-tagger-frame" in heat["text/html"]
    assert "data-keras-tagger-frame" in attention["text/html"]
    assert len(plot["image/png"]) > 5000
    assert heard["text/html"].count("data:audio/ogg;base64,") == 2
    for output, text in zip(outputs, REPRESENTATIONS, strict=True):
        assert output["text/plain"].startswith(text)
        assert "\n" not in output["text/plain"]


def test_a_reopened_notebook_plays(
    outputs: list[dict[str, str]], open_page: Callable[..., Any], tmp_path: Path
) -> None:
    """The stored HTML is in a page, as Jupyter shows it, without a kernel or a server."""
    cells = "".join(f"<div>{output['text/html']}</div>" for output in outputs if "text/html" in output)
    path = tmp_path / "notebook.html"
    path.write_text(f'<!doctype html><meta charset="utf-8"><title>n</title>{cells}', encoding="utf-8")
    # What the test waits for is evaluated, which the policy of the player's page forbids.
    page = open_page(path.as_uri(), height=2000, bypass_csp=True)
    frames = [frame for frame in page.frames if frame.parent_frame]
    assert len(frames) == 2
    for frame in frames:
        frame.wait_for_function("document.querySelector('.keras-tagger-player').player")
    player = "document.querySelector('.keras-tagger-player').player"
    assert frames[0].evaluate(f"(async () => {{ await {player}.play(); return {player}.playing; }})()")
    frames[0].wait_for_function(f"{player}.time > 0.2")
    assert page.errors == []
    assert page.requests == [path.as_uri()]
