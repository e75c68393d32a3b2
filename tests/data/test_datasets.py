"""Public data sets, read from small files in their formats."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import public_sets as sets
from keras_tagger import audio
from keras_tagger.config import config_from_dict
from keras_tagger.config.data import SUBSETS
from keras_tagger.data.datasets import count_dataset, gtzan, msd, mtat, mtg_jamendo, open_dataset
from keras_tagger.data.datasets.annotations import PublishedCounts
from keras_tagger.data.datasets.open import READERS
from keras_tagger.data.datasets.vocabularies import CALS_50, GTZAN_10, JAMENDO_50, MSD_50, MTAT_50
from keras_tagger.data.manifest import Manifest
from keras_tagger.data.splits import assign_splits
from keras_tagger.errors import ConfigError, ManifestError, ManifestNotFoundError
from keras_tagger.teachers.musicnn import TAGS as MUSICNN


def by_split(manifest: Manifest, root: Path) -> dict[str, list[tuple[str, list[str]]]]:
    """Return the relative path and tags of the clips of each split."""
    return {
        split: [(os.path.relpath(clip.path, root), sorted(clip.tags)) for clip in manifest.select(split).clips]
        for split in ("train", "valid", "test")
    }


def test_vocabularies_are_the_published_ones():
    assert [len(set(names)) for names in (MTAT_50, MSD_50, CALS_50, JAMENDO_50, GTZAN_10)] == [50, 50, 50, 50, 10]
    # musicnn has the first two as they were published, in the same order.
    assert (MUSICNN["MTT"], MUSICNN["MSD"]) == (MTAT_50, MSD_50)
    assert (MTAT_50[0], MTAT_50[21], MTAT_50[47], MTAT_50[-1]) == ("guitar", "no vocals", "metal", "choral")
    assert (MSD_50[0], MSD_50[17], MSD_50[33], MSD_50[-1]) == ("rock", "Mellow", "Hip-Hop", "happy")
    assert (CALS_50[5], CALS_50[-1]) == ("hip-hop", "progressive metal")
    assert list(JAMENDO_50) == sorted(JAMENDO_50)
    assert Counter(tag.split("---")[0] for tag in JAMENDO_50) == {"genre": 31, "instrument": 14, "mood/theme": 5}
    assert (JAMENDO_50[0], JAMENDO_50[31], JAMENDO_50[-1]) == (
        *("genre---alternative", "instrument---acousticguitar", "mood/theme---relaxing"),
    )


@pytest.mark.parametrize("folder", ["", "mp3"])
def test_mtat(tmp_path, folder):
    root = sets.make_mtat(tmp_path / "mtat", folder)
    manifest = open_dataset("mtat", root)
    assert manifest.tags == MTAT_50
    assert by_split(manifest, root / folder) == {
        "train": [("0/a-b-01-c-0-29.mp3", ["guitar", "slow"]), ("b/d-e-02-f-30-59.mp3", ["rock"])],
        "valid": [("c/g-h-03-i-0-29.mp3", ["guitar"])],
        "test": [("d/j-k-04-l-0-29.mp3", ["choral", "guitar"]), ("f/m-n-05-o-59-88.mp3", ["rock"])],
    }
    labels = manifest.labels()
    assert labels.shape == (5, 50)
    places = [[MTAT_50.index(tag) for tag in tags] for tags in (("guitar", "slow"), ("rock",), ("guitar",))]
    assert [np.flatnonzero(row).tolist() for row in labels[:3]] == places == [[0, 2], [7], [0]]
    assert audio.info(manifest.clips[0].path).format.startswith("MP3")
    assert len(open_dataset("mtat", root, "all")) == 6
    rare = open_dataset("mtat", root, tags=["rare 7", "rock"])
    assert [sorted(clip.tags) for clip in rare.clips] == [["rock"], ["rock"], ["rare 7"]]
    assert open_dataset("mtat", root, min_clips_per_tag=2).tags == ("guitar", "rock")


def test_mtat_splits_twelve_one_three():
    splits = [mtat.SPLIT_OF_FOLDER[digit] for digit in "0123456789abcdef"]
    assert splits == ["train"] * 12 + ["valid"] + ["test"] * 3


@pytest.mark.parametrize("subset", ["top50", "genre", "instrument", "mood", "all"])
@pytest.mark.parametrize("split_index", [0, 3])
def test_jamendo(tmp_path, subset, split_index):
    stem = {"top50": "top50tags", "mood": "moodtheme"}.get(subset, subset)
    root = sets.make_jamendo(tmp_path, stem, split_index, "splits", "audio-low" if split_index else "raw_30s/audio")
    manifest = open_dataset("mtg_jamendo", root, subset, split_index)
    assert manifest.tags == (
        JAMENDO_50
        if subset == "top50"
        else ("genre---metal", "genre---rock", "instrument---piano", "mood/theme---happy")
    )
    path = "audio-low/15/215.low.mp3" if split_index else "raw_30s/audio/15/215.mp3"
    found = by_split(manifest, root)
    assert found["train"][2] == (path, ["mood/theme---happy"])
    assert [tags for _, tags in found["test"]] == [
        ["instrument---piano", "mood/theme---happy"],
        ["genre---metal", "genre---rock"],
    ]
    assert [len(clips) for clips in found.values()] == [3, 1, 2]
    # By hand: tracks 213 to 215, 316 and 417 to 418, of an artist for the even and one for the odd ones.
    artists = [("train", 1), ("train", 0), ("train", 1), ("validation", 0), ("test", 1), ("test", 0)]
    assert [clip.group for clip in manifest.clips] == [f"artist_{part}{odd}" for part, odd in artists]
    # No artist is on two sides: nothing to refuse, nothing to change.
    assert assign_splits(manifest) == manifest
    with pytest.raises(ManifestNotFoundError, match=rf"data/splits/split-{1 - bool(split_index)}/autotagging"):
        open_dataset("mtg_jamendo", root, subset, 1 - bool(split_index))


@pytest.mark.parametrize("folder", ["splits/split-0", "split-0", "mtg-jamendo-dataset/data/splits/split-0", "."])
def test_jamendo_files_where_people_have_them(tmp_path, folder):
    root = sets.make_jamendo(tmp_path, "genre")
    (root / folder).parent.mkdir(parents=True, exist_ok=True)
    for file in list((root / "data/splits/split-0").iterdir()):
        (root / folder).mkdir(exist_ok=True)
        file.rename(root / folder / file.name)
    assert len(open_dataset("mtg_jamendo", root, "genre")) == 6
    # Files beside each other may be of any split; the first is taken to be meant.
    for split_index in (1, 4):
        with pytest.raises(ManifestNotFoundError, match=rf"data/splits/split-{split_index}/autotagging_genre-train"):
            open_dataset("mtg_jamendo", root, "genre", split_index)


@pytest.mark.parametrize("python2", [True, False])
def test_msd_conventional(tmp_path, python2):
    root = sets.make_msd(tmp_path, python2)
    manifest = open_dataset("msd", root)
    assert manifest.tags == MSD_50
    found = by_split(manifest, root)
    assert found["train"] == [
        ("songs/1/0/100.clip.mp3", ["rock"]),
        ("songs/1/1/101.clip.mp3", ["Mellow", "sad"]),
        ("songs/1/2/102.clip.mp3", ["Hip-Hop", "rock"]),
    ]
    assert found["test"] == [("songs/1/3/103.clip.mp3", ["sad"]), ("songs/1/4/104.clip.mp3", ["happy"])]
    # The published list of training and validation is longer than 201,680; the rest of it is for validation.
    annotations = msd.read(str(root), "conventional", n_train=2)
    assert [clip.split for clip in annotations.clips] == ["train", "train", "valid", "test", "test"]
    assert msd.N_TRAIN == 201_680


def test_msd_by_track_ids_and_in_a_folder(tmp_path):
    root = sets.make_msd(tmp_path)
    (root / "MSD_split").mkdir()
    for file in ("filtered_list_train.cP", "filtered_list_test.cP", "msd_id_to_tag_vector.cP"):
        (root / file).rename(root / "MSD_split" / file)
    assert len(open_dataset("msd", root)) == 5
    # Without 7digital's ids the audio is looked for by the track's own, in any of three formats.
    (root / "MSD_id_to_7D_id.pkl").unlink()
    with pytest.raises(ManifestNotFoundError, match=r"without any of it \(first: A/X/K/TRAXK00000128F0000\.wav\)"):
        open_dataset("msd", root)
    places = []
    for index, suffix in enumerate(("wav", "mp3", "flac", "wav", "mp3")):
        track = sets.track_id(index)
        places.append(f"audio/{track[2]}/{track[3]}/{track[4]}/{track}.{suffix}")
        sets.write_audio(root / places[-1])
    assert [os.path.relpath(clip.path, root) for clip in open_dataset("msd", root).clips] == places
    (root / "MSD_split/filtered_list_test.cP").write_bytes(pickle.dumps(["../../x"], 2))
    (root / "MSD_split/msd_id_to_tag_vector.cP").write_bytes(
        sets.python2_pickle({name: sets.msd_vector("rock") for name in (*map(sets.track_id, range(3)), "../../x")})
    )
    with pytest.raises(ManifestError, match=r"expected track ids such as TRAAAAW128F429D538\. Received: '\.\./\.\./x'"):
        open_dataset("msd", root)


def test_msd_cals(tmp_path):
    manifest = open_dataset("msd", sets.make_cals(tmp_path), "cals")
    assert manifest.tags == CALS_50
    track = sets.track_id(10)
    assert [(clip.split, *clip.tags) for clip in manifest.clips] == [
        *[("train", "rock"), ("train", "trance"), ("valid", "rock"), ("test", "progressive metal")]
    ]
    assert manifest.clips[0].path == str(tmp_path / f"data/audio/{track[2]}/{track[3]}/{track[4]}/{track}.wav")


@pytest.mark.parametrize("suffix", [".wav", ".au"])
def test_gtzan(tmp_path, suffix):
    root = sets.make_gtzan(tmp_path, suffix=suffix)
    manifest = open_dataset("gtzan", root)
    assert manifest.tags == GTZAN_10
    assert by_split(manifest, root) == {
        split: [(f"genres/{genre}/{genre}.0000{number}{suffix}", [genre]) for genre in ("blues", "disco", "rock")]
        for number, split in enumerate(("train", "valid", "test"))
    }
    assert [np.flatnonzero(row).tolist() for row in manifest.labels()] == [[0], [3], [9]] * 3
    (root / "genres").rename(root / "genres_original")
    moved = open_dataset("gtzan", root, tags=["rock", "blues"])
    assert moved.tags == ("rock", "blues")
    assert [dict(clip.tags) for clip in moved.clips] == [{"blues": 1.0}, {}, {"rock": 1.0}] * 3
    assert os.path.relpath(moved.clips[1].path, root) == f"genres_original/disco/disco.00000{suffix}"


def test_files_as_other_systems_leave_them(tmp_path):
    """Windows line ends and a byte order mark; audio with extensions in capitals; folders that are links."""
    root = sets.make_mtat(tmp_path / "mtat")
    expected = open_dataset("mtat", root)
    path = root / "annotations_final.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert open_dataset("mtat", root) == expected
    (root / "0").rename(tmp_path / "elsewhere")
    (root / "0").symlink_to(tmp_path / "elsewhere")
    (root / "c/g-h-03-i-0-29.mp3").rename(root / "c/g-h-03-i-0-29.MP3")
    found = open_dataset("mtat", root)
    assert [clip.tags for clip in found.clips] == [clip.tags for clip in expected.clips]
    assert [os.path.relpath(clip.path, root) for clip in found.clips[:3]] == [
        *("0/a-b-01-c-0-29.mp3", "b/d-e-02-f-30-59.mp3", "c/g-h-03-i-0-29.MP3")
    ]


def test_what_is_missing_and_where_it_is_had(tmp_path):
    with pytest.raises(
        ManifestNotFoundError, match="does not exist. The annotations are available from the MagnaTagATune"
    ):
        open_dataset("mtat", tmp_path / "none")
    with pytest.raises(ManifestNotFoundError, match=r"file annotations_final\.csv in .*mirg\.city\.ac\.uk"):
        open_dataset("mtat", tmp_path)
    root = sets.make_mtat(tmp_path / "mtat")
    shutil.rmtree(root / "d")
    shutil.rmtree(root / "f")
    for number in (1, 3):
        (root / f"mp3.zip.00{number}").write_bytes(b"PK")
    with pytest.raises(ManifestNotFoundError) as error:
        open_dataset("mtat", root)
    assert str(error.value) == (
        f"mtat: expected the audio of 5 clips below {root}. Received: a folder without 2 of them "
        "(first: d/j-k-04-l-0-29.mp3), with nothing below d/, f/. There are archives to unpack: mp3.zip.001, "
        "mp3.zip.003; still missing: mp3.zip.002. The audio is available from the same page, as mp3.zip.001, "
        "mp3.zip.002 and mp3.zip.003. Set allow_missing to leave those clips out."
    )
    (root / "mp3.zip.002").write_bytes(b"PK")
    whole = "mp3.zip.001, mp3.zip.002, mp3.zip.003 (cat mp3.zip.00? > mp3.zip && unzip mp3.zip). The audio is available"
    with pytest.raises(ManifestNotFoundError, match=re.escape(f"There are archives to unpack: {whole}")):
        open_dataset("mtat", root)
    left = open_dataset("mtat", root, allow_missing=True)
    assert [clip.split for clip in left.clips] == ["train", "train", "valid"]
    for folder in "0abc":
        shutil.rmtree(root / folder)
    with pytest.raises(ManifestNotFoundError, match="Received: a folder without any of it"):
        open_dataset("mtat", root, allow_missing=True)
    jamendo = sets.make_jamendo(tmp_path / "jamendo")
    shutil.rmtree(jamendo / "15")
    (jamendo / "raw_30s_audio-15.tar").write_bytes(b"")
    with pytest.raises(ManifestNotFoundError, match=r"nothing below 15/\. There are archives .* raw_30s_audio-15\.tar"):
        open_dataset("mtg_jamendo", jamendo)
    gtzan = sets.make_gtzan(tmp_path / "gtzan")
    (gtzan / "valid_filtered.txt").unlink()
    with pytest.raises(ManifestNotFoundError, match=r"valid_filtered\.txt .* https://github\.com/jongpillee"):
        open_dataset("gtzan", gtzan)
    with pytest.raises(ManifestNotFoundError, match=r"filtered_list_train\.cP .* it is available from"):
        open_dataset("msd", gtzan)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "annotations_final.csv",
            lambda text: text[:-40],
            r"line 7: expected 190 columns. Received: \d+; is the file truncated",
        ),
        ("annotations_final.csv", lambda text: text.replace('"guitar"', '"gitarre"'), "without the column 'guitar'"),
        (
            "annotations_final.csv",
            lambda text: text.replace('"0/a', '"x/a'),
            "line 2, column mp3_path: expected a path",
        ),
        (
            "annotations_final.csv",
            lambda text: text.replace("\n", "\n\n\n", 1).replace('"0/a', '"x/a'),
            "line 4, column mp3_path: expected a path",
        ),
        ("annotations_final.csv", lambda text: text.replace('"0"', '"2"', 1), "line 2, column rare 0: expected 0 or 1"),
        (
            "annotations_final.csv",
            lambda text: text.replace('"rare 0"', '"rare 1"'),
            "no duplicate columns. Received: 'rare 1'",
        ),
        (
            "annotations_final.csv",
            lambda text: text + text.splitlines()[2],
            r"line 8: expected no duplicate clips.*also in line 3",
        ),
    ],
)
def test_damaged_mtat_annotations(tmp_path, file, change, message):
    root = sets.make_mtat(tmp_path)
    (root / file).write_text(change((root / file).read_text()))
    with pytest.raises(ManifestError, match=message):
        open_dataset("mtat", root)


def test_damaged_annotations_of_the_others(tmp_path):
    jamendo = sets.make_jamendo(tmp_path / "jamendo")
    path = jamendo / "data/splits/split-0/autotagging_top50tags-train.tsv"
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"151.4") + 3])
    with pytest.raises(ManifestError, match=r"train\.tsv, line 2: expected .* a tag. Received: .* truncated"):
        open_dataset("mtg_jamendo", jamendo)
    path.write_bytes(whole.replace(b"genre---metal", b"metal"))
    with pytest.raises(ManifestError, match=r"line 3: expected tags such as genre---rock\. Received: 'metal'"):
        open_dataset("mtg_jamendo", jamendo)
    path.write_bytes(b"a\tb\r\n")
    with pytest.raises(ManifestError, match="line 1: expected the tab-separated columns TRACK_ID"):
        open_dataset("mtg_jamendo", jamendo)
    path.write_bytes(whole + whole.splitlines(keepends=True)[1])
    with pytest.raises(
        ManifestError, match=r"train\.tsv: expected no duplicate tracks\. Received: '13/213\.mp3', also in tr"
    ):
        open_dataset("mtg_jamendo", jamendo)
    path.write_bytes(whole)
    test = path.with_name("autotagging_top50tags-test.tsv")
    test.write_bytes(test.read_bytes() + whole.splitlines(keepends=True)[1])
    with pytest.raises(
        ManifestError, match=r"test\.tsv: expected no duplicate tracks\. Received: '13/213\.mp3', also in tr"
    ):
        open_dataset("mtg_jamendo", jamendo)
    gtzan = sets.make_gtzan(tmp_path / "gtzan")
    (gtzan / "test_filtered.txt").write_text("blues/blues.00000.wav\n")
    with pytest.raises(ManifestError, match="line 1: expected no duplicate clips. Received: .*, also in train"):
        open_dataset("gtzan", gtzan)
    (gtzan / "test_filtered.txt").write_text("polka/polka.00000.wav\n")
    with pytest.raises(ManifestError, match="with a genre of blues, classical"):
        open_dataset("gtzan", gtzan)
    cals = sets.make_cals(tmp_path / "cals")
    np.save(cals / "data/splits/test_binaries.npy", np.zeros((1, 49)))
    with pytest.raises(ManifestError, match=r"expected numbers \[n, 50\], and text \[n\] in the file of ids"):
        open_dataset("msd", cals, "cals")
    np.save(cals / "data/splits/test_binaries.npy", np.array([[None] * 50]))
    with pytest.raises(ManifestError, match=r"expected a \.npy file of text or numbers"):
        open_dataset("msd", cals, "cals")
    with open(cals / "data/splits/test_binaries.npy", "wb") as file:
        np.savez(file, a=np.zeros((1, 50)))
    with pytest.raises(ManifestError, match=r"test_binaries\.npy: expected a \.npy file of text or numbers"):
        open_dataset("msd", cals, "cals")
    lists = sets.make_msd(tmp_path / "msd")
    for wrong in ([["1/0"]], {sets.track_id(0): [1]}, {"100": None}):
        (lists / "7D_id_to_path.pkl").write_bytes(pickle.dumps(wrong, 2))
        with pytest.raises(
            ManifestError, match=r"7D_id_to_path\.pkl: expected (a dictionary|ids and paths)\. Received: a "
        ):
            open_dataset("msd", lists)
    (lists / "msd_id_to_tag_vector.cP").write_bytes(pickle.dumps({sets.track_id(0): [[0], [1, 2]]}, 2))
    with pytest.raises(ManifestError, match=r"expected a vector of 50 zeros and ones\. Received: \[\[0\], \[1, 2\]\]"):
        open_dataset("msd", lists)
    (lists / "msd_id_to_tag_vector.cP").write_bytes(sets.python2_pickle({sets.track_id(0): sets.msd_vector("rock")}))
    with pytest.raises(ManifestError, match="expected a tag vector for every listed track"):
        open_dataset("msd", lists)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fma", "x"), r"^data\.dataset: expected one of mtat, mtg_jamendo, msd, gtzan\. Received: 'fma'"),
        (("mtat", "x", "top50"), r"^data\.subset: expected one of clean, all\. Received: 'top50'"),
        (("mtg_jamendo", "x", "top50", 5), r"^data\.split_index: expected 0 to 4\. Received: 5"),
        (("mtat", "x", "clean", 1), r"^data\.split_index: expected 0, as mtat has one split"),
        (("mtg_jamendo", "x", "top50", 1.5), r"^data\.split_index: expected a whole number\. Received: 1\.5"),
        (("mtat", "x", "clean", 0, "rock"), r"^data\.tags: expected a list of tags\. Received: 'rock'"),
        (("mtat", "x", "clean", 0, ["rock", "rock"]), r"^data\.tags: expected each tag once"),
    ],
)
def test_names_that_do_not_exist(arguments, message):
    with pytest.raises(ConfigError, match=message):
        open_dataset(*arguments)


def test_unknown_tags(tmp_path):
    with pytest.raises(ManifestError, match=r"data\.tags: expected tags of mtat clean .* Received: 'polka'"):
        open_dataset("mtat", sets.make_mtat(tmp_path), tags=["guitar", "polka"])


def test_configuration():
    config = config_from_dict({"data": {"dataset": "mtg_jamendo", "root": "r", "subset": "mood", "split_index": 4}})
    assert (config.data.subset, config.model.head.activation) == ("mood", "sigmoid")
    single = config_from_dict({"preset": "compact", "data": {"dataset": "gtzan", "root": "r"}})
    assert single.model.head.activation == "softmax"
    assert config_from_dict(single.to_dict()) == single
    told = {"data": {"dataset": "gtzan", "root": "r"}, "model": {"head": {"activation": "sigmoid"}}}
    assert config_from_dict(told).model.head.activation == "sigmoid"


def test_counts_beside_the_published_ones(tmp_path):
    root = sets.make_mtat(tmp_path)
    shutil.rmtree(root / "f")
    found = count_dataset("mtat", root)
    content = json.loads(json.dumps(found.to_dict()))
    assert content["splits"]["train"] == {"annotated": 2, "published": 15247, "with_audio": 2}
    assert content["splits"]["test"] == {"annotated": 2, "published": 4332, "with_audio": 1}
    assert content["n_tags"] == {"annotated": 50, "published": 50}
    assert content["tags"]["guitar"] == {"train": 1, "valid": 1, "test": 1}
    assert (content["as_published"], content["ok"], content["missing"]) == (False, False, 1)
    rows = [line.split() for line in found.table().splitlines()]
    assert ["valid", "1", "1529", "1"] in rows
    assert ["all", "5", "21108", "4"] in rows
    assert ["The", "counts", "differ", "from", "the", "published", "ones."] in rows
    assert ["guitar", "1", "1", "1", "3"] in rows
    assert "f/m-n-05-o-59-88.mp3" in found.table()


def test_counts_that_are_the_published_ones(tmp_path, monkeypatch, caplog):
    """The published counts are set to those of the small files."""
    root = sets.make_mtat(tmp_path)
    with caplog.at_level("WARNING"):
        open_dataset("mtat", root)
    assert "mtat clean: expected 15247 / 1529 / 4332 clips (train / valid / test), as published" in caplog.text
    assert "has 2 / 1 / 2." in caplog.text
    caplog.clear()
    monkeypatch.setattr(mtat, "published", lambda subset, split_index: PublishedCounts(2, 1, 2, 50))
    found = count_dataset("mtat", root)
    assert (found.ok, found.to_dict()["as_published"], found.to_dict()["problem"]) == (True, True, "")
    assert "\nThe counts equal the published ones.\n" in found.table()
    with caplog.at_level("WARNING"):
        open_dataset("mtat", root)
    assert caplog.text == ""
    for wrong in (
        PublishedCounts(2, 1, 3, 50),
        PublishedCounts(1, 1, 2, 50),
        PublishedCounts(2, 2, 2, 50),
        PublishedCounts(2, 1, 2, 51),
    ):
        monkeypatch.setattr(mtat, "published", lambda subset, split_index, wrong=wrong: wrong)
        assert not count_dataset("mtat", root).to_dict()["as_published"]


def test_published_counts_add_up():
    for subset, total in {
        "top50": 54_380,
        "genre": 55_094,
        "instrument": 24_976,
        "mood": 17_982,
        "all": 55_525,
    }.items():
        for split_index in range(5):
            published = mtg_jamendo.published(subset, split_index)
            assert published.train + published.valid + published.test == total
    for module, subset, total, n_tags in (
        (mtat, "all", 25_863, 50),
        (mtat, "clean", 21_108, 50),
        (msd, "conventional", 241_889, 50),
        (msd, "cals", 233_147, 50),
        (gtzan, "filtered", 930, 10),
    ):
        of = module.published(subset)
        assert (of.train + of.valid + of.test, of.n_tags) == (total, n_tags)
    n_tags = [mtg_jamendo.published(subset).n_tags for subset in SUBSETS["mtg_jamendo"]]
    # All tags are those of the three categories together.
    assert n_tags == [50, 87, 40, 56, 87 + 40 + 56]


def test_the_documentation_has_the_published_counts():
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    for name, subsets in SUBSETS.items():
        for subset in subsets:
            if (name, subset) != ("mtg_jamendo", "all"):
                of = READERS[name].published(subset)
                assert f"{of.train:,} / {of.valid:,} / {of.test:,}" in text
