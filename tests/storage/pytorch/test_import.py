"""`import_checkpoint` and its command use every tensor, or raise an error and write nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pickled
import pytest
import tensorflow as tf

import keras_tagger as kt
from keras_tagger.cli import main
from keras_tagger.data.datasets.vocabularies import CALS_50, JAMENDO_50, MSD_50, MTAT_50
from keras_tagger.errors import ModelError, ModelNotFoundError
from keras_tagger.export.windowed import analyze_windows
from keras_tagger.storage.pytorch.pytorch_file import read_tensors, state_dict
from keras_tagger.tagger import import_checkpoint
from tiny import noise

DATA = Path(__file__).parent / "data"
TAGS = ("a", "b", "c", "d", "e")
ARCHITECTURES = ("won2019", "won2019_raw", "won2020", "won2021")


def tensors_of(name: str) -> dict[str, np.ndarray]:
    """Return the tensors of a golden checkpoint, without prefixes and teacher."""
    found = state_dict(read_tensors(DATA / f"{name}.pth"), "")
    kept = {key: value for key, value in found.items() if not key.startswith("teacher")}
    return {key.removeprefix("module.").removeprefix("network."): value for key, value in kept.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the command writes for the golden won2021."""
    out = tmp_path_factory.mktemp("imported") / "won2021"
    (out.parent / "tags.txt").write_text("\n".join(TAGS) + "\n", encoding="utf-8")
    given = [str(DATA / "won2021.pth"), "--architecture", "won2021", "--tags", str(out.parent / "tags.txt")]
    assert main(["import-checkpoint", *given, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def tagger(folder: Path) -> Any:
    return kt.load(folder)


def test_directory_loads_and_tags(folder: Path, tagger: Any) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        *("config.yaml", "imported.json", "model.keras"),
        *("tags.json", "tags.txt"),
    ]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["tags.txt", "won2021"]
    assert tagger.tags == TAGS
    assert (tagger.config.preset, tagger.config.model.encoder.width) == ("won2021", 16)
    wave = noise(33000, seed=3)
    expected = import_checkpoint(DATA / "won2021.pth", "won2021", TAGS).scores((wave, 22050))
    np.testing.assert_allclose(tagger.scores((wave, 22050)), expected, atol=1e-6)
    origin = json.loads((folder / "imported.json").read_text(encoding="utf-8"))
    assert (origin["architecture"], origin["file"], origin["tensors"]) == ("won2021", "won2021.pth", 86)
    # Counters, and the spectrogram's window and filterbank, which are computed here.
    assert {name.split(".")[-1] for name in origin["without_use"]} == {"num_batches_tracked", "window", "fb"}


def test_explains_and_exports(tagger: Any, tmp_path: Path, export_only: Any) -> None:
    export_only("contributions")
    wave = noise(33000, seed=3)
    contributions = tagger.contributions((wave, 22050), ["b"])
    # 65 frames, four to a token.
    assert contributions.values.shape == (1, 16)
    attention = tagger.attention((wave, 22050))
    assert attention.windows[0].weights.shape == (2, 8, 17, 17)
    served = tf.saved_model.load(str(tagger.export(tmp_path / "exported")))
    found = served.signatures["contributions"](waveform=tf.constant(wave[None]))
    np.testing.assert_allclose(found["tags"][0], tagger.scores((wave, 22050)), atol=1e-5)
    np.testing.assert_allclose(found["contributions"][0, 1], contributions.values[0], atol=1e-5)
    assert found["times"].shape == (1, 16)


def test_long_audio_is_seen_window_by_window(tagger: Any) -> None:
    """Audio of two windows and a bit has one token per whole hop, and tags are a mean over windows."""
    window = tagger.model.window_samples
    wave = noise(2 * window + 5000, seed=4)
    parts = [wave[:window], wave[window : 2 * window], wave[-window:]]
    scores = [tagger.model.analyze(part[None], ("tags",))["tags"][0].numpy() for part in parts]
    expected = np.average(scores, axis=0, weights=[window, window, 5000])
    np.testing.assert_allclose(tagger.scores((wave, 22050)), expected, atol=1e-5)
    assert tagger.contributions((wave, 22050), ["a"]).values.shape == (1, 2 * 108 + 3)


PREFIXES: dict[str, Callable[[dict[str, Any]], tuple[dict[str, Any], dict[str, Any] | None]]] = {
    "none": lambda state: (state, None),
    "DataParallel": lambda state: ({f"module.{name}": value for name, value in state.items()}, None),
    "Lightning": lambda state: ({f"model.{name}": value for name, value in state.items()}, {"epoch": 1}),
    "teacher": lambda state: (
        {
            **{f"network.module.{name}": value for name, value in state.items()},
            **{f"teacher_network.{name}": value for name, value in state.items()},
        },
        {"epoch": 1},
    ),
}


@pytest.fixture(scope="module")
def golden() -> Any:
    return import_checkpoint(DATA / "won2019_raw.pth", "won2019_raw", TAGS)


@pytest.mark.parametrize("kind", PREFIXES)
def test_prefixes(kind: str, golden: Any, tmp_path: Path) -> None:
    state, top = PREFIXES[kind](tensors_of("won2019_raw"))
    tagger = import_checkpoint(pickled.write(tmp_path / "a.ckpt", state, top), "won2019_raw", TAGS)
    for found, expected in zip(tagger.model.weights, golden.model.weights, strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=found.path)


def test_won2019_with_learned_positions(tmp_path: Path) -> None:
    """The published ponswon.pth has BERT's embeddings: a learnt table, and a layer norm after its addition."""
    rng = np.random.default_rng(0)
    state = tensors_of("won2019")
    table = rng.standard_normal((271, 16)).astype(np.float32)
    scale, offset = (rng.uniform(0.5, 1.5, 16).astype(np.float32) for _ in range(2))
    embedding = "back_end.embedding"
    state[f"{embedding}.position_embeddings.weight"] = table
    state[f"{embedding}.LayerNorm.weight"], state[f"{embedding}.LayerNorm.bias"] = scale, offset
    model = import_checkpoint(pickled.write(tmp_path / "a.pth", state), "won2019", TAGS).model
    assert model.model_config.attention.positions == "learned"
    tokens = rng.standard_normal((2, 6, 16)).astype(np.float32)
    placed = tokens + table[:6]
    normed = (placed - placed.mean(-1, keepdims=True)) / placed.std(-1, keepdims=True) * scale + offset
    np.testing.assert_allclose(model.encoder.embed(model.positions(tokens)), normed, atol=1e-5)


def damaged(state: dict[str, Any], kind: str) -> dict[str, Any]:
    """Damage a golden state dictionary."""
    name = "back_end.encoder.layer.1.attention.self.key.weight"
    if kind == "missing":
        del state[name], state["classifier.bias"]
    elif kind == "shape":
        state[name] = state[name][:, :7]
    elif kind == "nan":
        state[name] = np.full_like(state[name], np.nan)
    elif kind == "left over":
        state["back_end.encoder.layer.0.more.weight"] = state[name]
    elif kind == "code":
        state[name] = pickled.Call("os", "system", "touch it_ran")
    elif kind == "object":
        state[name] = pickled.Named("torch", "Size")
    return state


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", r"with 2 missing \(back_end\.encoder\.layer\.1\.attention\.self\.key\.weight, classifier\.bias\)"),
        (
            "shape",
            r"with 1 with unexpected values or shapes \(back_end\S+key\.weight \[16, 7\] instead of \[16, 16\]\)",
        ),
        ("nan", r"with 1 with unexpected values or shapes \(back_end\S+key\.weight with values that are not finite\)"),
        ("left over", r"with 1 left over \(back_end\.encoder\.layer\.0\.more\.weight\)"),
        ("code", r"its pickle names os\.system, which is not data"),
        ("object", r"with 1 missing \(back_end\S+key\.weight\)"),
    ],
)
def test_damage_is_one_sentence_and_nothing_written(
    kind: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = pickled.write(tmp_path / "damaged.pth", damaged(tensors_of("won2019_raw"), kind))
    with pytest.raises(ModelError, match=words) as caught:
        import_checkpoint(path, "won2019_raw", TAGS, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("expected")
    assert [entry.name for entry in tmp_path.iterdir()] == ["damaged.pth"]


def test_another_architecture_is_named() -> None:
    with pytest.raises(ModelError, match=r"expected the tensors of won2020\. Received: .*, with those of won2021\."):
        import_checkpoint(DATA / "won2021.pth", "won2020", TAGS)
    with pytest.raises(ModelError, match=r"architecture: expected one of won2019, .* Received: 'won'"):
        import_checkpoint(DATA / "won2021.pth", "won", TAGS)


def test_another_spectrogram_is_refused(tmp_path: Path) -> None:
    state = tensors_of("won2020")
    state["spec.mel_scale.fb"] = np.roll(state["spec.mel_scale.fb"], 1, axis=0)
    path = pickled.write(tmp_path / "a.pth", state)
    with pytest.raises(ModelError, match=r"spec\.mel_scale\.fb to equal that of the preset"):
        import_checkpoint(path, "won2020", TAGS)


def test_old_torchaudio_leaves_the_filterbank_empty(tmp_path: Path) -> None:
    state = tensors_of("won2020")
    state["spec.mel_scale.fb"] = np.zeros(0, np.float32)
    model = import_checkpoint(pickled.write(tmp_path / "a.pth", state), "won2020", TAGS).model
    assert not model.model_config.spectrogram.stored
    wave = noise(32100, seed=1, batch=1)
    stored = import_checkpoint(DATA / "won2020.pth", "won2020", TAGS).model
    np.testing.assert_allclose(model(wave), stored(wave), atol=1e-3)


@pytest.mark.parametrize(
    ("architecture", "tags", "expected"),
    [
        *(("won2019_raw", "mtat", MTAT_50), ("won2019_raw", "msd", MSD_50), ("won2019_raw", "jamendo", JAMENDO_50)),
        ("won2021", "msd", CALS_50),
    ],
)
def test_published_vocabularies(architecture: str, tags: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    state = tensors_of(architecture)
    head = "mlp_head.1" if architecture == "won2021" else "classifier"
    state[f"{head}.weight"], state[f"{head}.bias"] = np.zeros((50, 16), np.float32), np.zeros(50, np.float32)
    path = pickled.write(tmp_path / "a.pth", state)
    assert import_checkpoint(path, architecture, tags).tags == expected
    with pytest.raises(ModelError, match=r"tags: expected 50 names, one per output of .*a\.pth\. Received: 5 names\."):
        import_checkpoint(path, architecture, TAGS)


def test_tags_and_directory_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"tags: expected mtat, msd, jamendo or a file .* Received: 'mtt'"):
        import_checkpoint(DATA / "won2021.pth", "won2021", "mtt")
    with pytest.raises(
        ModelError, match=r"tags: expected at least one name and no duplicates\. Received: b more than once\."
    ):
        import_checkpoint(DATA / "won2021.pth", "won2021", ("a", "b", "c", "b"))
    for wrong in (("a", 3), ("a", "b\nc"), ("a", " ")):
        with pytest.raises(ModelError, match=r"tags: expected names without line breaks\. Received: (3|'b\\nc'|' ')"):
            import_checkpoint(DATA / "won2021.pth", "won2021", wrong)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious", encoding="utf-8")
    with pytest.raises(ModelError, match=r"out: expected a new or empty directory"):
        import_checkpoint(DATA / "won2021.pth", "won2021", TAGS, tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text(encoding="utf-8") == "precious"


def test_tags_of_a_file_with_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "tags.txt").write_bytes("\ufeffrock\r\nhip hop\r\n\r\n d\u00e9j\u00e0 vu \r\nd\r\ne".encode())
    tagger = import_checkpoint(DATA / "won2019_raw.pth", "won2019_raw", tmp_path / "tags.txt")
    assert tagger.tags == ("rock", "hip hop", "d\u00e9j\u00e0 vu", "d", "e")


def test_names_in_a_file_do_not_make_a_model_of_any_size(tmp_path: Path) -> None:
    """Neither a large layer number nor a few numbers that imply a huge matrix take memory."""
    state = tensors_of("won2021")
    for name in [name for name in state if name.startswith("transformer.layers.1.")]:
        state[name.replace(".1.", ".1000000000.", 1)] = state.pop(name)
    with pytest.raises(ModelError, match=r"with 33 missing \(transformer\.layers\.1\.\S+, .*; 11 left over \(transf"):
        import_checkpoint(pickled.write(tmp_path / "a.pth", state), "won2021", TAGS)
    state = {**tensors_of("won2021"), "cls_token": np.zeros(64000, np.float32)}
    with pytest.raises(
        ModelError, match=r"layers of width 64000 and \d+ need [\d,]+ weights, but the file holds 1\d\d,\d+ num"
    ):
        import_checkpoint(pickled.write(tmp_path / "a.pth", state), "won2021", TAGS)
    state["frontend.layer1.conv_1.weight"] = np.zeros((0, 1, 3, 3), np.float32)
    with pytest.raises(ModelError, match=r"expected the tensors of won2021\. Received: "):
        import_checkpoint(pickled.write(tmp_path / "a.pth", state), "won2021", TAGS)


def test_a_tensor_named_with_a_line_end_is_one_sentence(tmp_path: Path) -> None:
    state = {**tensors_of("won2019_raw"), "classifier\n\x1b[31mmore": np.zeros(1, np.float32)}
    with pytest.raises(ModelError, match=r"1 left over \(classifier\?\?\[31mmore\)\.$"):
        import_checkpoint(pickled.write(tmp_path / "a.pth", state), "won2019_raw", TAGS)


def test_pytorch_is_not_needed() -> None:
    import_checkpoint(DATA / "won2019_raw.pth", "won2019_raw", TAGS)
    assert "torch" not in sys.modules


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_windows_in_the_graph_are_those_of_the_tagger(architecture: str) -> None:
    """The windows of an export equal those of the tagger, also if a clip ends within a token."""
    tagger = import_checkpoint(DATA / f"{architecture}.pth", architecture, TAGS)
    model = tagger.model
    for windows in (0.31, 1.27):
        wave = noise(int(windows * model.window_samples) + 11, seed=6)
        found = analyze_windows(model, tf.constant(wave[None]), ("tags", "contributions"))
        expected = tagger.contributions((wave, model.audio_config.sample_rate))
        assert found["contributions"].shape[1:] == expected.values.shape
        np.testing.assert_allclose(found["contributions"][0], expected.values, atol=1e-4)
        np.testing.assert_allclose(found["tags"][0], expected.scores, atol=1e-4)
