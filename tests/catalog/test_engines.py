"""Engines for more than one machine: Ray and Beam, the extras of these names."""

from __future__ import annotations

import importlib.util
import sys

import pytest

import tiny
from keras_tagger.catalog import Catalog, Describer, build, find_entries
from keras_tagger.errors import CatalogError

MODULES = {"ray": "ray", "beam": "apache_beam"}


@pytest.mark.parametrize("engine", MODULES)
def test_a_catalogue_is_that_of_this_machine(engine, music, songs, tmp_path):
    """One row for every file, equal to the row that is made in this process; and nothing is described again."""
    if importlib.util.find_spec(MODULES[engine]) is None:
        pytest.skip(f"the extra {engine} is not installed")
    music.save(tmp_path / "tiny.keras")
    words = ([songs], tmp_path / engine, str(tmp_path / "tiny.keras"))
    built = build(*words, engine=engine, cpus=1)
    assert (built.described, [path for path, _ in built.errors]) == (6, [str(songs / "noise.mp3")])
    with tiny.eager():
        expected = [row for row in Describer(music).rows(find_entries([songs])) if "error" not in row]
    catalog = Catalog(tmp_path / engine)
    found = dict(zip(catalog.table(["path"])["path"].to_pylist(), catalog.scores(), strict=True))
    assert sorted(found) == [row["path"] for row in expected]
    for row in expected:
        assert found[row["path"]].tolist() == pytest.approx(row["scores"], abs=2e-3)
    assert build(*words, engine=engine, cpus=1).described == 0


@pytest.mark.parametrize(("engine", "name"), [("ray", "Ray"), ("beam", "Apache Beam")])
def test_a_missing_extra_says_its_name(engine, name, songs, tmp_path, monkeypatch):
    for module in MODULES.values():
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "keras_tagger.catalog.beam_engine", raising=False)
    with pytest.raises(CatalogError, match=rf'expected {name}, from pip install "keras_tagger\[{engine}\]"'):
        build([songs], tmp_path / "made", "compact", engine=engine)
