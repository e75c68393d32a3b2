"""`evaluate` against scikit-learn on scores got one file at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sklearn.metrics import average_precision_score, roc_auc_score

from keras_tagger.data.manifest import Clip, Manifest, read_manifest
from keras_tagger.data.prepare import prepare
from keras_tagger.errors import ManifestError, ManifestNotFoundError, ModelError
from keras_tagger.evaluation.evaluate import evaluate
from tiny import RATE, TAGS, noise, random_tagger, write_tones


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones of half a window to four windows, in two splits."""
    return write_tones(tmp_path_factory.mktemp("evaluated"), {"train": 2, "test": 3}, seconds=(0.4, 3.5))


def by_hand(tagger: Any, clips: list[Clip]) -> tuple[np.ndarray, np.ndarray]:
    scores = np.array([tagger.scores(clip.path) for clip in clips])
    labels = np.array([[clip.tags.get(tag, 0.0) for tag in TAGS] for clip in clips])
    return labels, scores


@pytest.mark.parametrize("split", ["train", "test", None])
def test_is_scikit_learn_on_the_means_over_windows(tagger: Any, manifest: Path, split: str | None) -> None:
    report = evaluate(tagger, manifest, split, progress=False)
    clips = [clip for clip in read_manifest(manifest).clips if clip.split == (split or "test")]
    labels, scores = by_hand(tagger, clips)
    for index in range(3):
        expected = roc_auc_score(labels[:, index], scores[:, index])
        np.testing.assert_allclose(report.per_tag["roc_auc"][index], expected, atol=1e-9)
        expected = average_precision_score(labels[:, index], scores[:, index])
        np.testing.assert_allclose(report.per_tag["pr_auc"][index], expected, atol=1e-9)
    np.testing.assert_allclose(report.roc_auc, np.mean(report.per_tag["roc_auc"]))
    np.testing.assert_allclose(report.pr_auc, np.mean(report.per_tag["pr_auc"]))
    assert (report.n_clips, report.split, report.failed) == (len(clips), split or "test", ())
    assert list(report.per_tag["n_positive"]) == [len(clips) // 3] * 3


def test_prepared_data_gives_the_same(tagger: Any, manifest: Path, tmp_path: Path) -> None:
    prepared = prepare(read_manifest(manifest), tmp_path / "prepared", RATE, 1.0)
    expected = evaluate(tagger, manifest, progress=False)
    for data in (prepared, tmp_path / "prepared"):
        found = evaluate(tagger, data, progress=False)
        np.testing.assert_allclose(found.per_tag["roc_auc"], expected.per_tag["roc_auc"], atol=1e-9)
        np.testing.assert_allclose(found.per_tag["pr_auc"], expected.per_tag["pr_auc"], atol=1e-9)
        assert found.n_clips == 9
    assert evaluate(tagger, prepared, "train", progress=False).n_clips == 6


def test_prepared_at_another_rate(tagger: Any, manifest: Path, tmp_path: Path) -> None:
    prepared = prepare(read_manifest(manifest), tmp_path / "prepared", 8000, 1.0)
    with pytest.raises(ManifestError, match="expected audio prepared at 16000 Hz. Received: 8000 Hz"):
        evaluate(tagger, prepared, progress=False)


def test_files_that_cannot_be_read(tagger: Any, manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_text("no audio")
    cut = tmp_path / "cut.flac"
    soundfile.write(cut, noise(6 * RATE), RATE)
    cut.write_bytes(cut.read_bytes()[:-20000])
    whole = read_manifest(manifest)
    clips = [clip for clip in whole.clips if clip.split == "test"]
    bad = [Clip(str(tmp_path / name), {"low": 1.0}, split="test") for name in ("broken.wav", "none.wav", "cut.flac")]
    mixed = Manifest((bad[0], *clips[:4], bad[1], bad[2], *clips[4:]), whole.tags)
    report = evaluate(tagger, Manifest(tuple(clips), whole.tags), progress=False)
    found = evaluate(tagger, mixed, progress=False)
    assert sorted(Path(entry["path"]).name for entry in found.failed) == ["broken.wav", "cut.flac", "none.wav"]
    assert all(Path(entry["path"]).name in entry["reason"] for entry in found.failed)
    assert (found.n_clips, found.roc_auc) == (report.n_clips, report.roc_auc)
    with pytest.raises(ManifestError, match=r"expected clips that can be read. Received: .*broken\.wav"):
        evaluate(tagger, Manifest((bad[0], bad[1]), whole.tags), progress=False)


def test_excerpts_are_scored_alone(tagger: Any, tmp_path: Path) -> None:
    path = tmp_path / "two.wav"
    wave = noise(4 * RATE)
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    times = [(0.0, 1.5), (1.5, 2.0), (2.0, None)]
    clips = tuple(Clip(str(path), {TAGS[index]: 1.0}, start, end) for index, (start, end) in enumerate(times))
    report = evaluate(tagger, Manifest(clips, TAGS), progress=False)
    pieces = [wave[int(start * RATE) : None if end is None else int(end * RATE)] for start, end in times]
    scores = np.array([tagger.scores((piece, RATE)) for piece in pieces])
    expected = [roc_auc_score(np.eye(3)[:, index], scores[:, index]) for index in range(3)]
    np.testing.assert_allclose(report.per_tag["roc_auc"], expected)
    assert (report.n_clips, report.split) == (3, "all")


def test_soft_labels_count_above_the_threshold(tagger: Any, manifest: Path) -> None:
    clips = [clip for clip in read_manifest(manifest).clips if clip.split == "test"]
    soft = [0.1, 0.3, 0.45, 0.55, 0.6, 0.7, 0.8, 0.9, 1.0]
    data = Manifest(tuple(Clip(clip.path, {"low": label}) for clip, label in zip(clips, soft, strict=True)), ("low",))
    scores = np.array([tagger.scores(clip.path)[TAGS.index("low")] for clip in clips])
    for positive, count in ((0.5, 6), (0.75, 3)):
        report = evaluate(tagger, data, positive=positive, progress=False)
        assert list(report.per_tag["n_positive"]) == [count]
        expected = roc_auc_score(np.array(soft) > positive, scores)
        np.testing.assert_allclose(report.roc_auc, expected)


def test_only_shared_tags_are_scored(tagger: Any, manifest: Path, tmp_path: Path) -> None:
    whole = read_manifest(manifest)
    clips = tuple(Clip(clip.path, {**clip.tags, "loud": 1.0}, split=clip.split) for clip in whole.clips)
    report = evaluate(tagger, Manifest(clips, ("loud", "mid", "low")), progress=False)
    assert list(report.per_tag["tag"]) == ["low", "mid"]
    assert report.unknown_tags == ("loud",)
    with pytest.raises(ManifestError, match=r"the model's tags \(high, low, mid\). Received: loud"):
        evaluate(tagger, Manifest(clips, ("loud",)), progress=False)


def test_tags_that_only_one_side_has_are_counted(tagger: Any, manifest: Path) -> None:
    clips = [clip for clip in read_manifest(manifest).clips if clip.split == "test"]
    renamed = tuple(
        Clip(clip.path, {"loud" if tag == "mid" else tag: 1.0 for tag in clip.tags}, split="test") for clip in clips
    )
    report = evaluate(tagger, Manifest(renamed, ("high", "loud", "low")), progress=False)
    assert (report.unknown_tags, report.n_unknown_clips, report.missing_tags) == (("loud",), 3, ("mid",))
    assert "Clips that have only such tags, and count as clips without the others: 3 of 9." in str(report)
    # The vocabulary has a tag that no clip of the split has.
    of_split = evaluate(tagger, Manifest(renamed, ("high", "mid", "low")), progress=False)
    assert (of_split.unknown_tags, of_split.n_unknown_clips, of_split.missing_tags) == ((), 0, ("mid",))
    assert evaluate(tagger, Manifest(tuple(clips), TAGS), progress=False).warning() == ""


def test_scores_that_are_not_finite(manifest: Path) -> None:
    broken = random_tagger()
    broken.model.weights[-1].assign(np.full(broken.model.weights[-1].shape, np.nan))
    with pytest.raises(ModelError, match="expected a model whose scores are finite"):
        evaluate(broken, manifest, progress=False)


def test_unknown_split_and_missing_data(tagger: Any, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="split: expected one of test, train. Received: 'valid'"):
        evaluate(tagger, manifest, "valid", progress=False)
    with pytest.raises(ManifestError, match=r"data: expected pairs of \(path, tags\)\. Received: .*manifest\.csv"):
        evaluate(tagger, [str(manifest)], progress=False)
    with pytest.raises(ManifestNotFoundError, match="nothing"):
        evaluate(tagger, tmp_path / "nothing", progress=False)


@pytest.mark.parametrize("kind", ["files", "prepared"])
def test_chunks_are_evenly_spaced(tagger: Any, manifest: Path, tmp_path: Path, kind: str) -> None:
    """The mean over chunks as the papers' code cuts them, of clips shorter and longer than a chunk."""
    whole = read_manifest(manifest)
    data = whole if kind == "files" else prepare(whole, tmp_path / "prepared", RATE, 1.0)
    report = evaluate(tagger, data, progress=False, n_chunks=5)
    assert report.n_chunks == 5
    size = tagger.model.crop_samples
    lengths = set()
    for clip, found in zip(report.clip_scores.clips, report.clip_scores.scores, strict=True):
        wave, _ = soundfile.read(clip, dtype="float32")
        hop = max((len(wave) - size) // 5, 0)
        pieces = [wave[i * hop : i * hop + size] for i in range(5)] if hop else [wave]
        lengths.add(len(pieces))
        expected = np.mean([tagger.model.analyze(piece[None], ("tags",))["tags"][0] for piece in pieces], axis=0)
        np.testing.assert_allclose(found, expected, atol=2e-4 if kind == "prepared" else 1e-6)
    assert lengths == {1, 5}
    labels, scores = report.clip_scores.labels, report.clip_scores.scores
    expected = np.mean([average_precision_score(labels[:, i], scores[:, i]) for i in range(3)])
    np.testing.assert_allclose(report.pr_auc, expected)


def test_intervals_are_of_the_seed(tagger: Any, manifest: Path) -> None:
    first, same, other = (
        evaluate(tagger, manifest, "train", progress=False, resamples=40, seed=seed).intervals for seed in (1, 1, 2)
    )
    assert first == same
    assert first["roc_auc"] != other["roc_auc"]
    assert (first["resamples"], first["seed"], set(first["per_tag"])) == (40, 1, set(TAGS))
    assert evaluate(tagger, manifest, progress=False, resamples=0).intervals == {}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"n_chunks": -1}, "n_chunks: expected a whole number of 0 or more. Received: -1"),
        ({"n_chunks": 2.5}, "n_chunks: expected a whole number"),
        ({"resamples": -1}, "resamples: expected"),
        ({"positive": 1.0}, "positive: expected 0 <= label < 1"),
        ({"min_positives": 0}, "min_positives: expected at least 1"),
    ],
)
def test_impossible_options(tagger: Any, manifest: Path, option: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        evaluate(tagger, manifest, progress=False, **option)


def test_report_is_plain_numbers(tagger: Any, manifest: Path) -> None:
    content = json.dumps(evaluate(tagger, manifest, progress=False).to_dict())
    assert json.loads(content)["n_tags_scored"] == 3
