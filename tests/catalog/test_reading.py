"""Find music in a catalogue."""

from __future__ import annotations

import numpy as np
import pytest
from made_rows import TAGS, entry, row

from keras_tagger.catalog import Catalog, index, reading
from keras_tagger.catalog.page import catalog_page, principal_places
from keras_tagger.catalog.store import Store, shards
from keras_tagger.cli import main
from keras_tagger.errors import CatalogError, LibraryError
from keras_tagger.library.query import Query, listed_conditions
from keras_tagger.tags import make_tags, merged


@pytest.fixture
def catalog(tmp_path, about):
    """Forty tracks in four shards, each with one moment."""
    from dataclasses import replace

    from keras_tagger.catalog import Options

    about = replace(about, options=Options(top_contributions=1))
    with Store(tmp_path / "made", about, 10) as store:
        for number in range(40):
            one = row(entry(number))
            one["contributions"] = [{"tag": "guitar", "seconds": float(number), "value": 0.5}]
            store.add(one)
    return Catalog(tmp_path / "made")


@pytest.mark.parametrize(
    "query", ["guitar", "guitar>0.5 & !voice", "voice", "sitar", "!(guitar | 'no vocals')", "singing <= 30%", "VOCAL"]
)
def test_a_query_selects_what_it_matches_one_by_one(catalog, query):
    tracks = [row(entry(number)) for number in range(40)]
    info = catalog.about.info

    def matches(track):
        return Query(query).matches(merged(make_tags(TAGS, track["scores"], info, None, False)))

    table = catalog.table(["path"])["path"].to_pylist()
    found = [table[number] for number in catalog.select(query)]
    assert found == [track["path"] for track in tracks if matches(track)]


def test_conditions_may_be_listed():
    assert listed_conditions("guitar>0.5,no vocals") == '"guitar" >0.5 & "no vocals"'
    assert listed_conditions("!no vocals , (rock|pop)") == '!"no vocals" & ((rock|pop))'
    assert listed_conditions("'a, b' > 1%") == "('a, b' > 1%)"
    for text in ("guitar>0.5,no vocals", "!no vocals , (rock|pop)", "'a, b' > 1%"):
        Query(listed_conditions(text))


def test_unknown_tags_are_refused(catalog):
    with pytest.raises(LibraryError, match="expected a tag of the model, such as guitar"):
        catalog.search("guitr")
    with pytest.raises(CatalogError, match="expected a query, a track, or both"):
        catalog.search()


def test_the_nearest_come_first_with_what_they_have_in_common(catalog):
    asked = row(entry(5))
    vectors = index.normalized(np.stack([row(entry(number))["embedding"] for number in range(40)]))
    cosines = vectors @ vectors[5]
    order = [number for number in np.argsort(-cosines) if number != 5]
    matches = catalog.search(like=entry(5).path, n=7)
    assert [match.path for match in matches] == [entry(number).path for number in order[:7]]
    assert [match.similarity for match in matches] == pytest.approx(cosines[order[:7]], abs=1e-3)
    for match, number in zip(matches, order, strict=False):
        for reason in match.reasons:
            place = TAGS.index(reason.tag)
            assert reason.scores == pytest.approx(
                (asked["scores"][place], row(entry(number))["scores"][place]), abs=1e-3
            )
            assert reason.tag != "sitar"
            assert reason.moments == ((5.0, float(number)) if reason.tag == "guitar" else (None, None))


def test_tags_with_one_meaning_are_named_once(catalog):
    assert catalog.distinct(["singing", "guitar", "voice"]) == ("singing", "guitar")
    both = [set(row(entry(number))["present"]) >= {"voice", "singing"} for number in range(40)]
    assert any(both)
    for match in catalog.search("guitar>=0", n=40):
        assert not {"voice", "singing"} <= {*match.tags}


def test_similar_ones_among_those_that_match(catalog):
    among = catalog.select("guitar>0.5")
    found = catalog.search("guitar>0.5", like=entry(5).path, n=40)
    assert len(found) == len(among) - (5 in among)


def test_a_large_catalogue_is_found_by_its_index(catalog, monkeypatch):
    pytest.importorskip("usearch")
    exact = catalog.like(row(entry(5))["embedding"], 10)
    monkeypatch.setattr(reading, "EXACT_ROWS", 10)
    for opened in (catalog, Catalog(catalog.folder), catalog):  # made, opened from its file, and kept open
        numbers, cosines = opened.like(row(entry(5))["embedding"], 10)
        assert numbers.tolist() == exact[0].tolist()
        assert cosines == pytest.approx(exact[1], abs=2e-3)
    # The file does not say how far a search goes.
    made, read = (index.updated(catalog.folder, shards(catalog.folder), catalog.about.width) for _ in range(2))
    assert made.expansion_search == read.expansion_search == 512
    with Store(catalog.folder, catalog.about, 10) as store:
        for number in range(40, 55):
            store.add({**row(entry(number)), "contributions": []})
    larger = Catalog(catalog.folder)
    numbers, _ = larger.like(row(entry(47))["embedding"], 1)
    assert larger.rows(numbers)[0]["path"] == entry(47).path


def test_the_command_prints_and_writes_a_playlist(catalog, tmp_path, capsys):
    out = tmp_path / "found.m3u8"
    words = ["search", str(catalog.folder), "--tags", "guitar>0.5, !voice", "--most", "3", "--m3u", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    listed = [line for line in out.read_text().splitlines() if not line.startswith("#")]
    assert 0 < len(listed) <= 3
    assert [line.split("  ")[0] for line in printed[::2]] == [
        match.path for match in catalog.search("guitar>0.5 & !voice", n=3)
    ]
    assert main(["search", str(catalog.folder), "--tags", "guitar>0.5, guitar<0.4"]) == 1
    assert main(["search", str(tmp_path), "--tags", "guitar"]) == 1
    assert "which has no catalog.json" in capsys.readouterr().err


def test_the_map_keeps_the_two_directions_that_differ_most():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(8)[:3] * 5, 20, axis=0) + rng.normal(0, 0.1, (60, 8))
    places, explained = principal_places(groups)
    assert explained > 0.95
    centres = places.reshape(3, 20, 2).mean(axis=1)
    spread = places.reshape(3, 20, 2).std(axis=1).max()
    assert min(np.linalg.norm(centres[a] - centres[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 5 * spread


def test_the_page_holds_every_track_and_escapes_names(tmp_path, about):
    with Store(tmp_path / "made", about) as store:
        for number in range(3):
            store.add({**row(entry(number)), "path": f"a</script><b>{number}.mp3"})
    page = catalog_page(Catalog(tmp_path / "made"), tmp_path)
    assert "a</script>" not in page
    assert page.count(r'"script>\u003cb>') == 3
    assert "3 tracks, described by made" in page
