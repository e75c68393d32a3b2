"""The packaged models, run by ONNX Runtime from their graphs and the weights of the package."""

from __future__ import annotations

import configparser
import hashlib
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import build_lite
import keras_tagger as kt
from keras_tagger.config import config_from_dict
from keras_tagger.errors import ModelError
from keras_tagger.runtimes.graphs import graph_entry, read_graph
from keras_tagger.storage.pretrained import pretrained, read_packaged, weights_folder

pytest.importorskip("onnxruntime", reason="the extra onnx")

CLIP = Path(str(resources.files("keras_tagger"))) / "clips" / "jazz_vibes.ogg"


@pytest.mark.parametrize("name", list(pretrained()))
def test_a_packaged_model_tags_as_keras_does(name: str) -> None:
    found = kt.load(name, runtime="onnx")
    expected = kt.load(name)
    assert found.tags == expected.tags
    assert found.info == expected.info
    windowing, model = found.model.windowing, expected.model
    assert windowing == model.windowing
    window = next(windowing.cut(CLIP)).waveform[np.newaxis]
    ours, keras = found.model.analyze(window), model.analyze(window)
    for output in ("tags", "attention", "contributions"):
        np.testing.assert_allclose(ours[output], keras[output], atol=1e-4)
    np.testing.assert_allclose(ours["embedding"], keras["embedding"], atol=1e-3)


def test_graphs_are_those_of_the_list() -> None:
    folder = weights_folder()
    entries = json.loads((folder / "graphs.json").read_text("utf-8"))
    assert {entry["file"] for entry in entries} == {path.name for path in folder.glob("*.onnx")}
    for entry in entries:
        assert hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as keras-tagger-lite has it."""
    folder = tmp_path_factory.mktemp("lite")
    build_lite.copy_package(folder / "keras_tagger")
    return folder


def test_the_small_distribution_tags_without_tensorflow(lite: Path, tmp_path: Path) -> None:
    """In a process in which what it does not ask for cannot be imported."""
    code = f"""
import sys
sys.path.insert(0, {str(lite)!r})
for name in ("tensorflow", "keras", "kapre", "jinja2", "matplotlib", "tensorboard", "grpc", "tornado"):
    sys.modules[name] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "tensorflow" else find(name, *rest)
import keras_tagger as kt
from keras_tagger.cli import main
assert kt.__file__.startswith({str(lite)!r})
assert main(["tag", {str(CLIP)!r}, "--model", "compact", "--top", "2", "--json"]) == 0
tagger = kt.load("compact")
assert tagger.embed({str(CLIP)!r}).shape == (192,)
assert tagger.contributions({str(CLIP)!r}, ["guitar"]).values.shape[0] == 1
for command in (["fit", "--data", "music/"], ["serve", "exported/"], ["tag", {str(CLIP)!r}, "--runtime", "keras"]):
    assert main(command) == 1, command
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    best = kt.load("compact", runtime="onnx").tag(CLIP, top=2)
    assert json.loads(run.stdout)["tags"] == pytest.approx(best.to_dict(), abs=1e-6)
    lines = run.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("keras-tagger: ") and line.endswith("pip install keras_tagger") for line in lines), lines


def test_the_small_distribution_asks_for_no_tensorflow() -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_string(build_lite.lite_setup(Path(build_lite.ROOT, "setup.cfg").read_text("utf-8")))
    assert settings["metadata"]["name"] == "keras-tagger-lite"
    assert settings["metadata"]["version"] == "attr: keras_tagger.__version__"
    named = {line.partition(">")[0] for line in settings["options"]["install_requires"].split()}
    assert named == {"numpy", "soundfile", "soxr", "onnxruntime", "absl-py", "PyYAML", "tqdm"}


def test_a_damaged_graph_is_refused(tmp_path: Path) -> None:
    for path in weights_folder().iterdir():
        if path.suffix != ".npz":
            (tmp_path / path.name).write_bytes(path.read_bytes() if path.suffix != ".onnx" else b"changed")
    packaged = read_packaged("compact")
    entry = graph_entry(config_from_dict({"audio": packaged.audio, "model": packaged.model}), tmp_path)
    assert entry is not None
    with pytest.raises(ModelError, match="expected SHA-256"):
        read_graph(entry, tmp_path)
    assert graph_entry(kt.presets()["won2019"], tmp_path) is None
