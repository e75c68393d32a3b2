"""The comparison of kinds of attention, from data to table, on tones and with the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attention_comparison
import numpy as np
import pytest

import keras_tagger as kt
from keras_tagger.config import parse_override
from keras_tagger.data.prepared import open_prepared
from keras_tagger.errors import ConfigError
from keras_tagger.heatmap import Heatmap

TINY = (
    *("audio.window_seconds=0.5", "model.spectrogram.n_mels=32", "model.front_end.channels=[8, 16, 16]"),
    *("model.encoder.n_layers=1", "model.encoder.n_heads=2", "model.encoder.width=16", "training.batch_size=4"),
    *("training.learning_rate=0.01", "model.encoder.feed_forward=32", "model.head.dropout=0"),
    *("model.encoder.dropout=0", "model.encoder.attention_dropout=0"),
)


def test_one_kind(tones: Path, tmp_path: Path) -> None:
    overrides = {**dict(parse_override(setting) for setting in TINY), "training.epochs": 6}
    given = (str(tones), tmp_path, ["rotary"], ["5"], overrides, 12)
    made = attention_comparison.compare(*given)
    (found,) = made["rotary"]
    # Tones of three pitches are told apart in a few epochs, also in halves of a window.
    assert 0.7 < found["roc_auc"] <= 1.0
    assert 0.6 < found["localisation_roc_auc"] <= 1.0
    assert 0.6 < found["localisation_pointing"] <= 1.0
    # All of it is of the run's own model, of the kind and seed that were asked for.
    tagger = kt.load(tmp_path / "rotary_5")
    assert (tagger.config.model.attention.kind, tagger.config.model.attention.positions) == ("rotary", "none")
    assert (tagger.config.training.seed, tagger.config.training.epochs) == (5, 6)
    report = json.loads((tmp_path / "rotary_5" / "report.json").read_text("utf-8"))
    heard = list(attention_comparison.joined(open_prepared(tmp_path / "prepared"), "test", tagger, 12))
    assert len(heard) == 12
    assert found == {
        **{name: report[name] for name in ("roc_auc", "pr_auc")},
        **{
            f"localisation_{name}": pytest.approx(np.mean([one[name] for one in heard]), abs=1e-3)
            for name in ("roc_auc", "pointing")
        },
    }
    # Started again, it finds everything done.
    written = (tmp_path / "rotary_5" / "measured.json").stat().st_mtime_ns
    assert attention_comparison.compare(*given) == made
    assert (tmp_path / "rotary_5" / "measured.json").stat().st_mtime_ns == written
    # With other settings it does not take what it finds for theirs.
    with pytest.raises(ConfigError, match=r"rotary_5.measured.json: expected measures of the same settings"):
        attention_comparison.compare(*given[:4], {**overrides, "training.epochs": 7}, 12)
    times = attention_comparison.speeds({"rotary": tagger, "again": tagger}, 2)
    assert list(times) == ["rotary", "again"]
    for by_speed in times.values():
        assert set(by_speed) == set(attention_comparison.SPEEDS)
        # Measured anew in every round.
        assert all(len(set(found)) == 2 and min(found) > 0 for found in by_speed.values())


class Oracle:
    """Stands in for a tagger whose map is known: each token's mean sample, or that turned around."""

    def __init__(self, sign: float) -> None:
        self.tags = ("loud", "other")
        self.model = SimpleNamespace(window_samples=750, token_samples=100)
        self.config = SimpleNamespace(data=SimpleNamespace(positive=0.5))
        self.sign = sign
        self.heard: list[list[float]] = []

    def contributions(self, audio: tuple[np.ndarray, int], tags: list[str]) -> Heatmap:
        means = audio[0].reshape(-1, 100).mean(axis=1)
        self.heard.append(means.tolist())
        times = (np.arange(len(means)) + 0.5) * 100 / audio[1]
        return Heatmap(self.sign * means[np.newaxis], tuple(tags), times, "contributions")


@pytest.mark.parametrize(("sign", "value"), [(1.0, 1.0), (-1.0, 0.0)])
def test_localisation_of_what_points_at_the_half_with_the_tag(sign: float, value: float) -> None:
    clips: list[tuple[Any, np.ndarray]] = [
        (SimpleNamespace(tags={"loud": 0.9}), np.repeat([1.0, 5.0], [300, 700])),
        (SimpleNamespace(tags={"loud": 0.05}), np.zeros(1000)),
        # Neither with the tag nor without it, and shorter than half a window.
        (SimpleNamespace(tags={"loud": 0.3}), np.full(1000, 7.0)),
        (SimpleNamespace(tags={"loud": 1.0}), np.full(299, 9.0)),
    ]
    data: Any = SimpleNamespace(sample_rate=100, iter_clips=lambda split: iter(clips))
    oracle: Any = Oracle(sign)
    found = list(attention_comparison.joined(data, "test", oracle, 20))
    assert found == [{"pointing": value, "iou": value, "roc_auc": value}] * 20
    # Of 7.5 tokens a half is three; either half may be the one.
    loud, quiet = [1.0] * 3, [0.0] * 3
    assert {tuple(heard) for heard in oracle.heard} == {(*loud, *quiet), (*quiet, *loud)}
    assert list(attention_comparison.joined(data, "test", oracle, 0)) == []
    del clips[1:]
    assert list(attention_comparison.joined(data, "test", oracle, 20)) == []


def test_table_has_means_and_deviations() -> None:
    def seeds(*numbers: tuple[float, ...]) -> list[dict[str, float]]:
        return [dict(zip(attention_comparison.MEASURES, values, strict=True)) for values in numbers]

    measured = {
        "alibi": seeds((0.5, 0.1, 0.7, 0.7), (0.5, 0.2, 0.7, 0.8), (0.8, 0.3, 0.7, 0.9)),
        "local": seeds((0.25, 0.125, 0.375, 0.75)),
    }
    times = {
        "alibi": {"training_step": [1.0, 2.0, 4.0], "one_window": [1.0] * 3, "eight_windows": [4.0] * 3},
        "local": {"training_step": [4.0, 2.0, 6.0], "one_window": [3.0] * 3, "eight_windows": [2.0] * 3},
    }
    head, _, alibi, local = attention_comparison.table(measured, times).splitlines()
    assert head == (
        "| attention | seeds | roc auc | pr auc | localisation roc auc | localisation pointing "
        "| training step | one window | eight windows |"
    )
    # The sample deviation of 0.5, 0.5 and 0.8 is the root of 0.03.
    assert alibi == (
        "| alibi | 3 | 0.600 ± 0.173 | 0.200 ± 0.100 | 0.700 ± 0.000 | 0.800 ± 0.100 "
        "| 1.00 (1.00-1.00) | 1.00 (1.00-1.00) | 1.00 (1.00-1.00) |"
    )
    # Ratios to the first kind within each round, 4, 1 and 1.5, then their median.
    assert local == (
        "| local | 1 | 0.250 | 0.125 | 0.375 | 0.750 | 1.50 (1.00-4.00) | 3.00 (3.00-3.00) | 0.50 (0.50-0.50) |"
    )
