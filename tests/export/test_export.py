"""The SavedModel: what is in it, and that it says what the tagger says where keras cannot be imported."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from keras_tagger.config import load_config
from keras_tagger.errors import ModelError
from keras_tagger.export import export, layout, saved_model
from keras_tagger.tagger import Tagger
from keras_tagger.tags import TagInfo
from tiny import RATE, TAGS, noise, random_tagger

TOKEN = 2048
LENGTHS = {"short": 9000, "long": 35000}
# signature: inputs, outputs (name: dtype)
SIGNATURES = {
    "serving_default": ({"waveform": "float32"}, {"tags": "float32"}),
    "wav": ({"audio_bytes": "string"}, {"tags": "float32"}),
    "classify": ({"inputs": "string"}, {"classes": "string", "scores": "float32"}),
    "attention": (
        {"waveform": "float32"},
        {"tags": "float32", "attention": "float32", "heatmap": "float32", "times": "float32"},
    ),
    "contributions": (
        {"waveform": "float32"},
        {"tags": "float32", "contributions": "float32", "times": "float32"},
    ),
    "embedding": ({"waveform": "float32"}, {"embedding": "float32"}),
    "tag_info": ({"tags": "string"}, {"threshold": "float32", "heard": "bool", "false_alarm_rate": "float32"}),
}

# Runs in an interpreter of its own: PATH of the SavedModel, PATH of the clips, PATH of the answers.
STRANGER = '''
import importlib.machinery
import io
import json
import sys
import wave

BLOCKED = ("keras", "tf_keras", "kapre", "tensorflow_io", "keras_tagger", "librosa")


class Blocker:
    """Finds the blocked modules, as tensorflow probes for keras with find_spec, and refuses to load them."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            return importlib.machinery.ModuleSpec(name, self)
        return None

    def create_module(self, spec):
        raise ImportError(f"{spec.name} is blocked")

    def exec_module(self, module):
        raise ImportError("blocked")


sys.meta_path.insert(0, Blocker())
for name in BLOCKED:
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} is importable")

import numpy as np
import tensorflow as tf

model_path, clips_path, answers_path = sys.argv[1:]
clips = dict(np.load(clips_path))
answers, interface = {}, {}


def example(wave):
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=wave))
    return tf.train.Example(features=tf.train.Features(feature={"waveform": feature})).SerializeToString()


def request(signature, name):
    if signature == "tag_info":
        return np.array(["mid", "jazz"], dtype=object)
    if signature == "classify":
        return np.array([example(wave) for wave in clips[name]], dtype=object)
    if signature == "wav":
        return np.array([riff(wave) for wave in clips[name]], dtype=object)
    return clips[name]


def riff(samples):
    """The clip as a stereo WAV at the model's rate, both channels alike."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(2)
        writer.setframerate(16000)
        writer.writeframes(np.repeat(np.round(samples * 32768), 2).astype("<i2").tobytes())
    return file.getvalue()


loaded = tf.saved_model.load(model_path)
for signature, function in loaded.signatures.items():
    (argument,) = function.structured_input_signature[1]
    interface[signature] = [
        {key: spec.dtype.name for key, spec in function.structured_input_signature[1].items()},
        {key: spec.dtype.name for key, spec in function.structured_outputs.items()},
    ]
    for name in clips:
        found = function(**{argument: tf.constant(request(signature, name))})
        for key, value in found.items():
            answers[f"2/{signature}/{name}/{key}"] = value.numpy()

with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    meta = tf.compat.v1.saved_model.load(session, ["serve"], model_path)
    for signature, definition in meta.signature_def.items():
        if signature == "__saved_model_init_op":
            continue
        ((_, feed),) = definition.inputs.items()
        fetches = {key: tensor.name for key, tensor in definition.outputs.items()}
        for name in clips:
            found = session.run(fetches, {feed.name: request(signature, name)})
            for key, value in found.items():
                answers[f"1/{signature}/{name}/{key}"] = value

blocked = [name for name in sys.modules if name.split(".")[0] in BLOCKED]
np.savez(answers_path, **{key: np.asarray(v.astype(str) if v.dtype == object else v) for key, v in answers.items()})
print(json.dumps({"interface": interface, "imported": blocked}))
'''


@pytest.fixture(scope="module")
def clips() -> dict[str, np.ndarray]:
    waves = {name: noise(length, seed=length, batch=2) for name, length in LENGTHS.items()}
    return {name: (np.round(wave * 32767) / 32768).astype(np.float32) for name, wave in waves.items()}


@pytest.fixture(scope="module")
def stranger(
    exported: Path, clips: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What an interpreter without keras, kapre, tensorflow-io and keras_tagger makes of the SavedModel."""
    folder = tmp_path_factory.mktemp("stranger")
    np.savez(folder / "clips.npz", **clips)
    command = [sys.executable, "-c", STRANGER, exported, folder / "clips.npz", folder / "answers.npz"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    environment.pop("PYTHONPATH", None)
    run = subprocess.run(
        [os.fspath(part) for part in command],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    with np.load(folder / "answers.npz") as answers:
        return json.loads(run.stdout.splitlines()[-1]), dict(answers)


def expected_answers(tagger: Any, wave: np.ndarray) -> dict[str, Any]:
    """What the tagger says of one clip."""
    source = (wave, RATE)
    contributions, attention = tagger.contributions(source), tagger.attention(source)
    scores = tagger.scores(source)
    order = np.argsort(-scores, kind="stable")
    tags = {"tags": scores}
    times = {"times": contributions.times}
    heatmap = attention.heatmap().values[0]
    return {
        "serving_default": tags,
        "wav": tags,
        "classify": {"classes": np.array(TAGS)[order], "scores": scores[order]},
        "attention": {**tags, **times, "heatmap": heatmap},
        "contributions": {**tags, **times, "contributions": contributions.values},
        "embedding": {"embedding": tagger.embed(source)},
    }


def test_a_stranger_imports_nothing_of_ours(stranger: Any) -> None:
    report, _ = stranger
    assert report["imported"] == []


def test_names_and_dtypes(stranger: Any) -> None:
    report, _ = stranger
    found = {name: tuple(sides) for name, sides in report["interface"].items()}
    assert found == SIGNATURES


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("loader", ["1", "2"])
@pytest.mark.parametrize("signature", [name for name in SIGNATURES if name != "tag_info"])
def test_a_stranger_gets_what_the_tagger_says(
    tagger: Any, clips: dict[str, np.ndarray], stranger: Any, signature: str, loader: str, length: str
) -> None:
    _, answers = stranger
    for index, wave in enumerate(clips[length]):
        for key, expected in expected_answers(tagger, wave)[signature].items():
            found = answers[f"{loader}/{signature}/{length}/{key}"]
            assert len(found) == 2
            if key == "classes":
                names = [str(name).removeprefix("b'").removesuffix("'") for name in found[index]]
                assert names == list(expected)
            else:
                np.testing.assert_allclose(found[index], expected, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("loader", ["1", "2"])
def test_a_stranger_learns_of_tags(stranger: Any, loader: str) -> None:
    """Asked about a tag of the model and one that it does not have."""
    _, answers = stranger
    np.testing.assert_array_equal(answers[f"{loader}/tag_info/short/threshold"], np.array([0.5, np.nan], np.float32))
    np.testing.assert_array_equal(answers[f"{loader}/tag_info/short/heard"], [True, False])


def test_clips_hold_16_bits(clips: dict[str, np.ndarray]) -> None:
    """So that the signature wav is asked about the very same clips as the others."""
    for waves in clips.values():
        assert np.abs(waves).max() < 1
        np.testing.assert_array_equal(waves, np.round(waves * 32768) / 32768)


@pytest.mark.parametrize("loader", ["1", "2"])
def test_attention_of_one_window_is_the_taggers(
    tagger: Any, clips: dict[str, np.ndarray], stranger: Any, loader: str
) -> None:
    _, answers = stranger
    for index, wave in enumerate(clips["short"]):
        expected = tagger.attention((wave, RATE)).weights
        np.testing.assert_allclose(answers[f"{loader}/attention/short/attention"][index], expected, atol=1e-5)
    long = answers[f"{loader}/attention/long/attention"]
    n_tokens = -(-LENGTHS["long"] // TOKEN)
    assert long.shape == (2, 2, 2, 1 + n_tokens, 1 + n_tokens)
    np.testing.assert_allclose(long.sum(axis=-1), 1.0, atol=1e-5)


@pytest.fixture(scope="module")
def loaded(exported: Path) -> Any:
    """The signatures of the loaded SavedModel."""
    return tf.saved_model.load(exported).signatures


def test_classify_takes_clips_of_different_lengths(tagger: Any, loaded: Any, clips: dict[str, np.ndarray]) -> None:
    waves = [clips["short"][0], clips["long"][0], clips["short"][1][:1]]
    serialized = [
        tf.train.Example(
            features=tf.train.Features(
                feature={"waveform": tf.train.Feature(float_list=tf.train.FloatList(value=wave))}
            )
        ).SerializeToString()
        for wave in waves
    ]
    found = loaded["classify"](inputs=tf.constant(serialized))
    for index, wave in enumerate(waves):
        expected = tagger.tag((wave, RATE))
        np.testing.assert_allclose(found["scores"][index], expected.scores, atol=1e-5)
        assert [name.decode() for name in found["classes"][index].numpy()] == list(expected.names)


def operations(path: Path) -> set[str]:
    """Names of all ops in the graph and its functions."""
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return {node.op for node in nodes}


def test_stock_operations_only(exported: Path) -> None:
    found = operations(exported)
    functions = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction"}
    assert not found & functions
    assert not [name for name in found if name.startswith(("IO>", "Io", "TFIO"))]
    # The spectrogram and the encoder are in there.
    assert {"RFFT", "Softmax", "Conv2D"} <= found


def test_meta_graph_is_tagged_for_serving(exported: Path) -> None:
    saved = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    assert [list(graph.meta_info_def.tags) for graph in saved.meta_graphs] == [["serve"]]
    definition = saved.meta_graphs[0].signature_def["attention"]
    shapes = {key: len(value.tensor_shape.dim) for key, value in definition.outputs.items()}
    assert shapes == {"tags": 2, "attention": 5, "heatmap": 2, "times": 2}


def test_files_inside(tagger: Any, exported: Path) -> None:
    assert exported.name == "1"
    assert (exported / "assets" / "tags.txt").read_text(encoding="utf-8").splitlines() == list(TAGS)
    info = json.loads((exported / "assets" / "tags.json").read_text(encoding="utf-8"))
    assert [entry["tag"] for entry in info] == list(TAGS)
    assert {(entry["threshold"], entry["has_evidence"]) for entry in info} == {(0.5, True)}
    assert load_config(exported / "assets" / "config.yaml") == tagger.config
    assert [entry.name for entry in exported.parent.iterdir()] == ["1"]
    assert (exported.stat().st_mode & 0o777) == 0o755


def test_warm_up_has_valid_requests_of_every_signature_at_one_and_more_windows(
    tagger: Any, exported: Path, loaded: Any
) -> None:
    records = tf.data.TFRecordDataset(str(exported / layout.WARMUP_REQUESTS))
    seen = []
    lengths: dict[str, set[int]] = {}
    wavs, features = [], []
    for record in records:
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        name = request.model_spec.signature_name
        inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        found = loaded[name](**inputs)
        assert set(found) == set(SIGNATURES[name][1])
        assert {value.shape[0] for value in found.values()} == {1}
        assert request.model_spec.name == "keras_tagger"
        seen.append(name)
        if name == "wav":
            file = soundfile.info(io.BytesIO(inputs["audio_bytes"].numpy()[0]))
            wavs.append((file.samplerate, file.channels, file.frames))
        if name == "classify":
            example = tf.train.Example.FromString(inputs["inputs"].numpy()[0])
            features.append(list(example.features.feature))
        if "waveform" in inputs:
            lengths.setdefault(name, set()).add(int(inputs["waveform"].shape[1]))
    assert set(seen) == set(SIGNATURES)
    assert {name: seen.count(name) for name in SIGNATURES} == dict.fromkeys(SIGNATURES, 2)
    window = tagger.model.window_samples
    assert set(map(tuple, map(sorted, lengths.values()))) == {(window, 30 * RATE)}
    assert wavs == [(RATE, 1, window), (44_100, 2, round(window / RATE * 44_100))]
    assert features == [["waveform"], ["audio_bytes"]]


@pytest.fixture
def one_signature(export_only: Any) -> None:
    """Export the default signature only, where the files are tested."""
    export_only("serving_default")


@pytest.mark.usefixtures("one_signature")
def test_two_exports_at_once_are_two_versions_above_the_highest(tagger: Any, tmp_path: Path) -> None:
    present = ["7", "notes", ".hidden", "3"]
    for name in present:
        (tmp_path / name).mkdir()
    found: list[Path] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            found.append(tagger.export(tmp_path))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(path.name for path in found) == ["8", "9"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([*present, "8", "9"])
    wave = noise(5000, batch=1)
    expected = tagger.model.analyze(wave, ("tags",))["tags"]
    for path in found:
        tags = tf.saved_model.load(path).signatures["serving_default"](waveform=wave)["tags"]
        np.testing.assert_allclose(tags, expected, atol=1e-5)


@pytest.mark.usefixtures("one_signature")
def test_nothing_is_seen_before_it_is_whole(tagger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last file to be written fails: until then nothing has a number, and then nothing is left."""
    seen: list[str] = []
    infos: list[Any] = []
    known = Tagger(tagger.model, tagger.config, {"high": TagInfo(0.25, True, True, 12), "mid": TagInfo(0.5, False)})

    def fails(model: Any, path: Path) -> None:
        assert (path / "saved_model.pb").exists()
        seen.extend(entry.name for entry in tmp_path.iterdir())
        infos.extend(json.loads((path / "assets" / "tags.json").read_text(encoding="utf-8")))
        raise OSError("disk full")

    monkeypatch.setattr("keras_tagger.export.warmup.write_warmup", fails)
    with pytest.raises(ModelError, match="expected room for a version in .*Received: disk full; nothing is kept"):
        known.export(tmp_path)
    # What is known of each tag travels with it.
    told = [(info["tag"], info["threshold"], info["has_evidence"], info.get("train_clips")) for info in infos]
    assert told == [("high", 0.25, True, 12), ("low", 0.5, True, None), ("mid", 0.5, False, None)]
    assert len(seen) == 1
    assert seen[0].startswith(".")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_told_in_a_sentence(
    tagger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit on the size of files stands for a full disk: TensorFlow's writes fail in the same way."""
    # The weights are too large already, so the graphs need not be traced.
    monkeypatch.setattr("keras_tagger.export.saved_model.signatures", lambda trained: {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
    try:
        with pytest.raises(ModelError) as refusal:
            tagger.export(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (
        str(refusal.value) == f"expected room for a version in {tmp_path}. Received: File too large; nothing is kept."
    )
    assert list(tmp_path.iterdir()) == []


def test_export_is_a_function_of_the_room_and_imports_tensorflow_late() -> None:
    assert export is saved_model.export
    code = "import sys\nimport keras_tagger.export\nsys.exit('imported' if 'tensorflow' in sys.modules else 0)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)


def test_a_file_in_the_way(tagger: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match="expected a directory to export to. Received: an empty path"):
        tagger.export("")
    with pytest.raises(ModelError, match="expected a directory to export to. Received: .*file"):
        tagger.export(tmp_path / "file")


def test_tags_and_folders_that_are_not_utf8(tmp_path: Path, export_only: Any) -> None:
    export_only("tag_info")
    tags = ("low", os.fsdecode(b"r\xe9ggae"))
    small = {"model": {"front_end": {"channels": [4]}, "encoder": {"n_layers": 1}}}
    version = random_tagger(small, tags).export(tmp_path / os.fsdecode(b"exported\xe9"))
    assert (version / "assets" / "tags.txt").read_bytes() == b"low\nr\xe9ggae\n"
    assert [entry["tag"] for entry in json.loads((version / "assets" / "tags.json").read_bytes())] == list(tags)
    assert os.listdir(version.parent) == ["1"]
    # TensorFlow loads only from a path that is UTF-8.
    moved = version.rename(tmp_path / "1")
    ask = tf.saved_model.load(str(moved)).signatures["tag_info"]
    found = ask(tags=tf.constant([b"r\xe9ggae", b"reggae"]))
    np.testing.assert_array_equal(found["threshold"], [0.5, np.nan])
