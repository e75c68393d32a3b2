"""The comparison of kinds of attention, from data to table, on tones and with the tiny model."""

from __future__ import annotations

from pathlib import Path

import attention_comparison
import pytest

import keras_tagger as kt
from keras_tagger.config import parse_override
from keras_tagger.errors import ConfigError

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
    # Started again, it finds everything done.
    written = (tmp_path / "rotary_5" / "measured.json").stat().st_mtime_ns
    assert attention_comparison.compare(*given) == made
    assert (tmp_path / "rotary_5" / "measured.json").stat().st_mtime_ns == written
    # With other settings it does not take what it finds for theirs.
    with pytest.raises(ConfigError, match=r"rotary_5.measured.json: expected measures of the same settings"):
        attention_comparison.compare(*given[:4], {**overrides, "training.epochs": 7}, 12)
    tagger = kt.load(tmp_path / "rotary_5")
    times = attention_comparison.speeds({"rotary": tagger, "again": tagger}, 2)
    assert list(times) == ["rotary", "again"]
    for by_speed in times.values():
        assert set(by_speed) == set(attention_comparison.SPEEDS)
        # Measured anew in every round.
        assert all(len(set(found)) == 2 and min(found) > 0 for found in by_speed.values())


def test_table_has_means_and_deviations() -> None:
    measured = {
        "alibi": [dict.fromkeys(attention_comparison.MEASURES, value) for value in (0.5, 0.7)],
        "local": [dict.fromkeys(attention_comparison.MEASURES, 0.25)],
    }
    times = {
        "alibi": {key: [1.0, 2.0, 4.0] for key in attention_comparison.SPEEDS},
        "local": {key: [2.0, 2.0, 2.0] for key in attention_comparison.SPEEDS},
    }
    head, _, alibi, local = attention_comparison.table(measured, times).splitlines()
    assert head.startswith("| attention | seeds | roc auc | pr auc | localisation roc auc |")
    # Sample deviation of 0.5 and 0.7: sqrt(0.02).
    assert alibi.split(" | ")[:3] == ["| alibi", "2", "0.600 ± 0.141"]
    assert alibi.split(" | ")[-1] == "1.00 (1.00-1.00) |"
    # Ratios within each round, then their median.
    assert local.split(" | ")[1:3] == ["1", "0.250"]
    assert local.split(" | ")[-1] == "1.00 (0.50-2.00) |"
