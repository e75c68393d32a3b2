"""The plugin of beets, in a real library of 100 files."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "library"))

import mixed_files

from keras_tagger.tagger import Tagger

N_FILES = 100


@pytest.fixture(scope="module")
def music_folder(tmp_path_factory):
    """Ten albums of mixed formats, whose files are excerpts from different places of a clip."""
    folder = tmp_path_factory.mktemp("music")
    originals = mixed_files.make(tmp_path_factory.mktemp("originals"))
    originals = [path for path in originals if path.suffix != ".oga"]  # which beets does not read
    for number in range(N_FILES):
        source = originals[number % len(originals)]
        target = folder / f"album {number // 10}" / f"{number:03d} {source.stem}{source.suffix}"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
    return folder


@pytest.fixture(scope="module")
def beet(tmp_path_factory, music, music_folder):
    """Runs a command of beets in a library of its own, with the plugin and the tiny model."""
    home = tmp_path_factory.mktemp("beets")
    music.save(home / "tiny.keras")
    (home / "config.yaml").write_text(
        f"directory: {music_folder}\nlibrary: {home / 'library.db'}\nplugins: keras_tagger\nthreaded: no\n"
        # The albums have no names, by which beets tells albums apart.
        f"import: {{copy: no, write: no, duplicate_action: keep}}\nkeras_tagger: {{model: {home / 'tiny.keras'}}}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        # beets reads its configuration when it is imported.
        patch.setenv("BEETSDIR", str(home))
        beets = pytest.importorskip("beets")
        beets_ui = pytest.importorskip("beets.ui")
        assert beets.config.config_dir() == str(home)
        yield lambda *arguments: beets_ui.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def imported(beet, music_folder):
    beet("import", "-q", "-A", music_folder)
    return beet


@pytest.fixture
def listed(imported, capsys):
    def run(*arguments):
        capsys.readouterr()
        imported(*arguments)
        return capsys.readouterr().out.splitlines()

    return run


def test_files_are_tagged_on_import(listed, music):
    rows = [line.split("|") for line in listed("ls", "-f", "$path|$kt_high|$kt_low|$kt_mid|$kt_tags|$kt_origin")]
    assert len(rows) == N_FILES
    known = {}
    for path, *scores, names, origin in rows:
        key = Path(path).name[4:]
        known[key] = known.get(key) or music.tag(path, top=None)
        assert [float(score) for score in scores] == pytest.approx(
            [known[key][tag].score for tag in ("high", "low", "mid")], abs=6e-4
        )
        assert set(names.split("; ")) - {""} == {entry.name for entry in known[key] if entry.present}
        assert origin.startswith("keras_tagger 0")
    assert len(known) == len(mixed_files.KINDS) - 1


def test_scores_are_numbers_in_queries(listed):
    scores = {path: float(score) for path, score in (row.split("|") for row in listed("ls", "-f", "$path|$kt_low"))}
    middle = sorted(scores.values())[N_FILES // 2]
    found = listed("ls", "-f", "$path", f"kt_low:{middle:.3f}..")
    assert 0 < len(found) <= N_FILES
    assert set(found) == {path for path, score in scores.items() if score >= middle}


def test_a_second_run_does_nothing(listed, monkeypatch):
    def fail(*_):
        raise AssertionError("a file was tagged again")

    with monkeypatch.context() as patch:
        patch.setattr(Tagger, "describe_files", fail)
        assert listed("kt-tag") == [f"0 of {N_FILES} items tagged"]
    assert listed("kt-tag", "-f", "path::album 3") == ["10 of 10 items tagged"]


def test_embeddings_are_kept_and_compared(listed, music):
    from beetsplug.keras_tagger import embedding

    path, stored = listed("ls", "-f", "$path|$kt_embedding", "path::000")[0].split("|")
    found = embedding({"kt_embedding": stored})
    np.testing.assert_allclose(found, music.embed(path), rtol=2e-3, atol=2e-3)
    lines = listed("kt-like", "-n", "5", "path::000 ")
    assert len(lines) == 5
    values = [float(line.split()[0]) for line in lines]
    assert values == sorted(values, reverse=True)
    # The same excerpt in the same format is in other albums, too.
    assert values[0] == pytest.approx(1.0, abs=1e-3)


def test_a_damaged_file_does_not_stop_the_others(listed, music_folder):
    damaged = min(music_folder.glob("album 7/*"))
    content = damaged.read_bytes()
    damaged.write_bytes(b"no music")
    try:
        assert listed("kt-tag", "-f", "path::album 7") == ["9 of 10 items tagged"]
    finally:
        damaged.write_bytes(content)
