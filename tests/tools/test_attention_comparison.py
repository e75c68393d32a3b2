"""The comparison of kinds of attention, from data to table, on tones and with the tiny model."""

from __future__ import annotations

from pathlib import Path

import attention_comparison

from keras_tagger.config import parse_override

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
    rows = attention_comparison.read(tmp_path / "results.csv")
    assert [(row["attention"], row["seed"]) for row in rows] == [("rotary", "5")]
    # Tones of three pitches are told apart in a few epochs, also in halves of a window.
    assert 0.7 < float(rows[0]["roc_auc"]) <= 1.0
    assert 0.6 < float(rows[0]["localisation_roc_auc"]) <= 1.0
    assert 0.6 < float(rows[0]["localisation_pointing"]) <= 1.0
    assert 0 < float(rows[0]["window_ms"]) < 10_000
    assert float(rows[0]["train_speed"]) > 0
    printed = attention_comparison.table(made).splitlines()
    assert printed[0].startswith("| attention | seeds | roc auc | pr auc | train speed |")
    assert [line.split(" | ")[0] for line in printed[2:]] == ["| rotary"]
    # Started again, it finds everything done.
    assert attention_comparison.compare(*given) == rows


def test_table_has_means_and_deviations() -> None:
    rows = [
        {"attention": "alibi", "seed": seed, **dict.fromkeys(attention_comparison.MEASURES, value)}
        for seed, value in (("0", "0.5"), ("1", "0.7"))
    ]
    cells = attention_comparison.table(rows).splitlines()[2].split(" | ")
    # Sample deviation of 0.5 and 0.7: sqrt(0.02).
    assert cells[:3] == ["| alibi", "2", "0.600 ± 0.141"]
    assert cells[4] == "0.6 ± 0.1"
