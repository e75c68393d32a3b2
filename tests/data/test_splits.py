"""Splits: nothing leaks, every tag is in all splits, and the seed decides the result."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import defaultdict

import numpy as np
import pytest

from keras_tagger.data.manifest import Clip, Manifest
from keras_tagger.data.splits import assign_splits
from keras_tagger.errors import ManifestError


def manifest_of(clips):
    tags = sorted({tag for clip in clips for tag in clip.tags})
    return Manifest(tuple(clips), tuple(tags))


def random_manifest(seed, n_tracks=120):
    rng = np.random.default_rng(seed)
    clips = []
    for track in range(n_tracks):
        group = f"artist{rng.integers(40)}" if rng.random() < 0.5 else None
        tags = {f"tag{t}": 1.0 for t in range(12) if rng.random() < 0.5 / (t + 1)}
        for part in range(rng.integers(1, 5)):
            clips.append(Clip(f"/m/{track:04d}.ogg", tags, part * 10.0, part * 10.0 + 10.0, group=group))
    return manifest_of(clips)


@pytest.mark.parametrize("seed", range(5))
def test_no_leak_all_tags_and_fractions(seed):
    manifest = assign_splits(random_manifest(seed), 0.15, 0.15, seed=seed)
    sides, groups_of_tag = defaultdict(set), defaultdict(set)
    for clip in manifest.clips:
        sides[clip.path].add(clip.split)
        if clip.group:
            sides[clip.group].add(clip.split)
    assert all(len(of) == 1 for of in sides.values())
    splits_of_tag = defaultdict(set)
    for clip in manifest.clips:
        for tag in clip.tags:
            groups_of_tag[tag].add(clip.group or clip.path)
            splits_of_tag[tag].add(clip.split)
    assert {tag: splits for tag, splits in splits_of_tag.items() if len(groups_of_tag[tag]) >= 6} == {
        tag: {"train", "valid", "test"} for tag in groups_of_tag if len(groups_of_tag[tag]) >= 6
    }
    shares = [len(manifest.select(split)) / len(manifest) for split in ("train", "valid", "test")]
    np.testing.assert_allclose(shares, [0.7, 0.15, 0.15], atol=0.04)


def test_stratified_exactly_where_it_can_be():
    clips = [Clip(f"/m/{tag}{i}.ogg", {tag: 1.0}) for tag, n in (("a", 100), ("b", 20), ("c", 3)) for i in range(n)]
    manifest = assign_splits(manifest_of(clips), 0.1, 0.2, seed=3)
    counts = {
        split: {tag: sum(tag in clip.tags for clip in manifest.select(split).clips) for tag in "abc"}
        for split in ("train", "valid", "test")
    }
    assert counts == {
        "train": {"a": 70, "b": 14, "c": 1},
        "valid": {"a": 10, "b": 2, "c": 1},
        "test": {"a": 20, "b": 4, "c": 1},
    }


def test_shares_are_of_seconds_where_every_clip_has_an_end():
    def sizes(end_of_first):
        clips = [Clip("/m/long.ogg", {"x": 1.0}, 0.0, end_of_first)]
        clips += [Clip(f"/m/{i}.ogg", {"x": 1.0}, 2.0, 3.0) for i in range(40)]
        manifest = assign_splits(manifest_of(clips), 0.2, 0.2, seed=1)
        return [len(manifest.select(split)) for split in ("train", "valid", "test")]

    # 60 s and 40 times 1 s; or 41 clips.
    assert sizes(60.0) == [1, 20, 20]
    assert sizes(None) == [25, 8, 8]


def test_soft_labels_count_by_their_weight():
    weights = [1.0] * 8 + [0.125] * 64
    for seed in range(3):
        clips = [Clip(f"/m/{i:02d}.ogg", {"x": weight}) for i, weight in enumerate(weights)]
        manifest = assign_splits(manifest_of(clips), 0.25, 0.25, seed=seed)
        found = [sum(clip.tags["x"] for clip in manifest.select(split).clips) for split in ("train", "valid", "test")]
        np.testing.assert_allclose(found, [8, 4, 4], atol=0.5)
    # However little, it is a clip of the tag, of which every split has one.
    clips = [Clip(f"/m/{i:02d}.ogg", {"x": 1.0, **({"rare": 0.1} if i < 3 else {})}) for i in range(30)]
    manifest = assign_splits(manifest_of(clips), 0.1, 0.1)
    assert {clip.split for clip in manifest.clips[:3]} == {"train", "valid", "test"}


def test_a_function_of_seed_not_of_row_order():
    manifest = random_manifest(1)
    shuffled = dataclasses.replace(
        manifest, clips=tuple(manifest.clips[i] for i in np.random.default_rng(0).permutation(len(manifest)))
    )

    def sides(source, seed):
        return {clip.clip_id: clip.split for clip in assign_splits(source, seed=seed).clips}

    assert sides(manifest, 5) == sides(shuffled, 5)
    assert sides(manifest, 5) != sides(manifest, 6)


def test_tracks_and_groups_chain():
    clips = [
        Clip("/m/a.ogg", {"x": 1.0}, 0, 5, group="g"),
        Clip("/m/a.ogg", {"x": 1.0}, 5, 9, group="h"),
        Clip("/m/b.ogg", {"x": 1.0}, group="h"),
        *(Clip(f"/m/c{i}.ogg", {"x": 1.0}) for i in range(9)),
    ]
    for seed in range(8):
        splits = [clip.split for clip in assign_splits(manifest_of(clips), 0.3, 0.3, seed=seed).clips]
        assert len(set(splits[:3])) == 1
        assert set(splits) == {"train", "valid", "test"}


def test_three_tracks_without_a_common_tag_fill_three_splits():
    clips = [Clip(f"/m/{tag}.ogg", {tag: 1.0}) for tag in "abc"]
    assert sorted(clip.split for clip in assign_splits(manifest_of(clips)).clips) == [
        "test",
        "train",
        "valid",
    ]


def can_be_shared(members):
    """Return by brute force whether 8 tracks can be split so that every tag is in all three splits."""
    for sides in itertools.product(range(3), repeat=8):
        if all({sides[i] for i in of_tag} == {0, 1, 2} for of_tag in members):
            return True
    return False


def test_overlapping_tags_are_shared_where_brute_force_can():
    possible = 0
    for seed in range(40):
        has = np.random.default_rng(seed).random((8, 4)) < 0.45
        members = [set(np.flatnonzero(has[:, t])) for t in range(4) if has[:, t].sum() >= 3]
        if not can_be_shared(members):
            continue
        possible += 1
        clips = [Clip(f"/m/{i}.ogg", {"abcd"[t]: 1.0 for t in np.flatnonzero(has[i])}) for i in range(8)]
        sides = [clip.split for clip in assign_splits(manifest_of(clips), 0.1, 0.1).clips]
        for of_tag in members:
            assert {sides[i] for i in of_tag} == {"train", "valid", "test"}
    assert possible > 20


def test_tags_that_cannot_be_shared_are_named(caplog):
    # w puts 1, 2, 3 and u puts 2, 3, 4 on three sides, so 1 and 4 of v are on one side.
    tags = {1: "wv", 2: "wu", 3: "wu", 4: "uv", 5: "v"}
    clips = [Clip(f"/m/{i}.ogg", dict.fromkeys(of_clip, 1.0)) for i, of_clip in tags.items()]
    assign_splits(manifest_of(clips))
    assert re.search("The split (train|valid|test) has no clip of [uvw]", caplog.text)


def test_explicit_splits_are_honoured():
    clips = [Clip("/m/t.ogg", {"x": 1.0}, 0, 5, split="test"), Clip("/m/t.ogg", {"x": 1.0}, 5, 9)]
    clips += [Clip(f"/m/{i}.ogg", {"x": 1.0}) for i in range(20)]
    splits = [clip.split for clip in assign_splits(manifest_of(clips), 0.1, 0.1).clips]
    assert splits[:2] == ["test", "test"]
    assert sorted(set(splits[2:])) == ["train", "valid"]
    complete = manifest_of([Clip("/m/a.ogg", {"x": 1.0}, split="train"), Clip("/m/b.ogg", {"x": 1.0}, split="test")])
    assert assign_splits(complete) == complete


def test_explicit_splits_that_leak_name_both_clips():
    clips = [
        Clip("/m/a.ogg", {"x": 1.0}, 0, 5, "train"),
        Clip("/m/b.ogg", {"x": 1.0}, split="train"),
        Clip("/m/a.ogg", {"x": 1.0}, 5, 9, "test"),
    ]
    with pytest.raises(ManifestError, match=r"clip 1 \('/m/a.ogg#t=0,5'\) in train and clip 3 .*in test"):
        assign_splits(manifest_of(clips))


@pytest.mark.parametrize(("valid", "test"), [(-0.1, 0.1), (0.5, 0.5), (float("nan"), 0.1)])
def test_impossible_fractions(valid, test):
    with pytest.raises(ManifestError, match="fractions"):
        assign_splits(random_manifest(0, 5), valid, test)


def test_an_impossible_seed():
    with pytest.raises(ManifestError, match=r"^expected a seed of at least 0\. Received: -1\.$"):
        assign_splits(random_manifest(0, 5), seed=-1)


@pytest.mark.parametrize("seed", range(5))
def test_training_keeps_every_tag_of_a_tiny_set(seed):
    clips = [Clip(f"/m/{tag}{i}.ogg", {tag: 1.0}) for tag in ("calm", "loud") for i in range(2)]
    manifest = assign_splits(manifest_of(clips), seed=seed)
    assert sorted(tag for clip in manifest.select("train").clips for tag in clip.tags) == ["calm", "loud"]
    assert [len(manifest.select(split)) for split in ("valid", "test")] == [1, 1]
