"""The programs around the teacher: cutting clips, joining manifests, measuring."""

from __future__ import annotations

import csv
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

import tiny
from keras_tagger import audio
from keras_tagger.data.manifest import label_matrix, read_manifest
from keras_tagger.errors import ManifestError
from pretrain import clips, join, measure


@pytest.fixture
def corpus(tmp_path):
    """Three tracks of 65, 40 and 8 s, of packages of different splits, and one that is broken."""
    rows = []
    for name, package, seconds in (
        ("a", "naev-data", 65),
        ("b", "warmux-data", 40),
        ("d", "zaz-data", 0),
        ("c", "zaz-data", 8),
    ):
        path = tmp_path / "corpus" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, tiny.noise(seconds * 16000, seed=seconds), 16000)
        rows.append(
            {
                "path": path.name,
                "tags": package,
                "package": package,
                "group": f"{package}/{name}",
                "track": name,
                "licence": "X",
            }
        )
    with open(tmp_path / "corpus/manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "corpus"


def test_tracks_are_cut_into_clips_by_package(corpus, tmp_path):
    rows = clips.cut_corpus(corpus, tmp_path / "clips")
    # By hand: 65 = 30 + 35, since 5 s are too short for a clip of their own; 40 = 30 + 10.
    assert [(row["path"], row["seconds"], row["split"]) for row in rows] == [
        ("naev-data/000_0000.flac", 30.0, "train"),
        ("naev-data/000_0001.flac", 35.0, "train"),
        ("warmux-data/000_0000.flac", 30.0, "test"),
        ("warmux-data/000_0001.flac", 10.0, "test"),
        ("zaz-data/001_0000.flac", 8.0, "valid"),
    ]
    assert [(row["tags"], row["package"], row["track"], row["group"], row["licence"]) for row in rows] == [
        ([package], package, track, f"{package}/{track}", "X")
        for package, track in (*[("naev-data", "a")] * 2, *[("warmux-data", "b")] * 2, ("zaz-data", "c"))
    ]
    lines = (tmp_path / "clips/manifest.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows
    manifest = read_manifest(tmp_path / "clips/manifest.jsonl")
    joined = np.concatenate([audio.load(clip.path, 16000) for clip in manifest.clips[:2]])
    np.testing.assert_allclose(joined, audio.load(corpus / "a.wav", 16000), atol=1e-4)
    # What is done is not decoded again.
    (corpus / "a.wav").unlink()
    assert clips.cut_corpus(corpus, tmp_path / "clips") == rows


def test_no_package_is_in_two_splits():
    assert not set(clips.SPLITS["test"]) & set(clips.SPLITS["valid"])
    assert len(clips.SPLITS["test"]) >= 3


def test_manifests_are_joined_without_the_test_split(tmp_path):
    for name, splits in (("a", ("train", "test")), ("b", ("valid",))):
        (tmp_path / name).mkdir()
        tiny_rows = [{"path": f"{s}.wav", "labels": f"{s}.npz", "tags": {}, "split": s} for s in splits]
        (tmp_path / name / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tiny_rows))
    found = join.join([tmp_path / "a/m.jsonl", tmp_path / "b/m.jsonl"], tmp_path / "out/all.jsonl")
    assert [(row["path"], row["labels"], row["split"]) for row in found] == [
        ("../a/train.wav", "../a/train.npz", "train"),
        ("../b/valid.wav", "../b/valid.npz", "valid"),
    ]
    lines = (tmp_path / "out/all.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == found
    both = join.join([tmp_path / "a/m.jsonl"], tmp_path / "out/all.jsonl", test=True)
    assert [row["split"] for row in both] == ["train", "test"]
    manifests = [tmp_path / "a/m.jsonl", tmp_path / "b/m.jsonl"]
    learnt = join.join(manifests, tmp_path / "out/all.jsonl", test=True, learn_valid=True)
    assert [row["split"] for row in learnt] == ["train", "test", "train"]
    # What becomes a training clip is one of so many too.
    fewer = join.join(manifests, tmp_path / "out/all.jsonl", one_in=10**9, learn_valid=True)
    assert fewer == []


def test_a_share_of_the_training_clips(tmp_path):
    rows = [{"path": f"{n}.wav", "tags": {}, "split": "valid" if n % 10 == 0 else "train"} for n in range(400)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = join.join([tmp_path / "m.jsonl"], tmp_path / "quarter.jsonl", one_in=4)
    assert sum(row["split"] == "valid" for row in found) == 40
    kept = [row["path"] for row in found if row["split"] == "train"]
    # By md5sum: the choice is one of names, so it is the same everywhere.
    assert (kept[:6], len(kept)) == (["3.wav", "5.wav", "7.wav", "12.wav", "13.wav", "23.wav"], 93)


def test_ranks_of_equals_are_averaged():
    np.testing.assert_array_equal(measure.ranks_of(np.array([3.0, 1.0, 3.0, 2.0])), [3.5, 1.0, 3.5, 2.0])


def test_a_tagger_measured_against_itself_is_perfect(tmp_path):
    """Labels that are the tagger's own scores: every rank agrees, so do the best five."""
    tags = ("piano", "drums", "flute", "harp", "choir", "sitar")
    tagger = tiny.random_tagger(tags=tags)
    # Scores around 0.4, so that of every tag some clips are above 0.3, and above 0.5, and some are not.
    found = tagger.model.analyze(np.stack([tiny.noise(24000, seed=index) for index in range(12)]), ("tags",))["tags"]
    logits = np.log(found / (1 - found))
    kernel, bias = tagger.model.head.logits.kernel, tagger.model.head.logits.bias
    kernel.assign(kernel / logits.std(axis=0))
    bias.assign((bias - np.median(logits, axis=0)) / logits.std(axis=0) + np.log(0.4 / 0.6))
    rows = []
    for index in range(12):
        soundfile.write(tmp_path / f"{index}.wav", tiny.noise(24000, seed=index), 16000)
        scores = tagger.scores(tmp_path / f"{index}.wav")
        rows.append({"path": f"{index}.wav", "tags": dict(zip(tags, scores.tolist(), strict=True)), "split": "test"})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = read_manifest(tmp_path / "m.jsonl")
    text = measure.real_table(tagger, manifest)
    assert "| overlap of the best 5 tags, mean | 5.000 of 5 |" in text
    assert "| Spearman correlation across clips, mean over all 6 tags | 1.0000 |" in text
    assert text.startswith("12 clips of about 30 s.\n")
    labels = label_matrix((clip.tags for clip in manifest.clips), tags)
    counts = (labels > 0.3).sum(axis=0)
    told = {tag: int(count) for tag, count in zip(tags, counts, strict=True) if 0 < count < 12}
    assert len(told) > 3
    for tag, count in told.items():
        assert f"| {tag} | 1.000 | 1.000 | {count} | 1.000 |" in text
    assert f"| macro ROC-AUC, all {len(told)} tags with a clip | 1.0000 |" in text
    common = sum(min(count, 12 - count) >= 10 for count in told.values())
    assert f"| macro ROC-AUC, {common} tags with at least 10 clips | " in text
    # The labels may have names of their own.
    renamed = [{**row, "tags": {f"msd/{tag}": value for tag, value in row["tags"].items()}} for row in rows]
    (tmp_path / "renamed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in renamed))
    assert measure.real_table(tagger, read_manifest(tmp_path / "renamed.jsonl"), "msd/") == text
    text = measure.scores_table(tagger, manifest, manifest)
    n_positive = int((labels[:, 0] > 0.5).sum())
    assert 0 < n_positive < 12
    # The labels are the scores, so both tell the clips apart without an error.
    assert f"| piano | {n_positive} | {12 - n_positive} | 1.000 | 1.000 |" in text
    # Against the scores of other clips, ranks agree no better than by chance.
    rows = [{**row, "tags": other["tags"]} for row, other in zip(rows, rows[5:] + rows[:5], strict=True)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shifted = read_manifest(tmp_path / "m.jsonl")
    text = measure.real_table(tagger, shifted)
    (spearman,) = re.findall(r"Spearman correlation .* \| (-?[01]\.\d+) \|", text)
    others = label_matrix((clip.tags for clip in shifted.clips), tags)
    ranks = [spearmanr(others[:, i], labels[:, i]).statistic for i in range(6)]
    assert float(spearman) == pytest.approx(np.mean(ranks), abs=1e-3)
    best = [{*np.argsort(-row)[:5]} for row in labels]
    overlap = np.mean([len(best[i] & best[(i + 5) % 12]) for i in range(12)])
    assert f"| overlap of the best 5 tags, mean | {overlap:.3f} of 5 |" in text
    # A teacher who hears other clips stands beside the tagger.
    text = measure.scores_table(tagger, manifest, shifted)
    area = roc_auc_score(labels[:, 0] > 0.5, others[:, 0])
    assert f"| piano | {n_positive} | {12 - n_positive} | 1.000 | {area:.3f} |" in text
    assert "| instrument | clips with it | without | keras_tagger ROC-AUC | teacher ROC-AUC |" in text
    alone = measure.scores_table(tagger, manifest, None)
    assert f"| piano | {n_positive} | {12 - n_positive} | 1.000 |\n" in alone


class PitchTagger:
    """Hears whether each moment's tone is below 1 kHz, by its spectrum: exact, and the same on every processor."""

    tags = ("low", "high")
    model = SimpleNamespace(audio_config=SimpleNamespace(sample_rate=tiny.RATE))

    def contributions(self, audio, tags):
        waveform, rate = audio
        moments = waveform[: len(waveform) // 2048 * 2048].reshape(-1, 2048)
        power = np.abs(np.fft.rfft(moments * np.hanning(2048))) ** 2
        low = np.fft.rfftfreq(2048, 1 / rate) < 1000.0
        share = power[:, low].sum(axis=1) / power.sum(axis=1)
        values = {"low": share, "high": 1.0 - share}
        times = (np.arange(len(moments)) + 0.5) * 2048 / rate
        return SimpleNamespace(values=np.stack([values[tag] for tag in tags]), times=times)


@pytest.mark.parametrize(("truth", "expected"), [(("low", "high"), 1.0), (("high", "low"), 0.0)])
def test_where_points_into_the_right_half(tmp_path, truth, expected):
    """A tagger that hears low and high tones; with the labels the wrong way round it points into the wrong half."""
    tagger = PitchTagger()
    rows = []
    for index, (pitch, tag) in enumerate(zip((150.0, 180.0, 3000.0, 3500.0), np.repeat(truth, 2), strict=True)):
        soundfile.write(tmp_path / f"{index}.wav", tiny.tone(pitch, 10.0, index), 16000)
        rows.append({"path": f"{index}.wav", "tags": [str(tag)], "split": "test", "group": f"g{index}"})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = measure.where_table(tagger, read_manifest(tmp_path / "m.jsonl"), n_pairs=8)
    assert "| pairs | 8 |" in text
    assert f"| pointing | {expected:.3f} |" in text
    # The token on the seam hears both halves.
    (area,) = re.findall(r"\| ROC-AUC over time, mean \| ([01]\.\d+) \|", text)
    assert float(area) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("prefix", ["", "msd/"])
def test_where_there_is_no_pair_a_sentence_says_so(tagger, tmp_path, prefix):
    rows = [{"path": f"{name}.wav", "tags": ["low"], "split": "test", "group": name} for name in "ab"]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ManifestError, match=r"a clip of another group does not have .* Received: none among 2 clips"):
        measure.where_table(tagger, read_manifest(tmp_path / "m.jsonl"), prefix)


def test_a_split_without_clips_is_refused(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"path": "a.wav", "tags": ["low"], "split": "test"}\n')
    assert len(measure.read_split(str(tmp_path / "m.jsonl"), "test")) == 1
    with pytest.raises(ManifestError, match=r"m\.jsonl: expected clips of split 'valid'. Received: none"):
        measure.read_split(str(tmp_path / "m.jsonl"), "valid")


def test_remote_paths_stay_as_they_are(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"path": "s3://music/a.ogg", "tags": []}\n{"path": 7, "tags": []}\n')
    found = join.join([tmp_path / "m.jsonl"], tmp_path / "out" / "all.jsonl")
    assert [row["path"] for row in found] == ["s3://music/a.ogg", "../7"]


def test_another_manifest_is_no_corpus(tmp_path):
    (tmp_path / "manifest.csv").write_text("path,tags\na.wav,x\n")
    with pytest.raises(ManifestError, match=r"expected a manifest of tools/corpus\.py. Received: no column group"):
        clips.cut_corpus(tmp_path, tmp_path / "out")
