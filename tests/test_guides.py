"""The commands and code of the guides, run in order, a folder per page."""

from __future__ import annotations

import pytest
from matplotlib.image import imread
from test_readme import ROOT, assert_drawn
from test_readme import run_page as run_page_in_processes

pytestmark = [pytest.mark.guides, pytest.mark.timeout(600)]


def run_page(page, tmp_path):
    return run_page_in_processes(page, tmp_path, in_this_process=True)


def test_getting_started(tmp_path):
    assert run_page("docs/getting_started.md", tmp_path) == ["python"] * 3
    assert_drawn(tmp_path / "margin.png")


def test_command_line(tmp_path):
    (tmp_path / "mix.m3u8").write_text("#EXTM3U\none.mp3\nmy_music\\loud\\techno_dance.ogg\n")
    ran = run_page("docs/command_line.md", tmp_path)
    checked = ["data"] * 3
    runtimes = ["tag", "export", "tag"]
    assert ran == [*["tag"] * 6, *checked, "explain", "export", "models", "serve", "request", *runtimes, "python"]
    names = {path.stem for path in (tmp_path / "my_music").rglob("*.ogg")}
    for name in names:
        assert_drawn(tmp_path / "maps" / name / "guitar.png")
    rows = {
        name: (tmp_path / name).read_text("utf-8").splitlines() for name in ("tags.csv", "tags.jsonl", "clips.jsonl")
    }
    assert {name: len(lines) for name, lines in rows.items()} == {"tags.csv": 41, "tags.jsonl": 4, "clips.jsonl": 4}
    served = (tmp_path / "served.csv").read_text("utf-8").splitlines()
    assert len(served) == 1 + 3 * (4 + 2)
    # What a server answers is what the command `tag` says.
    scores = {tuple(row.split(",")[:2]): row.split(",")[2] for row in rows["tags.csv"]}
    for row in served[1:13]:
        file, tag, score = row.split(",")[:3]
        assert float(score) == pytest.approx(float(scores[file, tag]), abs=1e-4)


def test_library(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert run_page("docs/library.md", tmp_path) == [*["write"] * 3, *["playlist"] * 2, "tag", "playlist"]
    assert (tmp_path / "techno.m3u8").read_text("utf-8").startswith("#EXTM3U\n")
    assert (tmp_path / "state" / "keras_tagger" / "journal.sqlite").exists()


def test_interchange(tmp_path):
    assert run_page("docs/interchange.md", tmp_path) == [*["tag"] * 3, *["explain"] * 2, "python"]
    for name in ("song.jams", "annotations/flute_solo.jams", "tags.parquet", "map.svl", "labels.txt", "map.txt"):
        assert (tmp_path / name).stat().st_size > 100


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
    assert "data:audio/" in (tmp_path / "why.html").read_text("utf-8")
    assert (tmp_path / "guitar_removed.wav").stat().st_size > 100_000


def test_gallery(tmp_path):
    assert run_page("docs/gallery.md", tmp_path) == ["python"]
    made = tmp_path / "docs" / "images"
    for path in made.iterdir():
        # The committed pictures are those that the page makes.
        assert imread(path).shape == imread(ROOT / "docs" / "images" / path.name).shape
