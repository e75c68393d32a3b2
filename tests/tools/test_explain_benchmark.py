"""tools/explain_benchmark.py and explain_cases.py: what is measured, on models and clips whose answer is known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import explain_benchmark as benchmark
import numpy as np
import pytest
import soundfile
from explain_cases import Case, excerpts, pairs, solos

from keras_tagger import audio
from keras_tagger.errors import ManifestError
from keras_tagger.explain import DEFAULT_METHOD, METHODS
from keras_tagger.explain.faithfulness import Perturbed
from tiny import RATE, noise, tone


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tracks of 16 s with dense labels, "low" in two, once with an unsure patch; and one that is too short."""
    folder = tmp_path_factory.mktemp("labelled")
    rows = []
    for index, (low, worst, seconds) in enumerate(((0.9, 0.9, 16), (0.9, 0.3, 16), (0.02, 0.02, 16), (0.9, 0.9, 9))):
        soundfile.write(folder / f"{index}.wav", noise(seconds * RATE, seed=index), RATE)
        values = np.full((9, 2), 0.5, np.float32)
        values[:, 0] = low
        values[4, 0] = worst
        np.savez(
            folder / f"{index}.npz",
            values=values,
            tags=["low", "high"],
            hop_seconds=1.5,
            length_seconds=3.0,
            pool="mean",
        )
        name = {"path": f"{index}.wav", "labels": f"{index}.npz", "tags": {}, "split": "test", "group": f"g{index}"}
        rows.append(name)
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


def test_pairs_have_the_tag_in_every_moment_of_one_half(labelled: Path) -> None:
    cases = pairs(labelled, ("low", "high"), RATE, 4)
    with_tag, without = (audio.load(labelled.parent / f"{index}.wav", RATE, 4.0, 14.0) for index in (0, 2))
    for number, case in enumerate(cases):
        first = number % 2 == 0
        assert case.tag == "low"
        assert case.intervals == [(0.0, 10.0) if first else (10.0, math.inf)]
        expected = np.concatenate((with_tag, without) if first else (without, with_tag))
        np.testing.assert_allclose(case.waveform, expected, atol=1e-4)
    # By the means the unsure track counts too: 0.78 over the five patches within.
    loose = pairs(labelled, ("low", "high"), RATE, 12, strict=False)
    assert len({case.waveform[:RATE].tobytes() for case in loose}) == 3
    with pytest.raises(ManifestError, match="expected 1 pairs with and without a tag. Received: 0"):
        pairs(labelled, ("high",), RATE, 1)
    with pytest.raises(ManifestError, match="expected clips of split 'train' with dense labels. Received: none"):
        pairs(labelled, ("low",), RATE, 1, split="train")
    assert [len(clip) for clip in excerpts(labelled, RATE, 2.0, 3)] == [2 * RATE] * 3
    with pytest.raises(ManifestError, match="expected 4 tracks of split 'test'. Received: 3"):
        excerpts(labelled, RATE, 6.0, 4)


def test_solos_of_tags_that_the_model_has(tmp_path: Path) -> None:
    rows = []
    for index, target in enumerate(("sitar", "low")):
        soundfile.write(tmp_path / f"{index}.flac", noise(RATE, seed=index), RATE)
        (tmp_path / f"{index}.json").write_text(json.dumps({"tags": {target: [[0.25, 0.5]]}}))
        rows.append({"path": f"{index}.flac", "labels": f"{index}.json", "tags": {}, "target": target})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (case,) = solos(tmp_path / "manifest.jsonl", ("low", "mid"), RATE, 1)
    assert (case.tag, case.intervals, case.waveform.shape) == ("low", [[0.25, 0.5]], (RATE,))
    with pytest.raises(ManifestError, match="expected 2 clips of solos. Received: 1"):
        solos(tmp_path / "manifest.jsonl", ("low", "mid"), RATE, 2)


def test_a_model_that_knows_its_tones_is_found_to_point_at_them(tiny_run: Any) -> None:
    cases = [
        Case(np.concatenate([tone(150.0, 2.0, seed), tone(3000.0, 2.0, seed + 9)]), "low", [(0.0, 2.0)])
        for seed in range(3)
    ]
    for method in ("contributions", "taggram"):
        rows = [benchmark.localized(tiny_run.tagger, case, method) for case in cases]
        assert {row["tag"] for row in rows} == {"low"}
        if method == "contributions":
            # The token at the boundary hears both.
            assert np.mean([row["roc_auc"] for row in rows]) > 0.9
            assert np.mean([row["pointing"] for row in rows]) == 1.0
        else:
            # Columns centred on 1.472 and 3.472 s meet at 2.472 s: three of the other tone's 16 tokens are in the
            # first. Either column may be the higher one, as the second window begins at 1.152 s.
            area = (13 + 0.5 * 3) / 16
            assert all(min(row["roc_auc"], 1 - row["roc_auc"]) == pytest.approx(1 - area) for row in rows)


def test_faithfulness_of_a_clip_by_hand(tagger: Any) -> None:
    """Seven tokens taken away, and put back, one after the other from the highest contribution on."""
    clip = noise(tagger.model.window_samples)
    row = benchmark.faithful_row(tagger, clip, "contributions")
    scores = tagger.scores((clip, RATE))
    best = int(np.argmax(scores))
    values = tagger.contributions((clip, RATE)).values[best].astype(np.float64)
    score = Perturbed(tagger.model, clip, best)
    order = np.argsort(-values)
    first = np.array([np.isin(np.arange(7), order[:count]) for count in range(8)])
    falling, rising, alone = score(first), score(~first), score(np.eye(7, dtype=bool))
    expected = {
        "deletion": np.mean((falling[1:] + falling[:-1]) / 2),
        "insertion": np.mean((rising[1:] + rising[:-1]) / 2),
        "removal": np.corrcoef(values, scores[best] - alone)[0, 1],
        "whole": scores[best],
        "part": rising[2],  # of 7 tokens, 5 are 75 %
        "gini": np.abs(values[:, np.newaxis] - values).mean() / (2 * values.mean()),
        "entropy": -np.sum(values / values.sum() * np.log(values / values.sum())) / np.log(7),
    }
    assert list(row) == list(expected)
    for name, value in expected.items():
        # Scores hardly differ with random weights, which makes little of the digits of a correlation.
        assert row[name] == pytest.approx(value, abs=0.01 if name == "removal" else 1e-5), name
    assert np.ptp(falling) > 1e-4


@pytest.mark.parametrize("which", ["tagger", "post_norm_tagger"])
def test_contributions_are_whole_passes_with_a_masked_last_layer(which: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which).model
    wave = noise(6000, batch=2)
    every = benchmark.brute_force(model)
    found = model.analyze(wave, ("contributions",))["contributions"].numpy()
    expected = np.stack([every(wave, token) for token in range(found.shape[2] + 1)], axis=-1)[..., 1:]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(found, axis=-1).max() > 1e-3


def rows(area: float, count: int = 4, tag: str = "low") -> list[dict[str, Any]]:
    return [{"tag": tag, "pointing": 1.0, "iou": 0.5, "roc_auc": area} for _ in range(count)]


def test_tables_of_localisation_by_hand() -> None:
    where = {name: {method: rows(0.5) for method in METHODS} for name in ("pairs", "solos")}
    where["pairs"]["rollout"], where["solos"]["relevance"] = rows(0.9), rows(0.99)
    assert benchmark.choice_text(where) == (
        "By mean ROC-AUC over both sets the best method is `relevance` (0.745: 0.500 on joined clips, 0.990 on solos); "
        "`rollout` is best on joined clips (0.900) and `relevance` on solos (0.990). "
        f"The default of `explain` is `{DEFAULT_METHOD}` (0.500)."
    )
    # A mean over unlike cases.
    where["pairs"]["rollout"] = [*rows(0.9, 3), {"tag": "high", "pointing": 0.0, "iou": 0.25, "roc_auc": 0.5}]
    lines = benchmark.where_table(where["pairs"]).splitlines()
    assert lines[2] == "| rollout | 4 | 0.750 | 0.438 | 0.800 |"
    assert len(lines) == 2 + len(METHODS)
    areas = {DEFAULT_METHOD: (0.9, 0.6), "contributions": (0.8, 0.5), "taggram": (0.7, 0.4), "random": (0.1, 0.2)}
    found = {method: [*rows(low, 3), *rows(high, 2, "high")] for method, (low, high) in areas.items()}
    assert benchmark.instruments_table(found).splitlines() == [
        f"| instrument | clips | {DEFAULT_METHOD} | contributions | taggram |",
        "|---|---|---|---|---|",
        "| high | 2 | 0.600 | 0.500 | 0.400 |",
        "| low | 3 | 0.900 | 0.800 | 0.700 |",
    ]


def faithful(deletion: float, insertion: float, part: float, other: float) -> dict[str, float]:
    names = ("deletion", "insertion", "whole", "part", "removal", "gini", "entropy")
    return dict(zip(names, (deletion, insertion, 0.5, part, other, other + 0.1, other + 0.2), strict=True))


def test_other_tables_by_hand() -> None:
    # Half the score is lost in the first clip, a fifth of the way to 1 won in the second; chance wins there.
    found = {
        "random": [faithful(0.2, 0.3, 0.25, 0.5)] * 3,
        "contributions": [faithful(0.1, 0.6, 0.25, 0.2), faithful(0.3, 0.3, 0.6, 0.6), faithful(0.2, 0.45, 0.5, 0.4)],
    }
    assert benchmark.faithful_table(found).splitlines()[2:] == [
        "| contributions | 0.200 | 0.450 | 2 of 3 | 0.400 | 0.167 | 0.333 | 0.067 | 0.500 | 0.600 |",
        "| random | 0.200 | 0.300 | - | 0.500 | 0.500 | 0.000 | 0.000 | 0.600 | 0.700 |",
    ]
    sanity = benchmark.sanity_table({"rollout": [{"head": 1.0, "front-end": 0.123}]})
    assert sanity.splitlines() == ["| method | head | front-end |", "|---|---|---|", "| rollout | 1.00 | 0.12 |"]
    cost = {"methods": {"a": 0.02, "b": 0.01}, "pass": 0.005, "contributions": 0.006, "passes": 0.42, "tokens": 80}
    assert benchmark.cost_table(cost).splitlines()[2:] == ["| b | 10.0 | 2.0 |", "| a | 20.0 | 4.0 |"]
    assert benchmark.contributions_text({**cost, "apart": 2.5e-7}) == (
        "Contributions of T = 80 tokens take 6.0 ms, and 81 forward passes with a masked last layer 420 ms: "
        "70 times as long, for values that differ by 2.5e-07 at most."
    )


def test_what_is_measured_is_kept_for_the_weights(tagger: Any, post_norm_tagger: Any, tmp_path: Path) -> None:
    calls: list[int] = []

    def one(index: int) -> dict[str, Any]:
        calls.append(index)
        return {"number": index}

    kept = benchmark.KeptResults(tmp_path, tagger)
    assert kept.rows("a b", 3, one) == [{"number": 0}, {"number": 1}, {"number": 2}]
    assert benchmark.KeptResults(tmp_path, tagger).rows("a b", 2, one) == [{"number": 0}, {"number": 1}]
    assert len(kept.rows("a b", 4, one)) == 4
    assert calls == [0, 1, 2, 3]  # only what was missing
    benchmark.KeptResults(tmp_path, post_norm_tagger).rows("a b", 1, one)
    assert calls == [0, 1, 2, 3, 0]

    def fails(index: int) -> dict[str, Any]:
        if index == 14:
            raise ManifestError("stopped")
        return {"number": index}

    with pytest.raises(ManifestError, match="stopped"):
        kept.rows("c", 20, fails)
    assert len(kept.rows("c", 20, one)) == 20
    assert calls[5:] == list(range(10, 20))  # ten of the fourteen were written


def test_the_page_has_every_mark() -> None:
    text = (Path(benchmark.__file__).parents[1] / "docs/explanations.md").read_text("utf-8")
    names = ("choice", "pairs", "loose", "solos", "instruments", "faithfulness", "sanity", "cost", "contributions")
    for name in names:
        assert text.count(f"<!-- explain {name} -->") == 1
    assert text.count("<!-- explain ") == text.count("<!-- end -->") == len(names)
    for method in METHODS:
        assert f"`{method}`" in text
