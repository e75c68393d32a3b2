"""Ensembles of rendered solos."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_tagger.data.dense import read_dense
from keras_tagger.data.manifest import read_manifest
from keras_tagger.errors import ManifestError
from pretrain import remix
from pretrain.score_plan import clash

ROOT = Path(__file__).parents[2]
RATE = 16000
SECONDS = 4.0
# Tag, program and tone in Hz: at other speeds too no tone is another's.
SOLOS = (("piano", 0, 200), ("harp", 46, 400), ("flute", 73, 800), ("sitar", 104, 1600), ("violin", 40, 3200))


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """Five solos for training, and beside them an ensemble, and a solo for testing."""
    rows = []
    for number in range(7):
        tag, program, hz = SOLOS[number % 5]
        texture, split = "ensemble" if number == 5 else "single", "test" if number == 6 else "train"
        soundfile.write(tmp_path / f"{number}.flac", 0.5 * np.sin(2 * np.pi * hz * np.arange(4 * RATE) / RATE), RATE)
        tags = {name: [[0.0, 3.0]] if name == tag else [] for name, *_ in SOLOS} | {"solo": [[0.0, SECONDS]]}
        score = {"seconds": SECONDS, "stretch_seconds": 1.0, "tags": tags, "texture": texture, "programs": [program]}
        (tmp_path / f"{number}.json").write_text(json.dumps(score))
        rows.append(
            {
                "path": f"{number}.flac",
                "labels": f"{number}.json",
                "tags": {},
                "split": split,
                "group": f"work {number}",
            }
        )
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def levels_of(waveform: np.ndarray) -> np.ndarray:
    """Of each of `SOLOS` in a mixture, its largest part."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    hz = np.fft.rfftfreq(len(waveform), 1 / RATE)
    return np.array([spectrum[(hz > 0.75 * tone) & (hz < 1.33 * tone)].max() for _, _, tone in SOLOS])


def test_only_solos_for_training_are_taken(scores: Path):
    solos = remix.read_solos(scores)
    assert [(Path(clip.path).name, program) for clip, program in solos] == [
        (f"{number}.flac", SOLOS[number][1]) for number in range(5)
    ]
    rows = [line for line in scores.read_text().splitlines(keepends=True) if '"5.flac"' in line or '"6.flac"' in line]
    scores.write_text("".join(rows))
    with pytest.raises(ManifestError, match="expected training clips of texture single. Received: none"):
        remix.read_solos(scores)


def test_a_clip_has_the_solos_that_its_times_name(scores: Path):
    solos = remix.read_solos(scores)
    sizes = []
    for number in range(20):
        waveform, times = remix.remix_clip(solos, number, seed=0)
        heard = np.array([bool(times[tag]) for tag, *_ in SOLOS])
        assert heard[number % 5]
        levels = levels_of(waveform)
        # 10 dB and what the equalizer does, 8 dB up or down.
        assert levels[heard].min() > 0.04 * levels.max()
        assert levels[~heard].max(initial=0.0) < 0.01 * levels.max()
        assert times["solo"] == []
        assert 3.19 * RATE <= len(waveform) <= 5.01 * RATE
        (first,) = times[SOLOS[number % 5][0]]
        assert first == pytest.approx([0.0, 3.0 / 4.0 * len(waveform) / RATE], abs=0.01)
        assert max(end for played in times.values() for _, end in played) <= len(waveform) / RATE
        assert 10 ** (-14 / 20) - 1e-3 < np.abs(waveform).max() < 10 ** (-0.5 / 20) + 1e-3
        sizes.append(int(heard.sum()))
    assert set(sizes) == {2, 3, 4}


def test_no_solo_makes_anothers_tag_unknown(scores: Path):
    clip = remix.read_solos(scores)[0][0]
    # Is a violin among strings? A second violin is not asked.
    solos = [(clip, program) for program in (40, 48, 40, 0)]
    assert clash(40, 48)
    assert not clash(40, 0)
    for number in range(40):
        programs = [program for _, program in remix.choose(solos, number, np.random.default_rng(number))]
        assert programs[0] == solos[number % 4][1]
        assert sorted(programs) in ([0, 40], [0, 48])


def test_a_set_is_a_function_of_its_seed_and_can_be_gone_on_with(scores: Path, tmp_path: Path):
    solos, out = remix.read_solos(scores), tmp_path / "out"
    remix.remix(solos, out, 3, seed=1)
    made = [(out / f"{number:05d}.flac").read_bytes() for number in range(3)]
    (out / "00001.flac").write_bytes(b"kept")
    (out / "00002.flac").unlink()
    remix.remix(solos, out, 7, seed=1)
    assert (out / "00001.flac").read_bytes() == b"kept"
    assert (out / "00002.flac").read_bytes() == made[2]
    remix.remix(solos, tmp_path / "other", 1, seed=2)
    assert (tmp_path / "other" / "00000.flac").read_bytes() != made[0]
    clips = read_manifest(out / "manifest.jsonl").clips
    assert [Path(clip.path).name for clip in clips] == [f"{number:05d}.flac" for number in range(7)]
    assert [clip.group for clip in clips] == [f"work {number}" for number in (0, 1, 2, 3, 4, 0, 1)]
    assert {clip.split for clip in clips} == {"train"}
    dense = read_dense(str(clips[6].labels))
    assert dense.values[0, dense.tags.index("harp")] == 1.0
    assert not dense.values[:, dense.tags.index("solo")].any()


def test_apart_gives_every_solo_a_sound_of_its_own(scores: Path, tmp_path: Path):
    solos = remix.read_solos(scores)
    quiet = []
    for number in range(12):
        together, times = remix.remix_clip(solos, number, seed=0)
        apart, apart_times = remix.remix_clip(solos, number, seed=0, apart=True)
        assert not np.array_equal(together, apart)
        heard = np.array([bool(apart_times[tag]) for tag, *_ in SOLOS])
        assert heard[number % 5]
        # The same solo comes first, at the same speed.
        assert len(apart) == len(together)
        assert apart_times[SOLOS[number % 5][0]] == times[SOLOS[number % 5][0]]
        levels = levels_of(apart)
        assert levels[heard].min() > 0.02 * levels.max()
        quiet.append(levels[~heard].max(initial=0.0) / levels.max())
    assert max(quiet) < 0.02
    remix.remix(solos, tmp_path / "out", 1, seed=0, apart=True)
    written, _ = soundfile.read(tmp_path / "out" / "00000.flac", dtype="float32")
    np.testing.assert_allclose(written, remix.remix_clip(solos, 0, 0, apart=True)[0], atol=1e-4)


def test_half_of_the_solos_that_are_apart_are_in_a_room(scores: Path, monkeypatch):
    solos = remix.read_solos(scores)
    rooms = 0

    def silent(waveform, rng, longest_seconds):
        nonlocal rooms
        rooms += longest_seconds == remix.ROOM_SECONDS
        return np.zeros_like(waveform)

    monkeypatch.setattr(remix, "reverberant", silent)
    heard = audible = 0
    for number in range(40):
        waveform, times = remix.remix_clip(solos, number, seed=3, apart=True)
        heard += sum(bool(times[tag]) for tag, *_ in SOLOS)
        levels = levels_of(waveform)
        audible += int((levels > max(0.02 * levels.max(), 1e-6)).sum())
    assert audible == heard - rooms
    assert 0.35 < rooms / heard < 0.65


def test_clips_begin_with_the_tags_asked_for(scores: Path, tmp_path: Path):
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "pretrain.remix",
        f"--manifest={scores}",
        f"--out={out}",
        "--n_clips=4",
        "--jobs=1",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((".", "tools"))}
    how = {"capture_output": True, "text": True, "env": environment, "cwd": ROOT, "check": False}
    done = subprocess.run([*command, "--first=flute", "--first=harp", "--apart"], **how)
    assert done.returncode == 0, done.stderr
    clips = read_manifest(out / "manifest.jsonl").clips
    assert [clip.group for clip in clips] == ["work 1", "work 2", "work 1", "work 2"]
    for clip, tag in zip(clips, ("harp", "flute", "harp", "flute"), strict=True):
        assert json.loads(Path(str(clip.labels)).read_text())["tags"][tag]
    solos = remix.read_solos(scores)
    expected, _ = remix.remix_clip(solos, 1, 0, apart=True, firsts=[solos[1], solos[2]])
    np.testing.assert_allclose(soundfile.read(clips[1].path, dtype="float32")[0], expected, atol=1e-4)
    done = subprocess.run([*command, "--first=choir"], **how)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: expected a solo of choir. Received: none in 5 solos"
