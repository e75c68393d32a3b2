"""Varied copies of clips."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_tagger.data.dense import read_dense
from keras_tagger.data.manifest import Clip, read_manifest
from keras_tagger.errors import ManifestError
from pretrain import vary

ROOT = Path(__file__).parents[2]
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
    clips = training(manifest)
    first, times = vary.vary_clip(clips, 0, 0, seed=1)
    assert times == {}
    np.testing.assert_array_equal(first, vary.vary_clip(clips, 0, 0, seed=1)[0])
    for other, _ in (vary.vary_clip(clips, 0, 1, seed=1), vary.vary_clip(clips, 0, 0, seed=2)):
        assert len(other) != len(first)


def test_pitch_follows_speed_and_others_are_mixed_in(manifest: Path):
    clips = training(manifest)
    mixed = 0
    for copy in range(20):
        waveform, _ = vary.vary_clip(clips, 0, copy, seed=0)
        spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
        hz = np.fft.rfftfreq(len(waveform), 1 / RATE)
        own = (hz > 300) & (hz < 520)
        speed = 4 * RATE / len(waveform)
        assert hz[own][np.argmax(spectrum[own])] == pytest.approx(400 * speed, rel=0.01)
        # The other package's tone is at 1200 Hz.
        mixed += spectrum[(hz > 900) & (hz < 1550)].max() > 0.02 * spectrum[own].max()
    assert 4 <= mixed <= 16


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_of_mixtures_is_that_asked_for(manifest: Path, tmp_path: Path, share: float):
    vary.vary(manifest, tmp_path / "out", copies=4, mixed_share=share)
    copies = [clip for clip in read_manifest(tmp_path / "out" / "manifest.jsonl").clips if clip.group == "one/0"]
    assert len(copies) == 4
    for clip in copies:
        waveform, _ = soundfile.read(clip.path)
        spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
        # The clip's tone is at 320 to 500 Hz, that of the other package at 960 to 1500.
        added = np.fft.rfftfreq(len(waveform), 1 / RATE) > 800
        assert (spectrum[added].max() > 0.02 * spectrum.max()) == (share == 1.0)


def test_what_is_there_is_not_made_again(manifest: Path, tmp_path: Path):
    out = tmp_path / "out"
    vary.vary(manifest, out, copies=1)
    (out / "0" / "00001.flac").write_bytes(b"kept")
    (out / "0" / "00002.flac").unlink()
    vary.vary(manifest, out, copies=1)
    assert (out / "0" / "00001.flac").read_bytes() == b"kept"
    assert (out / "0" / "00002.flac").stat().st_size > 1000


def test_validation_clips_are_varied_with_those_of_training(manifest: Path, tmp_path: Path):
    out = tmp_path / "out"
    with pytest.raises(ManifestError, match="clips of the split valid, .* Received: 0 clips of the split, 3 in all"):
        vary.vary(manifest, out, copies=1, split="valid")
    manifest.write_text(manifest.read_text().replace('"split": "test"', '"split": "valid"'))
    assert vary.vary(manifest, out, copies=2, mixed_share=1.0, split="valid") == 2
    clips = read_manifest(out / "manifest.jsonl").clips
    # The fourth clip, of 1600 Hz, is numbered after the three for training; the other package is at 400 and 800 Hz.
    assert [Path(clip.path).relative_to(out).as_posix() for clip in clips] == ["0/00003.flac", "1/00003.flac"]
    assert {(clip.split, clip.group) for clip in clips} == {("train", "two/3")}
    for clip in clips:
        waveform, _ = soundfile.read(clip.path)
        spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
        hz = np.fft.rfftfreq(len(waveform), 1 / RATE)
        assert 1250 < hz[np.argmax(spectrum)] < 2050
        assert spectrum[hz < 1050].max() > 0.02 * spectrum.max()


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """Two rendered scores, tones of 3 kHz for training and 6 kHz for test."""
    (tmp_path / "scores").mkdir()
    rows = []
    for number, (split, hz) in enumerate((("train", 3000), ("test", 6000))):
        tone = np.sin(2 * np.pi * hz * np.arange(4 * RATE) / RATE)
        soundfile.write(tmp_path / "scores" / f"{number}.flac", 0.5 * tone, RATE)
        times = {"seconds": 4.0, "stretch_seconds": 1.0, "tags": {"piano": [[0.0, 4.0]]}}
        (tmp_path / "scores" / f"{number}.json").write_text(json.dumps(times))
        row = {"path": f"{number}.flac", "labels": f"{number}.json", "tags": {}, "split": split, "group": "score"}
        rows.append(row)
    path = tmp_path / "scores" / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_is_added_can_be_of_another_manifest(manifest: Path, scores: Path, tmp_path: Path):
    # Of one package, so that nothing else could be added.
    manifest.write_text("".join(line for line in manifest.read_text().splitlines(keepends=True) if '"one"' in line))
    out = tmp_path / "out"
    assert vary.vary(manifest, out, copies=3, mixed_share=1.0, added=[scores]) == 6
    clips = read_manifest(out / "manifest.jsonl").clips
    assert [clip.labels for clip in clips] == [None] * 6
    for clip in clips:
        waveform, _ = soundfile.read(clip.path)
        spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
        hz = np.fft.rfftfreq(len(waveform), 1 / RATE)
        # 0.8 to 1.25 times as fast, and softened by the equalizer or the low-pass filter.
        assert spectrum[(hz > 2300) & (hz < 3850)].max() > 1e-4 * spectrum.max()
        assert spectrum[hz > 4700].max() < 1e-4 * spectrum.max()


def test_only_training_clips_are_added_and_only_to_clips_without_times(manifest: Path, scores: Path, tmp_path: Path):
    with pytest.raises(ManifestError, match="expected clips without times, for --added with clips without times"):
        vary.vary(scores, tmp_path / "out", copies=1, added=[manifest])
    scores.write_text(scores.read_text().splitlines()[1] + "\n")
    with pytest.raises(ManifestError, match="scores/manifest.jsonl: expected clips of the split train. Received: none"):
        vary.vary(manifest, tmp_path / "out", copies=1, added=[scores])
    assert not (tmp_path / "out").exists()


def test_one_package_cannot_be_mixed(manifest: Path, tmp_path: Path):
    rows = [line for line in manifest.read_text().splitlines(keepends=True) if '"one"' in line]
    manifest.write_text("".join(rows))
    with pytest.raises(ManifestError, match="at least two packages"):
        vary.vary(manifest, tmp_path / "out", copies=1)


def test_times_follow_speed(manifest: Path):
    heard = {"piano": [[0.0, 1.0], [2.0, 4.0]], "cello": [], "no vocals": [[0.0, 4.0]]}
    add_times(manifest, [heard] * 4)
    for copy in range(4):
        waveform, times = vary.vary_clip(training(manifest), 0, copy, seed=0, mixed_share=0.0)
        speed = 4.0 / (len(waveform) / RATE)
        assert sorted(times) == sorted(heard)
        for tag, intervals in heard.items():
            expected = np.array(intervals).reshape(-1, 2) / speed
            assert np.array(times[tag]).reshape(-1, 2) == pytest.approx(expected, abs=0.002)


def test_a_mixture_has_what_either_has_and_knows_what_both_know(manifest: Path):
    one = {"piano": [[0.0, 1.0]], "cello": [], "solo": [[0.0, 1.0]], "no vocals": [[0.0, 4.0]], "harp": []}
    two = {"piano": [[2.0, 2.5]], "cello": [[1.0, 2.0]], "solo": [[0.0, 4.0]], "no vocals": [], "sitar": []}
    add_times(manifest, [one, one, two, two])
    for number in (0, 2):
        waveform, times = vary.vary_clip(training(manifest), number, 0, seed=0, mixed_share=1.0)
        assert sorted(times) == ["cello", "no vocals", "piano", "solo"]
        assert times["solo"] == times["no vocals"] == []
        assert len(times["piano"]) == 2
        assert len(times["cello"]) == 1
        assert max(end for intervals in times.values() for _, end in intervals) <= len(waveform) / RATE


def test_times_are_written_as_dense_labels(manifest: Path, tmp_path: Path):
    add_times(manifest, [{"piano": [[0.0, 4.0]], "cello": []}] * 4)
    vary.vary(manifest, tmp_path / "out", copies=2)
    clips = read_manifest(tmp_path / "out" / "manifest.jsonl").clips
    assert len(clips) == 6
    for clip in clips:
        dense = read_dense(Path(str(clip.labels)))
        assert len(dense.values) == pytest.approx(soundfile.info(clip.path).frames / RATE / dense.hop_seconds, abs=1.0)
        assert dense.values[0, dense.tags.index("piano")] == 1.0
        assert set(dense.values[:, dense.tags.index("cello")]) == {0.0}


def test_mixed_times_join_overlaps_and_end_with_the_mixture():
    mixed = vary.mixed_times(
        {"piano": [[0.0, 2.0]], "no voice": [[0.0, 9.0]]}, {"piano": [[1.5, 9.0]], "no voice": [[0.0, 5.0]]}, 6.0
    )
    assert mixed == {"piano": [[0.0, 6.0]], "no voice": [[0.0, 6.0]]}


def training(manifest: Path) -> list[Clip]:
    return [clip for clip in read_manifest(manifest).clips if clip.split == "train"]


def add_times(manifest: Path, heard: list[dict[str, list[list[float]]]]) -> None:
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row, tags in zip(rows, heard, strict=True):
        row.update(tags={}, labels=Path(row["path"]).with_suffix(".json").name)
        content = {"seconds": 4.0, "stretch_seconds": 0.5, "tags": tags}
        (manifest.parent / row["labels"]).write_text(json.dumps(content))
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_with_effects_copies_are_others_and_as_long_as_allowed(manifest: Path, tmp_path: Path):
    clips = training(manifest)
    plain = [vary.vary_clip(clips, 0, copy, seed=1)[0] for copy in range(6)]
    changed = [vary.vary_clip(clips, 0, copy, seed=1, effects=True)[0] for copy in range(6)]
    assert not any(np.array_equal(one, other) for one, other in zip(plain, changed, strict=True))
    assert all(np.abs(waveform).max() <= 1.0 and len(waveform) <= 30 * RATE for waveform in changed)
    np.testing.assert_array_equal(changed[2], vary.vary_clip(clips, 0, 2, seed=1, effects=True)[0])
    assert vary.vary(manifest, tmp_path / "out", copies=1, seed=1, effects=True) == 3
    written, _ = soundfile.read(tmp_path / "out" / "0" / "00000.flac", dtype="float32")
    np.testing.assert_allclose(written, changed[0], atol=1e-4)


def test_effects_are_refused_where_labels_are_times(manifest: Path, tmp_path: Path):
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    (tmp_path / "0.json").write_text(json.dumps({"seconds": 4.0, "stretch_seconds": 1.0, "tags": {"piano": []}}))
    rows[0].update(labels="0.json", tags={})
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ManifestError, match="expected clips without times, for --effects. Received: those of"):
        vary.vary(manifest, tmp_path / "out", copies=1, effects=True)
    assert not (tmp_path / "out").exists()


def test_effects_and_what_is_added_on_the_command_line(manifest: Path, scores: Path, tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((".", "tools"))}
    command = [
        sys.executable,
        "-m",
        "pretrain.vary",
        f"--manifest={manifest}",
        f"--out={tmp_path / 'out'}",
        "--effects",
        "--mixed_share=1",
        f"--added={scores}",
    ]
    done = subprocess.run(
        [*command, "--copies=1", "--jobs=1"], capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    written, _ = soundfile.read(tmp_path / "out" / "0" / "00001.flac", dtype="float32")
    expected, _ = vary.vary_clip(training(manifest), 1, 0, 0, 1.0, effects=True, addable=training(scores))
    np.testing.assert_allclose(written, expected, atol=1e-4)


def test_times_survive_when_what_is_added_has_times_too(scores: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert vary.vary(scores, out, copies=2, mixed_share=1.0, added=[scores]) > 0
    for clip in read_manifest(out / "manifest.jsonl").clips:
        times = json.loads(Path(str(clip.labels)).read_text("utf-8"))
        assert times["seconds"] == pytest.approx(soundfile.info(clip.path).duration, abs=1e-3)
        assert times["tags"]


def test_a_mixture_with_a_voice_is_not_instrumental():
    voice = {"vocals": [[0.0, 1.0]], "msd/instrumental": [], "no vocals": []}
    band = {"vocals": [], "msd/instrumental": [[0.0, 2.0]], "no vocals": [[0.0, 2.0]]}
    mixed = vary.mixed_times(band, voice, 2.0)
    assert mixed == {"vocals": [[0.0, 1.0]], "msd/instrumental": [], "no vocals": []}


def test_production_changes_the_sound_and_keeps_the_length(manifest: Path):
    clips = training(manifest)
    plain = [vary.vary_clip(clips, 0, copy, 0)[0] for copy in range(4)]
    produced = [vary.vary_clip(clips, 0, copy, 0, production=True)[0] for copy in range(4)]
    assert [len(waveform) for waveform in produced] == [len(waveform) for waveform in plain]
    assert sum(not np.allclose(a, b, atol=1e-3) for a, b in zip(plain, produced, strict=True)) >= 3
