"""What a Keras user does: layers in a functional model, `compile`, `fit`, `save` and `load_model` in a new process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_tagger as kt
from keras_tagger import layers
from keras_tagger.config import TrainingConfig, config_from_dict
from keras_tagger.models.music_tagger import MusicTagger
from layer_harness import convolves_half
from tiny import CONFIG, merged, noise

NAN = float("nan")
WAVES = noise(4096, batch=8)
LABELS = np.array([[1, 0, NAN], [0, NAN, 1], [1, 1, 0], [NAN, NAN, NAN]] * 2, np.float32)


def music_tagger(training: dict | None = None, dtype: str = "float32") -> MusicTagger:
    keras.utils.set_random_seed(1)
    small = {"front_end": {"channels": [4, 8]}, "encoder": {"n_layers": 1}}
    config = config_from_dict(merged(CONFIG, {"model": small}))
    return MusicTagger(["a", "b", "c"], config.audio, config.model, training, dtype=dtype)


def in_a_new_process(code: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(not convolves_half(), reason="ONEDNN_MAX_CPU_ISA excludes half precision")
def test_a_functional_model_of_our_layers(tmp_path: Path) -> None:
    wave = keras.Input((4096,))
    tokens = layers.CompactFrontEnd(16, (4, 8), dtype="mixed_bfloat16")(layers.Spectrogram(n_mels=32)(wave))
    tokens = layers.SinusoidalPositions(dtype="mixed_bfloat16")(layers.ClassToken(dtype="mixed_bfloat16")(tokens))
    encoder = layers.TransformerEncoder(2, 2, 16, 32, dtype="mixed_bfloat16")
    cls, scores = encoder(tokens, return_attention_scores=True)
    assert scores.shape == (None, 2, 2, tokens.shape[1], tokens.shape[1])
    assert scores.dtype == "float32"
    logits = layers.TagHead(3)(cls)
    model = keras.Model(wave, logits)
    model.compile(optimizer=keras.optimizers.Adam(0.003), loss=kt.TagLoss(), run_eagerly=True)
    board = keras.callbacks.TensorBoard(str(tmp_path / "logs"))
    history = model.fit(WAVES, LABELS, batch_size=4, epochs=3, verbose=0, callbacks=[board]).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)
    assert list((tmp_path / "logs").rglob("events*"))
    model.save(tmp_path / "m.keras")
    np.save(tmp_path / "waves.npy", WAVES)
    both = keras.Model(wave, [logits, scores])
    assert both(WAVES)[1].shape == (8, *scores.shape[1:])
    code = (
        "import sys, numpy as np, keras_tagger\n"
        "assert 'tensorflow' not in sys.modules\n"
        "import keras\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "print(model.layers[2].dtype_policy.name)\n"
        "np.save(sys.argv[3], model(np.load(sys.argv[2])))\n"
    )
    files = [str(tmp_path / name) for name in ("m.keras", "waves.npy", "out.npy")]
    assert in_a_new_process(code, *files).split() == ["mixed_bfloat16"]
    np.testing.assert_allclose(np.load(files[2]), model(WAVES), atol=1e-5)


@pytest.mark.parametrize("first", ["keras", "keras_tagger"])
def test_a_music_tagger_is_found_and_keeps_its_state(first: str, tmp_path: Path) -> None:
    """Whichever of the two is imported first."""
    model = music_tagger(dtype="mixed_bfloat16")
    model.build()
    model.freeze("front_end")
    model.save(tmp_path / "m.keras")
    second = {"keras": "keras_tagger", "keras_tagger": "keras"}[first]
    code = (
        f"import sys\nimport {first}\nimport {second}\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "print(model.dtype_policy.name, *model.frozen, model.encoder.compute_dtype, len(model.trainable_weights))\n"
    )
    expected = f"mixed_bfloat16 statistics front_end bfloat16 {len(model.trainable_weights)}"
    assert in_a_new_process(code, str(tmp_path / "m.keras")).split() == expected.split()


def test_importing_the_package_does_not_import_keras() -> None:
    code = "import sys, keras_tagger; print([name for name in ('keras', 'tensorflow') if name in sys.modules])"
    assert in_a_new_process(code).strip() == "[]"


def test_unknown_labels_never_make_nan_weights(tmp_path: Path) -> None:
    model = music_tagger()
    model.compile(optimizer=keras.optimizers.Adam(0.003))
    data = tf.data.Dataset.from_tensor_slices((WAVES, LABELS)).batch(4)
    history = model.fit(data, epochs=4, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)
    assert np.isfinite(model.evaluate(data, verbose=0))
    np.testing.assert_allclose(model.predict(data, verbose=0), model(WAVES), atol=1e-5)


def test_fit_augments_by_seed_and_step() -> None:
    """A learning rate of zero: only the loss shows what the model was given."""

    def losses(augment: dict, seed: int = 0) -> list[float]:
        model = music_tagger({"augment": augment, "seed": seed})
        for block in model.encoder.blocks:
            block.drop.rate = 0.0
        model.compile(optimizer=keras.optimizers.SGD(0.0), run_eagerly=True)
        model.fit(WAVES, np.nan_to_num(LABELS), batch_size=8, epochs=1, verbose=0)
        return model.fit(WAVES, np.nan_to_num(LABELS), batch_size=8, epochs=2, verbose=0).history["loss"]

    plain, gain = losses({"gain_db": 0.0}), losses({"gain_db": 30.0})
    masks = losses({"gain_db": 0.0, "n_time_masks": 2, "n_freq_masks": 2, "freq_mask_bins": 20})
    assert abs(plain[0] - gain[0]) > 1e-4
    assert abs(plain[0] - masks[0]) > 1e-5
    assert losses({"gain_db": 30.0}) == pytest.approx(gain, rel=1e-4)
    assert losses({"gain_db": 30.0}, seed=1) != pytest.approx(gain, rel=1e-4)


def test_stretches_are_trained_on() -> None:
    stretches = np.tile(np.array([[[1.0, 0.0, NAN]]], np.float32), (8, 1, 1))
    bounds = np.tile(np.array([[[0, 2048]]], np.int32), (8, 1, 1))
    found = {}
    for weight in (0.0, 5.0):
        model = music_tagger({"contribution_loss": weight, "augment": {"gain_db": 0.0}})
        model.compile(optimizer=keras.optimizers.SGD(0.0), run_eagerly=True)
        data = tf.data.Dataset.from_tensors((WAVES, (LABELS, stretches, bounds)))
        found[weight] = model.fit(data, verbose=0).history["loss"][0]
    assert found[5.0] > found[0.0] + 0.1


def test_old_names_warn() -> None:
    model = music_tagger()
    with pytest.warns(DeprecationWarning, match="use model_config"):
        assert model.model is model.model_config
    with pytest.warns(DeprecationWarning, match="use audio_config"):
        assert model.audio is model.audio_config
    assert model.training_config == TrainingConfig()
