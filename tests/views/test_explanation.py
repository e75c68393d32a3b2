"""Maps as files, the page, and the command line."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from keras_tagger.cli import main as cli
from keras_tagger.heatmap import Heatmap
from keras_tagger.views.explanation_files import write
from tiny import RATE, noise, tone


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli._run(cli._parse(["keras-tagger", "explain", *(str(argument) for argument in arguments)]))
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "low.wav"
    soundfile.write(path, tone(150.0, 1.2, seed=9), RATE)
    return path


def test_numbers_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    heat = Heatmap(rng.random((2, 3, 4)), ("a", "é"), np.arange(4) + 0.5, "made", np.arange(3) + 1.0, [0.25, 0.5])
    with np.load(write(heat, tmp_path / "map.npz", b"")) as stored:
        found = {name: stored[name] for name in stored.files}
    np.testing.assert_array_equal(found["values"], heat.values)
    np.testing.assert_array_equal(found["scores"], [0.25, 0.5])
    assert (found["tags"].tolist(), str(found["method"])) == (["a", "é"], "made")
    np.testing.assert_array_equal(found["frequencies"], [1, 2, 3])
    assert json.loads(write(heat, tmp_path / "map.json", b"").read_text("utf-8")) == heat.to_dict()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.json", "map.npz"]


def test_a_page_holds_all_it_needs(tmp_path: Path) -> None:
    wave = noise(RATE)
    heat = Heatmap(np.ones((2, 10)), ("<b>", "c"), np.arange(10) * 0.1 + 0.05, "made", scores=[0.9, 0.1])
    text = write(heat, tmp_path / "map.html", (wave, RATE), "Tom & Jerry").read_text("utf-8")
    assert "Tom &amp; Jerry" in text
    assert "<td>&lt;b&gt;<td>0.90" in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    picture, *sounds = re.findall(r"src=\"data:(?:image/png|audio/flac);base64,([^\"]+)\"", text)
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert len(sounds) == 5  # the clip, and of each tag the kept part and the rest
    parts = [soundfile.read(io.BytesIO(base64.b64decode(sound)))[0] for sound in sounds]
    np.testing.assert_allclose(parts[0], np.clip(wave, -1, 1), atol=1e-4)
    np.testing.assert_allclose(parts[1] + parts[2], parts[0], atol=1e-4)
    # The line over the picture covers the axes, in time and in place.
    left, width, start, seconds = (
        float(re.search(pattern, text)[1])  # type: ignore[index]
        for pattern in (r"left = ([\d.]+) /", r"width = ([\d.]+) /", r"start = ([\d.]+)", r"seconds = ([\d.]+)")
    )
    assert (start, seconds) == (0.0, 1.0)
    assert 0 < left < 30
    assert 50 < width < 100 - left


def test_command_writes_a_map_and_its_audio(
    capsys: pytest.CaptureFixture[str], tiny_run: Any, clip: Path, tmp_path: Path
) -> None:
    out, heard = tmp_path / "map.json", tmp_path / "kept.wav"
    arguments = ("--model", tiny_run.dir, "--method", "integrated_gradients", "--tags", "low", "--set", "steps=4")
    status, printed, _ = call(capsys, clip, *arguments, "--out", out, "--listen", heard)
    assert status == 0
    assert printed.splitlines() == [str(out), str(heard), str(tmp_path / "kept_removed.wav")]
    found = json.loads(out.read_text("utf-8"))
    expected = tiny_run.tagger.explain(clip, "integrated_gradients", ["low"], steps=4)
    np.testing.assert_allclose(found["values"], expected.values, atol=1e-5)
    assert len(found["frequencies"]) == 32
    kept, removed = (soundfile.read(path)[0] for path in (heard, tmp_path / "kept_removed.wav"))
    np.testing.assert_allclose(kept + removed, soundfile.read(clip)[0], atol=1e-3)
    for suffix in ("png", "html"):
        status, _, _ = call(capsys, clip, "--model", tiny_run.dir, "--out", tmp_path / f"map.{suffix}")
        assert status == 0
        assert (tmp_path / f"map.{suffix}").stat().st_size > 1000


def test_command_without_files_says_when(capsys: pytest.CaptureFixture[str], tiny_run: Any, clip: Path) -> None:
    status, out, _ = call(capsys, clip, "--model", tiny_run.dir)
    lines = out.splitlines()
    assert status == 0
    assert [line.split("  ")[0] for line in lines] == list(tiny_run.tagger.tag(clip, top=3).names)
    assert all(re.fullmatch(r"\w+  0\.\d{3}  \d\.\d-\d\.\d s(, \d\.\d-\d\.\d s)*", line) for line in lines)


def test_command_lists_methods(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "--methods")
    assert status == 0
    assert "occlusion " in out
    assert "--set patch_seconds=0.64" in out
    assert out.count("(default)") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--method", "gradcam"), "method: expected one of attention, rollout"),
        (("--method", "occlusion", "--set", "steps=4"), "options of occlusion: expected one of patch_seconds"),
        (("--tags", "low,kazoo"), "tags: expected some of"),
        (("--out", "map.pdf"), "expected a path that ends in .png, .json, .html, .npz for a map. Received: 'map.pdf'."),
        (("--listen", "x.mp3"), "--listen: expected a path that ends in .wav. Received: 'x.mp3'."),
        (("--share", "0"), "--share: expected a number above 0 and up to 1. Received: 0.0."),
    ],
)
def test_command_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], tiny_run: Any, clip: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    status, out, err = call(capsys, clip, "--model", tiny_run.dir, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith(f"keras-tagger: {sentence}")
    assert err.count("\n") == 1


def test_command_does_not_write_over_the_clip(capsys: pytest.CaptureFixture[str], tiny_run: Any, clip: Path) -> None:
    before = clip.read_bytes()
    status, _, err = call(capsys, clip, "--model", tiny_run.dir, "--listen", clip)
    assert status == 1
    assert "--listen: expected another path than the clip's own" in err
    assert clip.read_bytes() == before
    status, _, err = call(capsys)
    assert (status, err) == (1, "keras-tagger: expected an audio file to explain. Received: none.\n")
