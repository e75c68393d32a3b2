"""Packaged weights: written files are read back, and all others are refused."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keras_tagger as kt
from keras_tagger.errors import ModelError, ModelNotFoundError
from keras_tagger.storage import pretrained as packaged
from keras_tagger.tags import TagInfo
from keras_tagger.teachers.musicnn import TAGS as PUBLISHED
from tiny import RATE, TAGS, noise

CLIP = noise(40000, seed=4)
INFO = {"high": TagInfo(0.25, True, True, 12), "low": TagInfo(0.5, False, False, 0)}


@pytest.fixture
def weights(tagger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights with the tagger as "toy", which is the package's for the test."""
    folder = tmp_path / "weights"
    known = kt.Tagger(tagger.model, tagger.config, INFO)
    path = packaged.write_packaged(known, "toy", "A toy.", {"roc_auc": 0.5}, "By nobody.", folder)
    assert path == folder / "toy.npz"
    monkeypatch.setattr(packaged, "weights_folder", lambda: folder)
    return folder


def reseal(folder: Path) -> None:
    """Set the registry's checksum to that of the current file."""
    registry = json.loads((folder / "registry.json").read_text())
    registry["toy"]["sha256"] = hashlib.sha256((folder / "toy.npz").read_bytes()).hexdigest()
    (folder / "registry.json").write_text(json.dumps(registry))


def test_a_name_loads(tagger: Any, weights: Path) -> None:
    assert kt.pretrained() == {"toy": "A toy."}
    loaded = kt.load("toy")
    assert loaded.tags == TAGS
    assert loaded.config.name == "toy"
    assert (loaded.config.audio, loaded.config.model) == (tagger.config.audio, tagger.config.model)
    assert loaded.info == {**INFO, "mid": TagInfo()}
    # Half precision keeps three digits of each kernel.
    difference = np.abs(loaded.scores((CLIP, RATE)) - tagger.scores((CLIP, RATE))).max()
    assert 0 < difference < 2e-3
    assert {weight.dtype for weight in loaded.model.weights} == {"float32"}
    stored = packaged.read_packaged("toy")
    assert (stored.provenance, stored.attribution) == ({"roc_auc": 0.5}, "By nobody.")


def test_kernels_are_half_precision_and_vectors_are_exact(tagger: Any, weights: Path) -> None:
    stored = packaged.read_packaged("toy").arrays
    assert len(stored) == len(tagger.model.weights)
    for array, weight in zip(stored, tagger.model.weights, strict=True):
        value = weight.numpy()
        assert array.dtype == (np.float16 if value.ndim > 1 else np.float32)
        np.testing.assert_allclose(array.astype(np.float32), value, rtol=2**-11 if value.ndim > 1 else 0, atol=1e-7)
    floats = sum(array.nbytes for array in stored)
    assert floats < (weights / "toy.npz").stat().st_size < floats + 500 * len(stored)


def test_weights_that_half_precision_cannot_hold(tagger: Any, tmp_path: Path) -> None:
    other = tagger.select(TAGS)
    kernel = other.model.head.logits.kernel
    kernel.assign(kernel + 1e5)
    with pytest.raises(ModelError, match="expected weights in the range of float16. Received: .*logits/kernel"):
        packaged.write_packaged(other, "toy", "", {}, "", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_name_means_the_package_and_a_path_the_path(
    weights: Path, tiny_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_run.dir, tmp_path / "toy", ignore=shutil.ignore_patterns("logs", "checkpoints"))
    monkeypatch.chdir(tmp_path)
    assert kt.load("toy").config.name == "toy"
    for source in ("./toy", Path("toy"), tmp_path / "toy"):
        assert kt.load(source).config.name == "learner"


def test_an_unknown_name_lists_the_names(weights: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"expected a pretrained name \(toy\).* Received: 'toi'"):
        kt.load("toi")
    with pytest.raises(ModelNotFoundError, match=r"expected a pretrained name \(toy\)\. Received: 'toi'"):
        packaged.read_packaged("toi")
    (weights / "toy.npz").unlink()
    with pytest.raises(ModelNotFoundError, match=r"expected the weights of 'toy'"):
        kt.load("toy")


def test_a_changed_file_is_refused(weights: Path) -> None:
    path = weights / "toy.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    registered = json.loads((weights / "registry.json").read_text())["toy"]["sha256"]
    with pytest.raises(ModelError, match=f"toy.npz: expected SHA-256 {registered}. Received: [0-9a-f]{{64}}") as caught:
        kt.load("toy")
    assert "\n" not in str(caught.value)


def rewritten(folder: Path, changes: dict[str, Any]) -> None:
    """Replace some metadata or (named by four digits) arrays of the file, with a correct checksum."""
    with np.load(folder / "toy.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    metadata = json.loads(str(arrays.pop("metadata")))
    arrays.update({name: value for name, value in changes.items() if name.isdigit()})
    metadata.update({name: value for name, value in changes.items() if not name.isdigit()})
    np.savez(folder / "toy.npz", metadata=np.array(json.dumps(metadata)), **arrays)
    reseal(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 2}, "format_version 2, not 1"),
        ({"tags": [{"tag": "a", "level": 3}]}, "tags.json: expected a list of objects"),
        ({"tags": [{"tag": "a"}]}, "expected arrays that fit the model"),
        ({"0000": np.zeros(3)}, "expected arrays that fit the model"),
        ({"model": {"encoder": {"width": "wide"}}}, r"model\.encoder\.width: expected a whole number"),
        ({"0000": np.array([print], object)}, "Object arrays cannot be loaded|pickle"),
    ],
    ids=str,
)
def test_a_right_checksum_of_a_wrong_file(weights: Path, changes: dict[str, Any], words: str) -> None:
    rewritten(weights, changes)
    with pytest.raises(ModelError, match=words) as caught:
        kt.load("toy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04"])
def test_a_right_checksum_of_no_archive(weights: Path, content: bytes) -> None:
    (weights / "toy.npz").write_bytes(content)
    reseal(weights)
    with pytest.raises(ModelError, match="expected packaged weights. Received: .*toy.npz"):
        kt.load("toy")


def test_a_registry_reaches_no_file_outside_its_folder(weights: Path, tmp_path: Path) -> None:
    shutil.move(weights / "toy.npz", tmp_path / "toy.npz")
    registry = json.loads((weights / "registry.json").read_text())
    registry["toy"]["file"] = "../toy.npz"
    (weights / "registry.json").write_text(json.dumps(registry))
    with pytest.raises(ModelNotFoundError):
        kt.load("toy")


def test_writing_again_replaces_one_entry(tagger: Any, weights: Path) -> None:
    packaged.write_packaged(tagger, "another", "Another.", {}, "", weights)
    packaged.write_packaged(tagger.select(["low"]), "toy", "One tag.", {}, "", weights)
    assert kt.pretrained() == {"another": "Another.", "toy": "One tag."}
    assert kt.load("toy").tags == ("low",)
    assert kt.load("another").tags == TAGS
    assert sorted(path.name for path in weights.iterdir()) == ["another.npz", "registry.json", "toy.npz"]


def test_names_that_share_a_file(tagger: Any, weights: Path) -> None:
    names = {"high": "high", "low": "other/low", "mid": "other/mid"}
    both = tagger.select(["high", "low", "mid"], names)
    both.info = {"high": TagInfo(0.2), "other/low": TagInfo(0.3), "other/mid": TagInfo(0.4)}
    packaged.write_packaged(
        both, "first", "One tag.", {}, "", weights, also={"first-other": ("other/", "Two other tags.")}
    )
    assert kt.pretrained() == {"first": "One tag.", "first-other": "Two other tags.", "toy": "A toy."}
    assert packaged.packaged_file("first") == packaged.packaged_file("first-other") == weights / "first.npz"
    first, other = kt.load("first"), kt.load("first-other")
    assert (first.tags, other.tags) == (("high",), ("low", "mid"))
    assert ([info.threshold for info in first.info.values()], [info.threshold for info in other.info.values()]) == (
        [0.2],
        [0.3, 0.4],
    )
    expected = both.scores((CLIP, RATE))
    found = np.concatenate([first.scores((CLIP, RATE)), other.scores((CLIP, RATE))])
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert (first.config.name, other.config.name) == ("first", "first-other")


# What the package itself has.


load_shipped = functools.cache(kt.load)


@pytest.mark.parametrize(
    ("name", "vocabulary", "calibrated"),
    [("compact", "MTT", 24), ("compact-msd", "MSD", 3), ("pons", "MTT", 50), ("pons-msd", "MSD", 50)],
)
def test_the_shipped_weights(name: str, vocabulary: str, calibrated: int) -> None:
    tagger = load_shipped(name)
    assert tagger.tags == PUBLISHED[vocabulary]
    assert packaged.packaged_file(name).stat().st_size < 16e6
    assert (tagger.config.audio.sample_rate, tagger.model.hop_seconds) == (16000, 0.128)
    assert sum(info.calibrated for info in tagger.info.values()) == calibrated
    assert all(info.train_clips is not None or info.evidence_from for info in tagger.info.values())
    stored = packaged.read_packaged(name)
    assert "Universitat Pompeu Fabra" in stored.attribution


@pytest.mark.parametrize(
    ("clip", "name", "tag", "score"),
    [
        ("rock_guitar_war", "compact", "rock", 0.71),
        ("techno_dance", "compact", "techno", 0.68),
        ("baroque_harpsichord", "compact", "harpsichord", 0.46),
        ("flute_solo", "compact", "flute", 0.63),
        ("ambient_strings", "compact", "ambient", 0.51),
        ("techno_dance", "compact-msd", "electronic", 0.59),
        ("rock_guitar_war", "pons", "rock", 0.67),
        ("techno_dance", "pons", "techno", 0.78),
        ("baroque_harpsichord", "pons", "harpsichord", 0.75),
        ("flute_solo", "pons", "flute", 0.78),
        ("ambient_strings", "pons", "ambient", 0.41),
        ("rock_guitar_war", "pons-msd", "metal", 0.30),
    ],
)
def test_what_the_shipped_weights_hear(clip: str, name: str, tag: str, score: float) -> None:
    """The scores were recorded when the weights were shipped (TensorFlow 2.17.1, x86-64)."""
    path = resources.files("keras_tagger") / "clips" / f"{clip}.ogg"
    assert load_shipped(name).tag(str(path), top=None).to_dict()[tag] == pytest.approx(score, abs=0.02)
