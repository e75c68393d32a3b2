"""Layers of Sonic Visualiser: the elements of its files, and the program itself where it is installed."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile

from keras_tagger.heatmap import Heatmap
from keras_tagger.tags import TagInfo, make_tags

RATE = 8000
NAMES = ["guitar", 'drums & "bass"']
TAGS = make_tags(NAMES, np.array([0.75, 0.25]), {NAMES[0]: TagInfo(), NAMES[1]: TagInfo(0.2)}, None, False, seconds=3.0)
VALUES = np.array([[0.25, 0.5, 1.0], [0.0, 0.125, 0.75]], np.float32)
HEAT = Heatmap(VALUES, NAMES, np.array([0.5, 1.5, 2.5]), "contributions")


def read(text):
    """The model, the dataset and the layer of a file, which must name each other."""
    assert text.splitlines()[1] == "<!DOCTYPE sonic-visualiser>"
    root = ElementTree.fromstring(text)
    assert [child.tag for child in root] == ["data", "display"]
    model, dataset, layer = root.find("data/model"), root.find("data/dataset"), root.find("display/layer")
    assert model.get("dataset") == dataset.get("id")
    assert layer.get("model") == model.get("id")
    assert model.get("sampleRate") == str(RATE)
    return model, dataset, layer


def test_regions():
    model, dataset, layer = read(TAGS.to_sonic_visualiser(RATE))
    assert (layer.get("type"), model.get("subtype"), model.get("end")) == ("regions", "region", "24000")
    assert [tuple(point.get(key) for key in ("frame", "duration", "value", "label")) for point in dataset] == [
        ("0", "24000", "0.75", NAMES[0]),
        ("0", "24000", "0.25", NAMES[1]),
    ]


def test_a_grid():
    model, dataset, layer = read(HEAT.to_sonic_visualiser(RATE))
    assert (layer.get("type"), model.get("windowSize"), model.get("yBinCount")) == ("colour3dplot", "8000", "2")
    assert [point.get("name") for point in dataset.findall("bin")] == NAMES
    rows = [list(map(float, row.text.split(" "))) for row in dataset.findall("row")]
    np.testing.assert_allclose(rows, VALUES.T)


def test_a_grid_of_columns_of_different_lengths():
    heat = Heatmap(VALUES, NAMES, np.array([0.5, 1.5, 2.1]), "taggram")
    _, dataset, _ = read(heat.to_sonic_visualiser(RATE))
    first = [float(row.text.split(" ")[0]) for row in dataset.findall("row")]
    assert first == [0.25, 0.5, 1.0]


@pytest.mark.skipif(shutil.which("sonic-visualiser") is None, reason="Sonic Visualiser is not installed")
def test_sonic_visualiser_reads_both(tmp_path):
    soundfile.write(tmp_path / "clip.wav", np.zeros(3 * RATE), RATE)
    (tmp_path / "tags.svl").write_text(TAGS.to_sonic_visualiser(RATE))
    (tmp_path / "map.svl").write_text(HEAT.to_sonic_visualiser(RATE))
    # The program asks at its first start whether it may use the network.
    settings = tmp_path / ".config" / "sonic-visualiser" / "Sonic Visualiser.conf"
    settings.parent.mkdir(parents=True)
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path)}
    asked = subprocess.run(
        ["sonic-visualiser", "--version"], env=environment, capture_output=True, text=True, check=True
    )
    version = re.search(r"(?m)^\d+(\.\d+)+$", asked.stdout + asked.stderr)
    assert version is not None
    settings.write_text(f"[Preferences]\nnetwork-permission-{version[0]}=false\n")
    script = ["/open clip.wav", "/openadditional tags.svl", "/setcurrent 1 3", "/exportlayer tags_out.csv"]
    script += ["/openadditional map.svl", "/setcurrent 1 4", "/exportlayer map_out.csv", "/quit"]
    (tmp_path / "script.txt").write_text("\n1\n".join(script) + "\n")
    subprocess.run(
        ["sonic-visualiser", "--no-audio", "--no-splash", "--osc-script", "script.txt"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    rows = list(csv.reader((tmp_path / "tags_out.csv").open()))
    assert sorted((float(value), name) for *_, value, _, name in rows) == [(0.25, NAMES[1]), (0.75, NAMES[0])]
    rows = list(csv.reader((tmp_path / "map_out.csv").open()))
    np.testing.assert_allclose([[float(value) for value in row[-2:]] for row in rows], VALUES.T)
