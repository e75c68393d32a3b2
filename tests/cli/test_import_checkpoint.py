"""The command `import-checkpoint`."""

from __future__ import annotations

from pathlib import Path

import keras_tagger as kt

CHECKPOINT = Path(__file__).parents[1] / "storage" / "pytorch" / "data" / "won2021.pth"


def test_the_command_writes_a_model_and_prints_its_size(call, tmp_path):
    (tmp_path / "tags.txt").write_text("a\nb\nc\nd\ne\n")
    command = ("import-checkpoint", CHECKPOINT, "--tags", tmp_path / "tags.txt", "--architecture", "won2021")
    status, out, _ = call(*command, "--out", tmp_path / "model")
    model = kt.load(tmp_path / "model").model
    assert (status, out) == (0, f"{tmp_path / 'model'}: won2021, {model.count_params():,} parameters, 5 tags\n")
    status, out, err = call(*command, "--out", tmp_path / "model")
    assert (status, out) == (1, "")
    assert err.startswith("keras-tagger: ")
    assert err.count("\n") == 1
