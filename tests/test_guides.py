"""The commands and code of the guides, run in order as a reader would, a folder per page."""

from __future__ import annotations

import pytest
from matplotlib.image import imread
from test_readme import ROOT, assert_drawn, run_page

pytestmark = [pytest.mark.guides, pytest.mark.timeout(600)]


def test_getting_started(tmp_path):
    assert run_page("docs/getting_started.md", tmp_path) == ["python", "python"]


def test_fit(tmp_path):
    ran = run_page("docs/guides/fit.md", tmp_path)
    assert ran == ["data", "fit", "tag", "fit", "python", "tensorboard", "evaluate", "evaluate", "compare"]
    for name in ("contributions.png", "attention.png"):
        assert_drawn(tmp_path / name)
    assert {path.name for path in (tmp_path / "reports" / "mine").iterdir()} == {
        "report.json",
        "report.csv",
        "report.html",
        "scores.npz",
    }


def test_serve(tmp_path):
    assert run_page("docs/guides/serve.md", tmp_path) == ["export", "serve", "request", "request", "python"]
    assert_drawn(tmp_path / "served.png")


def test_explain(tmp_path):
    ran = run_page("docs/guides/explain.md", tmp_path)
    assert ran == ["explain", "explain", "explain", "python", "python", "python"]
    for name in ("guitar", "contributions", "attention", "taggram", "ten_seconds"):
        assert_drawn(tmp_path / f"{name}.png")
    assert "<audio" in (tmp_path / "why.html").read_text("utf-8")
    assert (tmp_path / "guitar_removed.wav").stat().st_size > 100_000


def test_gallery(tmp_path):
    assert run_page("docs/gallery.md", tmp_path) == ["python"]
    made = tmp_path / "docs" / "images"
    for path in made.iterdir():
        # The committed pictures are those that the page makes.
        assert imread(path).shape == imread(ROOT / "docs" / "images" / path.name).shape
