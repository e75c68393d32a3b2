"""The spectrogram as a convolution, and exports that are run before they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keras_tagger as kt
import tiny
from keras_tagger.errors import ModelError
from keras_tagger.export import formats, to_litert, to_onnx
from keras_tagger.export.formats import differences, export_format
from keras_tagger.layers import Spectrogram

pytest.importorskip("tf2onnx", reason="the extra onnx")


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({}, 2e-4),
        ({"power": 2, "gain": 10000.0, "mel_scale": "htk", "mel_norm": "none"}, 2e-4),
        ({"framing": "centered", "n_fft": 400, "hop_length": 160, "n_mels": 40}, 2e-4),
        ({"stored": True, "power": 2}, 2e-4),
        # In decibels, float32 rounds what kapre's layers compute in float64.
        ({"compression": "decibel", "power": 2}, 0.05),
    ],
)
def test_a_convolution_computes_what_kapre_does(settings: dict[str, Any], most: float) -> None:
    layer, waves = Spectrogram(**settings), tiny.noise(9000, batch=2)
    expected = layer(waves).numpy()
    with layer.as_convolution():
        found = layer(waves).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < most
    assert not np.array_equal(found, expected)  # it was another computation
    np.testing.assert_array_equal(layer(waves), expected)  # and only inside the context


@pytest.fixture(scope="module")
def graph(music: Any) -> bytes:
    """Conversion takes seconds, so all tests fill the same graph."""
    return to_onnx.graph_bytes(music.model)


@pytest.fixture
def onnx(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_onnx, "graph_bytes", lambda model: graph)


@pytest.fixture
def onnx_file(music: Any, onnx: None, tmp_path: Path) -> Path:
    return export_format(music, tmp_path / "onnx", "onnx").path


@pytest.fixture(scope="module")
def litert_file(music: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("ai_edge_litert", reason="the extra litert")
    return export_format(music, tmp_path_factory.mktemp("litert"), "litert").path


def test_the_front_end_pons_has_only_ops_of_litert() -> None:
    pytest.importorskip("ai_edge_litert", reason="the extra litert")
    second_ear = {"channels": [2, 3, 4], "n_layers": 2, "width": 8, "feed_forward": 8}
    front_end = {"channels": [2, 3, 2, 2, 2, 4, 6], "second_ear": second_ear}
    tagger = tiny.random_tagger({"preset": "pons", "model": {"front_end": front_end}})
    assert len(to_litert.litert_bytes(tagger)) > 10_000


@pytest.mark.parametrize("file", ["onnx_file", "litert_file"])
def test_a_tagger_of_an_exported_file_is_that_of_keras(
    file: str, music: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tagger = kt.load(request.getfixturevalue(file))
    assert tagger.tags == music.tags
    assert tagger.info == music.info
    assert tagger.config.model == music.config.model
    # Two windows and a part of one; less than a token; and silence.
    for samples in (tiny.noise(2 * 16000 + 5000), tiny.noise(100), np.zeros(20000, np.float32)):
        clip = (samples, tiny.RATE)
        np.testing.assert_allclose(tagger.scores(clip), music.scores(clip), atol=1e-5)
        np.testing.assert_allclose(tagger.embed(clip), music.embed(clip), atol=1e-4)
        for method in ("contributions", "attention", "two_scale_contributions"):
            found, expected = tagger.explain(clip, method), music.explain(clip, method)
            np.testing.assert_allclose(found.values, expected.values, atol=1e-4)
            np.testing.assert_array_equal(found.times, expected.times)
    found, expected = (one.attention((tiny.noise(9000), tiny.RATE)).weights for one in (tagger, music))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for refused in (
        lambda: tagger.explain((tiny.noise(9000), tiny.RATE), "integrated_gradients"),
        lambda: tagger.select(["low"]),
        lambda: tagger.export(tmp_path),
        lambda: tagger.save(tmp_path / "a.keras"),
    ):
        with pytest.raises(ModelError, match="expected a model of Keras, which load gives without runtime="):
            refused()
    with pytest.raises(ModelError, match="runtime: expected '(onnx|litert)' for"):
        kt.load(request.getfixturevalue(file), runtime="keras")


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_lower_precision_is_smaller_and_nearly_equal(
    precision: str, music: Any, onnx: None, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_onnx, "LEAST_ROUNDED", 100)
    exported = export_format(music, tmp_path / "new", "onnx", precision)
    assert exported.path == tmp_path / "new" / f"tiny-{precision}.onnx"
    # The tiny model has 9 kB of kernels in half precision.
    assert exported.path.stat().st_size < onnx_file.stat().st_size - 5000
    assert 1e-5 < exported.differences["tags"] < formats.TOLERANCES[precision]
    assert kt.load(exported.path).model.precision == precision


def test_int8_leaves_small_and_uneven_tensors_in_half_precision(onnx: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnx import TensorProto, load_from_string

    tagger = tiny.random_tagger()

    def kinds() -> set[int]:
        stored = load_from_string(to_onnx.onnx_bytes(tagger, "int8")).graph.initializer
        return {tensor.data_type for tensor in stored if tensor.name.endswith("_stored")}

    assert kinds() == {TensorProto.FLOAT16}
    monkeypatch.setattr(to_onnx, "LEAST_ROUNDED", 1)
    assert TensorProto.INT8 in kinds()
    monkeypatch.setattr(to_onnx, "MOST_ROUNDED", 1e-4)
    assert kinds() == {TensorProto.FLOAT16}


def test_a_file_that_differs_is_removed_and_the_one_before_stays(
    music: Any, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is another model's: everything runs, but the numbers differ."""
    path, other = tmp_path / "tiny.onnx", onnx_file.read_bytes()
    path.write_bytes(b"older")
    monkeypatch.setattr("keras_tagger.export.to_onnx.onnx_bytes", lambda *_: other)
    with pytest.raises(ModelError, match=r"expected tags that differ from Keras' by at most 0\.0001\. Received: 0\."):
        export_format(tiny.random_tagger(seed=1), tmp_path, "onnx")
    assert [entry.name for entry in tmp_path.glob("*.*")] == ["tiny.onnx"]
    assert not list(tmp_path.glob(".*"))
    assert path.read_bytes() == b"older"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_differ(bad: float, music: Any) -> None:
    class Broken:
        def analyze(self, waveforms: np.ndarray, outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
            return {name: np.asarray(value) + bad for name, value in music.model.analyze(waveforms, outputs).items()}

    found = differences(music, Broken(), [tiny.noise(8000, batch=1)])
    with pytest.raises(ModelError, match="expected tags"):
        formats.check(found, "int8", "onnx")


def test_unusable_files_and_choices_are_refused(tmp_path: Path, music: Any) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    (tmp_path / "a.tflite").write_bytes(b"nothing")
    for name in ("a.onnx", "a.tflite"):
        with pytest.raises(ModelError, match="expected a model of (ONNX|LiteRT)"):
            kt.load(tmp_path / name)
    with pytest.raises(kt.KerasTaggerError, match="which is no file"):
        kt.load(tmp_path / "missing.onnx")
    with pytest.raises(ModelError, match="runtime: expected one of keras, onnx, litert"):
        kt.load("compact", runtime="torch")
    with pytest.raises(ModelError, match="format: expected one of onnx, litert"):
        export_format(music, tmp_path, "caffe")
    with pytest.raises(ModelError, match="precision: expected one of"):
        export_format(music, tmp_path, "onnx", "int4")
