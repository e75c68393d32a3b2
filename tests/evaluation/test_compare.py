"""`compare`: pairing, alignment, what it refuses, and how often it is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

import keras_tagger as kt
from keras_tagger.errors import ModelError, ModelNotFoundError
from keras_tagger.evaluation.bootstrap import bootstrap_intervals
from keras_tagger.evaluation.clip_scores import ClipScores
from keras_tagger.evaluation.compare import Comparison, compare
from keras_tagger.evaluation.report import Report, counted_tags, load_report, macro, score

TAGS = ("a", "b")


def report_of(labels: np.ndarray, scores: np.ndarray, clips: tuple[str, ...] = (), correct: np.ndarray | None = None):
    table = score(labels, scores, TAGS)
    clips = clips or tuple(f"/music/{i}.wav" for i in range(len(labels)))
    found = ClipScores(clips, TAGS, labels.astype(np.float32), scores, 0.5, counted_tags(table), correct)
    return Report(macro(table, "roc_auc"), macro(table, "pr_auc"), table, len(labels), "test", clip_scores=found)


def pair(n_clips: int = 200, gain: float = 0.0, seed: int = 0) -> tuple[Report, Report]:
    """Two models of the same clips: both hear a common part, the second `gain` more of the labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.uniform(size=(n_clips, 2)) < 0.3).astype(float)
    common = labels + rng.standard_normal(labels.shape)
    first = common + 0.3 * rng.standard_normal(labels.shape)
    second = common + gain * labels + 0.3 * rng.standard_normal(labels.shape)
    return report_of(labels, first), report_of(labels, second)


def test_numbers_are_the_reports() -> None:
    a, b = pair(gain=0.5)
    found = compare(a, b, resamples=200)
    assert kt.compare is compare
    assert isinstance(found, Comparison)
    for name in ("roc_auc", "pr_auc"):
        of = found.numbers[name]
        assert of.a == pytest.approx(getattr(a, name), abs=1e-12)
        assert of.b == pytest.approx(getattr(b, name), abs=1e-12)
        assert of.difference == pytest.approx(of.b - of.a, abs=1e-15)
        assert of.low < of.difference < of.high
    scores = b.clip_scores
    present = scores.labels[:, 1] > 0.5
    assert found.per_tag["b"]["roc_auc"].b == pytest.approx(roc_auc_score(present, scores.scores[:, 1]), abs=1e-12)
    assert found.per_tag["b"]["pr_auc"].b == pytest.approx(
        average_precision_score(present, scores.scores[:, 1]), abs=1e-12
    )


def test_a_model_is_no_better_than_itself() -> None:
    a, _ = pair()
    of = compare(a, a, resamples=100).numbers["pr_auc"]
    assert (of.difference, of.low, of.high, of.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_better_model_is_told() -> None:
    a, b = pair(gain=0.5)
    of = compare(a, b, resamples=400).numbers["roc_auc"]
    assert of.low > 0
    assert of.p_value == pytest.approx(2 / 401)  # no resample says otherwise
    back = compare(b, a, resamples=400).numbers["roc_auc"]
    assert (back.difference, back.low, back.high) == pytest.approx((-of.difference, -of.high, -of.low), abs=1e-12)
    assert back.p_value == of.p_value


def test_pairing_takes_out_what_clips_do_to_both() -> None:
    a, b = pair(gain=0.1)
    of = compare(a, b, resamples=400).numbers["roc_auc"]
    alone = [bootstrap_intervals(report.clip_scores, 400)["roc_auc"] for report in (a, b)]
    unpaired = np.sqrt(sum((high - low) ** 2 for low, high in alone))
    assert of.high - of.low < 0.6 * unpaired


def test_equal_models_are_called_different_rarely() -> None:
    p_values = [compare(*pair(80, seed=seed), resamples=150).numbers["roc_auc"].p_value for seed in range(60)]
    # 5 % of 60 are 3; 9 or more are less likely than 1 in 300.
    assert sum(p < 0.05 for p in p_values) < 9
    assert np.mean(np.array(p_values) > 0.5) > 0.25


def test_clips_are_matched_by_name_and_others_left_out() -> None:
    a, b = pair(50, gain=0.2)
    order = np.random.default_rng(3).permutation(50)[:40]
    scores = b.clip_scores
    some = report_of(scores.labels[order], scores.scores[order], tuple(scores.clips[i] for i in order))
    found = compare(a, some, resamples=50)
    assert (found.n_clips, found.left_out) == (40, 10)
    assert "40 clips of both (10 clips that only one report has are left out), 2 tags" in str(found)
    assert compare(some, a, resamples=50).left_out == 10
    kept = sorted(order)
    both = [report_of(r.clip_scores.labels[kept], r.clip_scores.scores[kept]) for r in (a, b)]
    assert found.numbers == compare(*both, resamples=50).numbers


def test_tags_that_count_in_both_are_compared() -> None:
    a, b = pair(gain=0.3)
    some = dataclasses.replace(b, clip_scores=dataclasses.replace(b.clip_scores, counted=np.array([False, True])))
    both = compare(a, b, resamples=50)
    for found in (compare(a, some, resamples=50), compare(some, b, resamples=50)):
        assert (found.tags, list(found.per_tag)) == (("b",), ["b"])
    found = compare(a, some, resamples=50)
    for name in ("roc_auc", "pr_auc"):
        assert dataclasses.astuple(found.numbers[name]) == pytest.approx(dataclasses.astuple(both.per_tag["b"][name]))


def test_unknown_labels_do_not_count() -> None:
    a, b = (report.clip_scores for report in pair(60, gain=0.3))
    labels = a.labels.copy()
    labels[:20, 1] = np.nan
    found = compare(report_of(labels, a.scores), report_of(labels, b.scores), resamples=50)
    for side, scores in (("a", a.scores), ("b", b.scores)):
        expected = roc_auc_score(labels[20:, 1], scores[20:, 1])
        assert getattr(found.per_tag["b"]["roc_auc"], side) == pytest.approx(expected, abs=1e-12)


def test_a_tag_that_all_common_clips_lack_is_left_out() -> None:
    a, b = (report.clip_scores for report in pair(60, gain=0.3))
    labels = a.labels.copy()
    labels[:30, 1] = 0.0
    part = report_of(labels[:30], b.scores[:30])
    # As if the report had been made of more clips.
    part = dataclasses.replace(part, clip_scores=dataclasses.replace(part.clip_scores, counted=np.ones(2, bool)))
    found = compare(report_of(labels, a.scores), part, resamples=50)
    assert (found.tags, found.n_clips, found.left_out) == (("a",), 30, 30)
    assert np.isfinite(dataclasses.astuple(found.numbers["roc_auc"])).all()


def test_numbers_that_do_not_exist_are_none() -> None:
    a, b = (report.clip_scores for report in pair(30))
    unknown = np.full(30, np.nan, np.float32)
    reports = [report_of(side.labels, side.scores, correct=unknown) for side in (a, b)]
    content = json.loads(json.dumps(compare(*reports, resamples=20).to_dict(), allow_nan=False))
    assert set(content["accuracy"].values()) == {None}
    assert content["roc_auc"]["a"] is not None


def test_accuracy_is_compared() -> None:
    labels = np.eye(2)[np.arange(40) % 2]
    scores = labels + 0.1 * np.random.default_rng(0).standard_normal(labels.shape)
    right = np.ones(40, np.float32)
    wrong = np.where(np.arange(40) < 10, 0, right).astype(np.float32)
    found = compare(report_of(labels, scores, correct=wrong), report_of(labels, scores, correct=right), 200)
    of = found.numbers["accuracy"]
    assert (of.a, of.b, of.difference) == (0.75, 1.0, 0.25)
    assert 0 < of.low < 0.25 < of.high


def test_saved_reports_compare_alike(tmp_path) -> None:
    a, b = pair(60, gain=0.3)
    for name, report in (("a", a), ("b", b)):
        report.save(tmp_path / name)
    assert sorted(entry.name for entry in (tmp_path / "a").iterdir()) == [
        *("report.csv", "report.html", "report.json", "scores.npz")
    ]
    loaded = load_report(tmp_path / "a")
    np.testing.assert_array_equal(loaded.clip_scores.scores, a.clip_scores.scores)
    found = compare(tmp_path / "a", str(tmp_path / "b" / "report.json"), resamples=50)
    assert found.numbers == compare(a, b, resamples=50).numbers
    content = json.loads(json.dumps(found.to_dict()))
    assert (content["n_clips"], content["n_tags"], content["a"]) == (60, 2, str(tmp_path / "a"))
    assert content["roc_auc"]["difference"] == found.numbers["roc_auc"].difference
    lines = [line.split() for line in str(found).splitlines()]
    for name, of in (("macro PR-AUC", found.numbers["pr_auc"]), ("b", found.per_tag["b"]["pr_auc"])):
        numbers = f"{of.a:.4f} {of.b:.4f} {of.difference:+.4f} {of.low:+.4f} to {of.high:+.4f} {of.p_value:.3f}"
        assert f"{name} {numbers}".split() in lines


def test_short_forms_for_notebooks() -> None:
    found = dataclasses.replace(compare(*pair(60, gain=0.3), resamples=50), names=("<a>", "b"))
    of = found.numbers["pr_auc"]
    assert repr(found).startswith("<Comparison: b minus <a>, macro ROC-AUC ")
    assert repr(found).endswith(f"macro PR-AUC {of.difference:+.4f}>")
    html = found._repr_html_()
    for shown in ("A: &lt;a&gt;, B: b, 60 clips of both, 2 tags", f"{of.a:.4f}", f"{of.low:+.4f} to {of.high:+.4f}"):
        assert shown in html


def test_what_cannot_be_compared(tmp_path) -> None:
    a, b = pair(30)
    scores = b.clip_scores
    with pytest.raises(ModelError, match="expected two reports on the same clips"):
        compare(a, report_of(scores.labels, scores.scores, tuple(f"x{i}" for i in range(30))))
    changed = scores.labels.copy()
    changed[3, 1] = 1 - changed[3, 1]
    with pytest.raises(ModelError, match=r"the same labels in both reports. Received: b of '/music/3\.wav' is"):
        compare(a, report_of(changed, scores.scores))
    with pytest.raises(ModelError, match=r"the scores of every clip .* Received: B without them"):
        compare(a, dataclasses.replace(b, clip_scores=None))
    with pytest.raises(ModelError, match="a common scored tag. Received: a, b and c, d"):
        compare(a, dataclasses.replace(b, clip_scores=dataclasses.replace(scores, tags=("c", "d"))))
    unscored = dataclasses.replace(scores, counted=np.zeros(2, bool))
    with pytest.raises(ModelError, match=r"a common scored tag. Received: a, b and none\."):
        compare(a, dataclasses.replace(b, clip_scores=unscored))
    with pytest.raises(ModelError, match=r"the same label threshold in both reports\. Received: 0\.5 and 0\.25"):
        compare(a, dataclasses.replace(b, clip_scores=dataclasses.replace(scores, positive=0.25)))
    with pytest.raises(ModelError, match="resamples of at least 1"):
        compare(a, b, resamples=0)
    with pytest.raises(ModelNotFoundError, match="expected a report.json or its directory"):
        compare(tmp_path, a)
    a.save(tmp_path)
    (tmp_path / "scores.npz").write_bytes(b"PK no")
    with pytest.raises(ModelError, match="expected the clip scores of a report"):
        compare(tmp_path, a)
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(ModelError, match=r"expected a report\.json"):
        compare(tmp_path, a)


def test_numbers_of_draws_are_whole() -> None:
    a, b = pair(30)
    for wrong in ({"resamples": 2.5}, {"resamples": True}, {"seed": 0.5}, {"resamples": "10"}):
        with pytest.raises(ModelError, match="expected whole numbers of resamples and seed. Received: "):
            compare(a, b, **wrong)


def test_clips_with_one_name_are_matched_in_their_order() -> None:
    a, b = pair(60, gain=0.3)
    names = tuple(f"/music/{i // 2}.wav" for i in range(60))
    twice = [report_of(side.clip_scores.labels, side.clip_scores.scores, names) for side in (a, b)]
    found, expected = compare(*twice, resamples=50), compare(a, b, resamples=50)
    assert (found.n_clips, found.left_out) == (60, 0)
    assert found.numbers == expected.numbers


DAMAGE = {
    "labels": np.full((30, 2), "x"),
    "scores": np.full((30, 2), np.nan),
    "counted": np.ones(3, bool),
    "correct": np.ones(29, np.float32),
    "clips": np.arange(30),
    "positive": np.float64("nan"),
    "tags": np.array(["a"]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_clip_scores_that_are_none(name: str, tmp_path) -> None:
    a, b = pair(30)
    b.save(tmp_path)
    arrays = dict(np.load(tmp_path / "scores.npz"))
    np.savez(tmp_path / "scores.npz", **{**arrays, name: DAMAGE[name]})
    with pytest.raises(
        ModelError, match=r"expected the clip scores of a report\. Received: .*scores\.npz, w"
    ) as caught:
        compare(a, tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_clip_scores(tmp_path) -> None:
    """Any byte may be another, and the file may end anywhere."""
    a, b = pair(30)
    b.save(tmp_path)
    path = tmp_path / "scores.npz"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:length] for length in (0, 1, 100, len(whole) // 2, len(whole) - 1)]
    for _ in range(60):
        content = bytearray(whole)
        for place in rng.integers(len(whole), size=20):
            content[place] ^= int(rng.integers(1, 256))
        damaged.append(bytes(content))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        with contextlib.suppress(ModelError):
            compare(a, tmp_path, resamples=1)
            continue
        refused += 1
    # Bytes of the archive's own notes (dates) may be anything.
    assert refused >= 60
