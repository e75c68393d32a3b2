"""tools/corpus.py on packages built here."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_tagger.data.manifest import read_folders, read_manifest
from pretrain import clips

ROOT = Path(__file__).parents[2]
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2020 Somebody
License: GPL-2+

Files: data/music/*
Copyright: 2020 A Musician
License: CC-BY-SA-4.0
 Long text.

Files: debian/*
Copyright: 2021 Somebody Else
License: Expat
"""


@pytest.fixture(scope="module")
def corpus():
    spec = importlib.util.spec_from_file_location("corpus", ROOT / "tools/corpus.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def music(path, seconds, seed, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, int(seconds * 16000))
    soundfile.write(path, samples, 16000, **options)


def build(tree, package, debs):
    control = tree / "DEBIAN/control"
    control.parent.mkdir(parents=True)
    control.write_text(
        f"Package: {package}\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: music\n"
    )
    debs.mkdir(exist_ok=True)
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-b", tree, debs / f"{package}_1.0_all.deb"],
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def debs(tmp_path_factory):
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not installed")
    folder = tmp_path_factory.mktemp("packages")
    vorbis = {"format": "OGG", "subtype": "VORBIS"}

    tree = folder / "one"
    games = tree / "usr/share/games/one"
    music(games / "music/theme.ogg", 3, 1, **vorbis)
    music(games / "music/theme_short.ogg", 2, 2, **vorbis)
    music(games / "music/no extension", 2, 3, **vorbis)
    music(games / "music/jingle.ogg", 0.5, 4, **vorbis)
    music(games / "sfx/thunder.wav", 4, 5)
    shutil.copyfile(games / "music/theme.ogg", games / "music/theme copy.ogg")
    os.symlink("theme.ogg", games / "music/link.ogg")
    (games / "music/broken.ogg").write_bytes(b"OggS" + bytes(100))
    (games / "music/readme").write_text("no music")
    doc = tree / "usr/share/doc/one-music/copyright"
    doc.parent.mkdir(parents=True)
    doc.write_text(COPYRIGHT)
    build(tree, "one-music", folder / "debs")

    tree = folder / "two"
    for piece in ("War", "Peace"):
        music(tree / f"usr/share/two/songs/{piece}/song.ogg", 2, hash_of(piece), **vorbis)
        music(tree / f"usr/share/two/songs/{piece}/guitar.ogg", 2, hash_of(piece) + 1, **vorbis)
    music(folder / "inside.ogg", 2.5, 9, **vorbis)
    with zipfile.ZipFile(tree / "usr/share/two/songs/base.pk3", "w") as archive:
        archive.write(folder / "inside.ogg", "music/inside.ogg")
        archive.writestr("maps/readme.txt", "no music")
    doc = tree / "usr/share/doc/two-data/copyright"
    doc.parent.mkdir(parents=True)
    doc.write_text("Permission is hereby granted, free of charge, to any person\n\nThe packaging is under the GPL.\n")
    build(tree, "two-data", folder / "debs")
    return folder / "debs"


def hash_of(name):
    return sum(name.encode())


def run(out_dir, *arguments):
    return subprocess.run(
        [sys.executable, ROOT / "tools/corpus.py", f"--out_dir={out_dir}", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_corpus(debs, tmp_path):
    out = tmp_path / "corpus"
    arguments = (f"--debs={debs}", "--min_seconds=1", "calm=one-music", "loud=two-data", "odd=two-data")
    result = run(out, *arguments)
    assert result.returncode == 0, result.stderr
    with open(out / "manifest.csv", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    by_copy = [path for path in rows if path.startswith("calm/one-music/theme") and "short" not in path]
    assert len(by_copy) == 1  # theme.ogg and its copy are one track
    rows["THEME"] = rows.pop(by_copy[0])
    assert {
        path: (row["tags"], row["group"], row["track"], row["licence"], float(row["seconds"]))
        for path, row in rows.items()
    } == {
        "THEME": ("calm", rows["THEME"]["group"], Path(by_copy[0]).stem, "CC-BY-SA-4.0", 3.0),
        "calm/one-music/theme_short.ogg": ("calm", "one-music/theme", "theme_short", "CC-BY-SA-4.0", 2.0),
        "calm/one-music/no extension": (
            "calm",
            "one-music/no extension",
            "no extension",
            "CC-BY-SA-4.0",
            2.0,
        ),
        "loud/two-data/War/song.ogg": (
            "loud;odd",
            "two-data/War/song",
            "War/song",
            "see licences: GPL, Expat",
            2.0,
        ),
        "loud/two-data/Peace/song.ogg": (
            "loud;odd",
            "two-data/Peace/song",
            "Peace/song",
            "see licences: GPL, Expat",
            2.0,
        ),
        "loud/two-data/base.pk3/music/inside.ogg": (
            "loud;odd",
            "two-data/inside",
            "base.pk3/music/inside",
            "see licences: GPL, Expat",
            2.5,
        ),
    }
    assert (out / "licences/one-music.txt").read_text() == COPYRIGHT
    assert sorted(path.name for path in out.iterdir()) == [
        ".packages",
        "calm",
        "licences",
        "loud",
        "manifest.csv",
        "odd",
    ]
    table = [line.split() for line in result.stdout.splitlines()]
    assert ["one-music", "calm", "3", "0.1", "CC-BY-SA-4.0", "(3)"] in table
    assert ["all", "6", "0.2"] in table

    manifest = read_manifest(out / "manifest.csv")
    folders = read_folders(out)
    assert manifest.tags == folders.tags == ("calm", "loud", "odd")
    assert {clip.path: dict(clip.tags) for clip in manifest.clips} == {
        clip.path: dict(clip.tags) for clip in folders.clips
    }

    # Again: nothing is made anew. Another tag: moved. A lost file: made again.
    lost = out / "calm/one-music/theme_short.ogg"
    before = {path: path.stat().st_ino for path in out.rglob("*.ogg")}
    assert run(out, *arguments).stdout == result.stdout
    assert {path: path.stat().st_ino for path in out.rglob("*.ogg")} == before
    lost.unlink()
    assert run(out, f"--debs={debs}", "--min_seconds=1", "calm=one-music", "loud=two-data").returncode == 0
    assert lost.exists()
    assert read_folders(out).tags == ("calm", "loud")


def test_a_bare_package_is_its_own_tag(debs, tmp_path):
    assert run(tmp_path, f"--debs={debs}", "--min_seconds=1", "two-data").returncode == 0
    assert (tmp_path / "two-data/War/song.ogg").exists()
    assert read_manifest(tmp_path / "manifest.csv").tags == read_folders(tmp_path).tags == ("two-data",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x=none-such"], "expected none-such_*.deb in the folder of --debs"),
        (["x=Bad_Name"], "Received: the package 'Bad_Name'"),
        (["a/b=one-music"], "expected a tag"),
        ([], "expected packages, or --collection with one of albums"),
        (["--min_seconds=100", "x=one-music"], "expected audio of 100 s or longer. Received: one-music"),
    ],
)
def test_errors_are_one_sentence(debs, tmp_path, arguments, message):
    result = run(tmp_path / "out", f"--debs={debs}", *arguments)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert message in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_licence_of(corpus):
    assert corpus.licence_of(COPYRIGHT, "usr/share/games/one/music/a.ogg") == "CC-BY-SA-4.0"
    assert corpus.licence_of(COPYRIGHT, "usr/share/games/one/menu.ogg") == "GPL-2+"
    two = COPYRIGHT + "\nFiles: data/music/a.ogg\n src/b.c\nLicense: CC0-1.0\n"
    assert corpus.licence_of(two, "usr/share/games/one/music/a.ogg") == "CC0-1.0"
    assert corpus.licence_of("Creative Commons Attribution-ShareAlike 3.0", "a.ogg") == "see licences: CC-BY-SA"
    assert corpus.licence_of("All mine.", "a.ogg") == "see licences"


def test_collections_name_real_packages(corpus):
    assert corpus.packages_of([], "albums") == {
        "warzone2100-music": ["techno"],
        "wesnoth-1.16-music": ["orchestral"],
        "marsshooter-data": ["metal"],
        "fretsonfire-songs-sectoid": ["metal"],
        "singularity-music": ["electronic"],
        "drascula-music": ["adventure"],
    }
    pretraining = corpus.packages_of([], "pretraining")
    assert len(pretraining) == 23
    assert all(tags == [package] for package, tags in pretraining.items())
    # What decides and what measures is of the packages that there are.
    more = corpus.packages_of([], "more")
    assert not set(more) & set(pretraining)
    assert {package for split in clips.SPLITS.values() for package in split} < {*pretraining, *more}
    assert set(clips.SPLITS["test"]) < set(pretraining)


def test_tags_and_packages_of_the_command_line(corpus):
    found = corpus.packages_of(["drums=aa,bb", "cc", "odd=aa", "drums=aa", "dd,ee"], None)
    assert found == {"aa": ["drums", "odd"], "bb": ["drums"], "cc": ["cc"], "dd": ["dd"], "ee": ["ee"]}
    assert corpus.packages_of(["loud=singularity-music"], "albums")["singularity-music"] == ["electronic", "loud"]
    for tag in ("licences", ".hidden", "a;b", "a:b", "a,b", ""):
        with pytest.raises(corpus.CorpusError, match="expected a tag that can name a folder and stand in a manifest"):
            corpus.packages_of([f"{tag}=aa"], None)


@pytest.mark.parametrize(
    ("name", "piece"),
    [
        *(("battle-epic-loop", "battle"), ("theme_Short", "theme"), ("a old", "a"), ("loop", "loop")),
        *(("finally", "finally"), ("new-world", "new-world"), ("song2", "song2")),
    ],
)
def test_versions_of_a_piece(corpus, name, piece):
    assert corpus.piece_of(name) == piece
