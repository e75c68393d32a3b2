"""Varied copies of clips."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_tagger.data.manifest import read_manifest
from keras_tagger.errors import ManifestError
from pretrain import vary

RATE = 16000


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows = []
    for number, (package, split) in enumerate((("one", "train"), ("one", "train"), ("two", "train"), ("two", "test"))):
        tone = np.sin(2 * np.pi * 400 * (1 + number) * np.arange(4 * RATE) / RATE)
        soundfile.write(tmp_path / f"{number}.flac", 0.5 * tone, RATE)
        rows.append({"path": f"{number}.flac", "tags": [package], "split": split, "group": f"{package}/{number}"})
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_copies_of_training_clips_only(manifest: Path, tmp_path: Path):
    assert vary.vary(manifest, tmp_path / "out", copies=2) == 6
    clips = read_manifest(tmp_path / "out" / "manifest.jsonl").clips
    assert [Path(clip.path).relative_to(tmp_path / "out").as_posix() for clip in clips] == [
        f"{copy}/{number:05d}.flac" for copy in range(2) for number in range(3)
    ]
    assert {clip.split for clip in clips} == {"train"}
    assert [clip.group for clip in clips[:3]] == ["one/0", "one/1", "two/2"]
    for clip in clips:
        waveform, rate = soundfile.read(clip.path)
        assert rate == RATE
        # 4 s, 0.8 to 1.25 times as fast.
        assert 3.19 * RATE <= len(waveform) <= 5.01 * RATE
        assert 0.05 < np.abs(waveform).max() <= 1.0


def test_a_copy_is_a_function_of_seed_and_place(manifest: Path):
    clips = [clip for clip in read_manifest(manifest).clips if clip.split == "train"]
    first = vary.vary_clip(clips, 0, 0, seed=1)
    np.testing.assert_array_equal(first, vary.vary_clip(clips, 0, 0, seed=1))
    for other in (vary.vary_clip(clips, 0, 1, seed=1), vary.vary_clip(clips, 0, 0, seed=2)):
        assert len(other) != len(first)


def test_pitch_follows_speed_and_others_are_mixed_in(manifest: Path):
    clips = [clip for clip in read_manifest(manifest).clips if clip.split == "train"]
    mixed = 0
    for copy in range(20):
        waveform = vary.vary_clip(clips, 0, copy, seed=0)
        spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
        hz = np.fft.rfftfreq(len(waveform), 1 / RATE)
        own = (hz > 300) & (hz < 520)
        speed = 4 * RATE / len(waveform)
        assert hz[own][np.argmax(spectrum[own])] == pytest.approx(400 * speed, rel=0.01)
        # The other package's tone is at 1200 Hz.
        mixed += spectrum[(hz > 900) & (hz < 1550)].max() > 0.02 * spectrum[own].max()
    assert 4 <= mixed <= 16


def test_what_is_there_is_not_made_again(manifest: Path, tmp_path: Path):
    out = tmp_path / "out"
    vary.vary(manifest, out, copies=1)
    (out / "0" / "00001.flac").write_bytes(b"kept")
    (out / "0" / "00002.flac").unlink()
    vary.vary(manifest, out, copies=1)
    assert (out / "0" / "00001.flac").read_bytes() == b"kept"
    assert (out / "0" / "00002.flac").stat().st_size > 1000


def test_one_package_cannot_be_mixed(manifest: Path, tmp_path: Path):
    rows = [line for line in manifest.read_text().splitlines(keepends=True) if '"one"' in line]
    manifest.write_text("".join(rows))
    with pytest.raises(ManifestError, match="at least two packages"):
        vary.vary(manifest, tmp_path / "out", copies=1)
