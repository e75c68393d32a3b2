"""tools/pretrain/score_pieces.py: works, splits, tunes; with music21, notes."""

from __future__ import annotations

import json

import pytest

from keras_tagger.errors import ManifestError, ManifestNotFoundError
from pretrain import score_pieces
from pretrain.score_pieces import find_corpus, list_pieces, load_pieces, parse, split_of, tunes_of, work_of


@pytest.mark.parametrize(
    ("piece", "work"),
    [
        ("bach/bwv112.5-sc.mxl", "bach/bwv112"),
        ("bach/bwv112.5.mxl", "bach/bwv112"),
        ("beethoven/opus18no1/movement3.mxl", "beethoven/opus18no1"),
        ("palestrina/Agnus_I_07.krn", "palestrina/mass 07"),
        ("palestrina/Kyrie_07.krn", "palestrina/mass 07"),
        ("monteverdi/madrigal.3.12.mxl", "monteverdi/madrigal.3"),
        ("ryansMammoth/MissMcLeodsReel2.abc", "ryansMammoth/MissMcLeodsReel"),
        ("trecento/PMFC_12_4-Gloria Rvat 1419_bak.xml", "trecento/PMFC_12_4-Gloria Rvat 1419"),
        ("oneills1850/0001-0050.abc#12", "oneills1850/0001-0050.abc#12"),
        ("josquin/milleRegrets.abc#1", "josquin/milleRegrets"),
    ],
)
def test_movements_and_versions_are_one_work(piece, work):
    assert work_of(piece) == work


def test_splits_are_by_work_and_have_about_their_shares():
    works = [f"composer/work{i}" for i in range(4000)]
    splits = [split_of(work) for work in works]
    assert splits == [split_of(work) for work in works]
    for split, share in (("train", 0.63), ("valid", 0.12), ("test", 0.25)):
        assert abs(splits.count(split) / len(works) - share) < 0.03


def test_tunes_of_a_file(tmp_path):
    (tmp_path / "a.abc").write_text("% two tunes\nX: 1\nT: One\nK:G\nGABc\n\nX: 2\nT: Two\nK:D\ndefg\n")
    assert tunes_of(tmp_path / "a.abc") == ["X: 1\nT: One\nK:G\nGABc\n\n", "X: 2\nT: Two\nK:D\ndefg\n"]


def test_which_pieces_are_taken(tmp_path):
    contents = {
        **{"bach/a.mxl": "x", "bach/a.xml": "x", "bach/b.xml": "x", "bach/c.krn": "x", "bach/readme.txt": "x"},
        **{"bach/empty.mxl": "", "bach/large.mxl": "x" * 400_001, "bach/just.mxl": "x" * 400_000},
        **{"bach/choraleAnalyses/d.mxl": "x", "demos/e.mxl": "x", "_private/f.mxl": "x"},
        **{"tunes/one.abc": "X:1\nK:C\n", "tunes/two.abc": "X:1\nK:C\n\nX:2\nK:C\n", "opus/18/movement1.mxl": "x"},
        **{f"many/{number}.musicxml": "x" for number in range(30)},
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = list_pieces(tmp_path)
    assert found == list_pieces(tmp_path)
    assert sorted(name for name in found if not name.startswith("many/")) == [
        *("bach/a.mxl", "bach/b.xml", "bach/c.krn", "bach/just.mxl", "opus/18/movement1.mxl"),
        *("tunes/one.abc", "tunes/two.abc#0", "tunes/two.abc#1"),
    ]
    # Of a collection without a number of its own 20, which are not the first by name.
    many = [name for name in found if name.startswith("many/")]
    assert (len(many), len(set(many))) == (20, 20)
    assert many != sorted(many)


def test_pieces_that_are_parsed_are_not_parsed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(score_pieces, "find_corpus", lambda: tmp_path / "corpus")
    for name in ("a", "b"):
        (tmp_path / f"corpus/bach/{name}.mxl").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"corpus/bach/{name}.mxl").write_text("no score")
    kept = {"piece": "bach/a.mxl", "work": "bach/a", "parts": [[[0.0, 1.0, 60]]]}
    (tmp_path / "pieces").mkdir()
    (tmp_path / "pieces/bach_a.mxl.json").write_text(json.dumps(kept))
    (tmp_path / "pieces/bach_b.mxl.json").write_text(json.dumps({**kept, "piece": "bach/b.mxl", "parts": []}))
    assert load_pieces(tmp_path, 1) == [kept]
    (tmp_path / "pieces/bach_a.mxl.json").write_text(json.dumps({**kept, "parts": []}))
    with pytest.raises(ManifestError, match=r"expected scores that music21 can parse in '.*corpus'. Received: 2 that"):
        load_pieces(tmp_path, 1)


def test_music21_gives_notes_with_ties_joined(tmp_path):
    pytest.importorskip("music21", reason="expected music21 (pip install music21)")
    tune = "X:1\nT:Ties\nM:4/4\nL:1/4\nK:C\nC2 z E-|E2 [CG]2|\n"
    (tmp_path / "a.abc").write_text(f"{tune}\n{tune}")
    notes = [[0.0, 2.0, 60], [3.0, 3.0, 64], [6.0, 2.0, 60], [6.0, 2.0, 67]]
    assert parse(tmp_path, "a.abc#1") == [notes]


def test_without_music21_one_sentence_says_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ManifestNotFoundError, match=r"expected music21, .*pip install music21. Received: no such package"
    ):
        find_corpus()
