"""Prepared folders: audio is kept, killed runs resume, bad files are left out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_tagger.data.manifest import Clip, Manifest, read_folders, read_manifest
from keras_tagger.data.prepare import prepare, segments_of, to_pcm
from keras_tagger.data.prepared import open_prepared
from keras_tagger.data.sources import open_source
from keras_tagger.data.splits import assign_splits
from keras_tagger.errors import ManifestError, ManifestNotFoundError

RATE = 8000


def tone(path, seconds, frequency, rate=RATE):
    t = np.arange(round(seconds * rate)) / rate
    samples = (0.5 * np.sin(2 * np.pi * frequency * t)).astype(np.float32)
    soundfile.write(path, samples, rate, subtype="FLOAT", format="WAV")
    return samples


@pytest.fixture
def data(tmp_path):
    """Return nine clips of eight files: their waveforms and the manifest."""
    waves, clips = [], []
    for i in range(8):
        split = ("train", "train", "train", "valid", "test")[i % 5]
        path = str(tmp_path / f"{i}.wav")
        waves.append(tone(path, 1.0 + 0.7 * i, 100 + 50 * i))
        clips.append(Clip(path, {"low": 1.0} if i < 4 else {"high": 0.25}, split=split, group=f"g{i}"))
    waves.append(waves[7][RATE : 3 * RATE])
    clips.append(Clip(clips[7].path, {"high": 1.0}, 1.0, 3.0, clips[7].split))
    return waves, Manifest(tuple(clips), ("low", "high"), name="tones")


def test_round_trip(data, tmp_path):
    waves, manifest = data
    prepared = prepare(manifest, tmp_path / "out", RATE, segment_seconds=2.0, shard_clips=2, workers=2)
    assert prepared.splits == ("train", "valid", "test")
    assert prepared.tags == ("low", "high")
    assert (prepared.sample_rate, prepared.segment_seconds) == (RATE, 2.0)
    seen = []
    for split in prepared.splits:
        entries = list(prepared.iter_clips(split))
        assert [entry for entry, _ in entries] == list(prepared.select(split))
        assert prepared.n_clips(split) == len(entries)
        assert prepared.seconds(split) == pytest.approx(sum(len(wave) for _, wave in entries) / RATE)
        for row, (entry, wave) in zip(prepared.labels(split), entries, strict=True):
            clip = manifest.clips[entry.index]
            assert (entry.id, entry.path, entry.split, entry.group) == (
                clip.clip_id,
                clip.path,
                split,
                clip.group,
            )
            np.testing.assert_array_equal(row, manifest.labels()[entry.index])
            assert wave.dtype == np.float32
            np.testing.assert_allclose(wave, waves[entry.index], atol=0.5001 / 32767)
            seen.append(entry.index)
    assert sorted(seen) == list(range(9))
    names = sorted(os.listdir(tmp_path / "out"))
    assert names == ["index.json", "test-00000-of-00001.tfrecord"] + [
        f"train-{i:05d}-of-00004.tfrecord" for i in range(4)
    ] + ["valid-00000-of-00001.tfrecord"]


def test_segments():
    def lengths(n, blocks):
        pieces = list(segments_of(iter(np.array_split(np.arange(n, dtype=np.float32), blocks)), 300))
        np.testing.assert_array_equal(np.concatenate(pieces), np.arange(n))
        return [len(piece) for piece in pieces]

    for blocks in (1, 2, 7):
        assert lengths(10, blocks) == [10]
        assert lengths(300, blocks) == [300]
        assert lengths(399, blocks) == [399]
        assert lengths(400, blocks) == [300, 100]
        assert lengths(1000, blocks) == [300, 300, 300, 100]
        assert lengths(999, blocks) == [300, 300, 399]


def test_pcm_clips_and_rounds():
    pcm = to_pcm(np.array([0.0, 1.0, -1.0, 2.0, -3.0, 0.5, 1.6 / 32767, -1.6 / 32767], np.float32))
    np.testing.assert_array_equal(pcm, [0, 32767, -32767, 32767, -32767, 16384, 2, -2])
    assert pcm.dtype == np.dtype("<i2")


def test_bad_files_are_reported_and_left_out(data, tmp_path, caplog):
    _, manifest = data
    (tmp_path / "text.mp3").write_text("no music")
    whole = Path(manifest.clips[7].path).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    bad = [Clip(str(tmp_path / name), {"low": 1.0}, split="train") for name in ("text.mp3", "cut.wav", "none.wav")]
    mixed = Manifest((*bad, *manifest.clips), manifest.tags)
    prepared = prepare(mixed, tmp_path / "out", RATE, segment_seconds=1.0)
    assert [entry["path"] for entry in prepared.failed] == [clip.path for clip in bad]
    assert sorted(clip.index for clip in prepared.clips) == list(range(3, 12))
    assert sum(1 for _ in prepared.iter_clips("train")) == 7
    assert "3 of 12 clips" in caplog.text
    assert all(str(clip.path) in caplog.text for clip in bad)
    with pytest.raises(ManifestError, match=r"at least one clip that can be decoded\. Received: 3 that cannot"):
        prepare(Manifest(tuple(bad), manifest.tags), tmp_path / "bad", RATE)


def test_a_finished_folder_is_returned_and_a_changed_one_made_anew(data, tmp_path):
    _, manifest = data
    out = tmp_path / "out"
    first = prepare(manifest, out, RATE, shard_clips=2)
    times = {name: os.stat(out / name).st_mtime_ns for name in os.listdir(out)}
    assert prepare(manifest, out, RATE, shard_clips=2) == first
    assert {name: os.stat(out / name).st_mtime_ns for name in os.listdir(out)} == times
    assert open_source(out) == first == open_prepared(out)

    (out / "notes.txt").write_text("mine")
    tone(manifest.clips[0].path, 3.0, 440)
    second = prepare(manifest, out, RATE, shard_clips=3)
    assert second.fingerprint != first.fingerprint
    assert {clip.index: clip.seconds for clip in second.clips}[0] == 3.0
    assert sorted(os.listdir(out)) == sorted(["index.json", "notes.txt", *{clip.shard for clip in second.clips}])
    assert all(clip.shard.endswith(("-of-00003.tfrecord", "-of-00001.tfrecord")) for clip in second.clips)


def test_a_lost_index_costs_nothing_but_the_shards_without_outcome(data, tmp_path):
    """The state after a kill: some shards with an outcome, one half-written, no index."""
    _, manifest = data
    out = tmp_path / "out"
    reference = prepare(manifest, tmp_path / "reference", RATE, shard_clips=2)
    prepare(manifest, out, RATE, shard_clips=2)
    kept = "train-00001-of-00004.tfrecord"
    outcome = {
        "fingerprint": reference.fingerprint,
        "clips": [
            {"index": clip.index, "segments": list(clip.segments)} for clip in reference.clips if clip.shard == kept
        ],
        "failed": [],
    }
    (out / kept.replace("tfrecord", "json")).write_text(json.dumps(outcome))
    (out / "index.json").unlink()
    (out / ".train-00000-of-00004.99.clip").write_bytes(b"half")
    (out / ".index.99.json").write_text("{")
    time_kept = os.stat(out / kept).st_mtime_ns
    time_other = os.stat(out / "train-00000-of-00004.tfrecord").st_mtime_ns
    resumed = prepare(manifest, out, RATE, shard_clips=2)
    assert resumed.clips == reference.clips
    assert os.stat(out / kept).st_mtime_ns == time_kept
    assert os.stat(out / "train-00000-of-00004.tfrecord").st_mtime_ns > time_other
    assert sorted(os.listdir(out)) == sorted(os.listdir(tmp_path / "reference"))
    for name in os.listdir(out):
        if name.endswith(".tfrecord"):
            assert (out / name).read_bytes() == (tmp_path / "reference" / name).read_bytes()


def test_kill_and_resume(tmp_path):
    clips = []
    # Long enough to be killed in the middle of.
    tone(tmp_path / "tone.wav", 30, 100, 44100)
    for i in range(24):
        os.link(tmp_path / "tone.wav", tmp_path / f"{i}.wav")
        clips.append(Clip(str(tmp_path / f"{i}.wav"), {"x": 1.0}, split="train"))
    Manifest(tuple(clips), ("x",)).save(tmp_path / "m.csv")
    program = (
        "from keras_tagger.data.manifest import read_manifest; from keras_tagger.data.prepare import prepare;"
        f"prepare(read_manifest('m.csv'), 'out', {RATE}, workers=1, shard_clips=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.DEVNULL)
    out = tmp_path / "out"
    deadline = time.monotonic() + 200
    while len(list(out.glob("train*.json"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "index.json").exists()
    done = {path: path.with_suffix(".tfrecord").stat().st_mtime_ns for path in out.glob("train*.json")}
    assert 3 <= len(done) < 24
    prepared = prepare(Manifest(tuple(clips), ("x",)), out, RATE, workers=1, shard_clips=1)
    assert prepared.seconds("train") == 24 * 30
    assert {path: path.with_suffix(".tfrecord").stat().st_mtime_ns for path in done} == done
    assert len(list(out.iterdir())) == 25


def test_does_not_write_over_a_manifest(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    index = tmp_path / "index.json"
    index.write_text('[{"path": "a.wav", "tags": ["x"], "split": "train"}]')
    with pytest.raises(ManifestError, match="expected a folder for prepared data. Received: .* is a manifest"):
        prepare(read_manifest(index), tmp_path, RATE)
    assert [clip.path for clip in read_manifest(index).clips] == [str(tmp_path / "a.wav")]


def test_a_folder_of_music_does_not_become_a_prepared_one(tmp_path):
    for tag in ("rock", "pop"):
        (tmp_path / tag).mkdir()
        soundfile.write(tmp_path / tag / f"{tag}.wav", np.zeros(RATE), RATE)
    manifest = assign_splits(read_folders(tmp_path))
    with pytest.raises(ManifestError, match="expected a folder apart from the music. Received: "):
        prepare(manifest, tmp_path, RATE)
    assert read_folders(tmp_path).tags == ("pop", "rock")


def test_errors(data, tmp_path):
    _, manifest = data
    with pytest.raises(ManifestError, match="a split for every clip"):
        prepare(Manifest((Clip("a.wav", {"x": 1.0}),), ("x",)), tmp_path / "out")
    with pytest.raises(ManifestError, match=r"sample_rate.*Received: 0"):
        prepare(manifest, tmp_path / "out", sample_rate=0)
    with pytest.raises(ManifestNotFoundError, match=r"index\.json"):
        open_prepared(tmp_path)
    only_train = Manifest(manifest.select("train").clips, manifest.tags)
    prepared = prepare(only_train, tmp_path / "out", RATE)
    with pytest.raises(ManifestError, match=r"expected one of the splits train\. Received: 'test'"):
        prepared.labels("test")
    os.remove(prepared.shards("train")[0])
    with pytest.raises(ManifestError, match="every shard"):
        open_prepared(tmp_path / "out")
    index = tmp_path / "out" / "index.json"
    index.write_text(index.read_text().replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(ManifestError, match=r"format_version 1 .*Received: 99"):
        open_prepared(tmp_path / "out")
    index.write_text("[")
    with pytest.raises(ManifestError, match="an index of prepared data"):
        open_prepared(tmp_path / "out")
    assert prepare(only_train, tmp_path / "out", RATE).n_clips("train") == prepared.n_clips("train")


def test_no_tensorflow_at_import():
    program = (
        "import sys, keras_tagger.data, keras_tagger.data.prepare, keras_tagger.data.check;"
        "print([name for name in ('tensorflow', 'keras', 'soundfile', 'sklearn') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
