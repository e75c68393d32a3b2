"""`check` on a small data set with one fault of every kind."""

from __future__ import annotations

import json

import numpy as np
import soundfile

from keras_tagger.data.check import check
from keras_tagger.data.manifest import Clip, Manifest

RATE = 16000


def test_check(tmp_path):
    rng = np.random.default_rng(0)

    def noise(name, seconds):
        soundfile.write(tmp_path / name, rng.uniform(-0.5, 0.5, int(seconds * RATE)), RATE, subtype="PCM_16")

    for name, seconds in (("a.wav", 36), ("b.wav", 3), ("c.wav", 2), ("d.wav", 1)):
        noise(name, seconds)
    # The same samples in another container: found by what is heard, not by the bytes of the file.
    samples, _ = soundfile.read(tmp_path / "b.wav", dtype="int16")
    soundfile.write(tmp_path / "b2.flac", samples, RATE, subtype="PCM_16")
    (tmp_path / "text.ogg").write_text("no music")

    def clip(name, tags, split, *bounds):
        return Clip(str(tmp_path / name), tags, *bounds, split=split)

    manifest = Manifest(
        (
            clip("a.wav", {"rock": 1.0, "soft": 0.4}, "train"),
            clip("b.wav", {"rock": 0.5}, "train"),
            clip("b2.flac", {"rock": 1.0}, "test"),
            clip("c.wav", {"soft": 1.0}, None, 0.5, 1.5),
            clip("d.wav", {"soft": 0.0}, "train"),
            clip("c.wav", {"rock": 1.0}, None, 5.0, 6.0),
            clip("text.ogg", {"rock": 1.0}, "valid"),
        ),
        ("rock", "soft"),
        name="faults",
    )
    found = check(manifest, workers=2, min_clips=3)
    report = json.loads(json.dumps(found.to_dict()))
    assert report["clips"] == 7
    assert report["tracks"] == 6
    assert report["splits"]["train"] == {
        "clips": 3,
        "hours": 40 / 3600,
        "min_seconds": 1.0,
        "median_seconds": 3.0,
        "max_seconds": 36.0,
    }
    assert report["splits"]["valid"]["clips"] == 0
    assert report["splits"]["(none)"]["hours"] == 1 / 3600
    assert report["tags"] == {
        "rock": {"train": 2, "valid": 0, "test": 1, "(none)": 0},
        "soft": {"train": 0, "valid": 0, "test": 0, "(none)": 1},
    }
    assert report["rare_tags"] == ["soft"]
    assert report["untagged"] == [str(tmp_path / "d.wav")]
    assert [entry["path"] for entry in report["unreadable"]] == [str(tmp_path / n) for n in ("c.wav", "text.ogg")]
    assert all(entry["reason"].startswith("Expected") for entry in report["unreadable"])
    same = [[str(tmp_path / "b.wav"), str(tmp_path / "b2.flac")]]
    assert report["duplicates"] == same
    assert report["leaks"] == same
    assert not found.ok

    table = found.table()
    assert table.startswith("faults: 7 clips of 6 tracks, 2 tags\n")
    rows = [line.split() for line in table.splitlines()]
    assert ["train", "3", "0.01", "1.0", "3.0", "36.0"] in rows
    assert ["valid", "0", "0.00", "-", "-", "-"] in rows
    assert ["rock", "2", "0", "1", "0", "3"] in rows
    assert f"  {tmp_path}/b.wav = {tmp_path}/b2.flac" in table.splitlines()
    assert "unreadable: 2" in table.splitlines()

    good = check(Manifest(manifest.clips[:2], manifest.tags))
    assert good.ok
    assert good.to_dict()["leaks"] == []


def test_clips_that_are_silent_or_strange_are_listed(tmp_path):
    rng = np.random.default_rng(1)
    left = rng.uniform(-0.5, 0.5, RATE)
    soundfile.write(tmp_path / "good.wav", left, RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(2 * RATE), RATE)
    soundfile.write(tmp_path / "inverted.wav", np.stack([left[::-1], -left[::-1]], axis=1), RATE)
    soundfile.write(tmp_path / "loud.wav", 30000 * left[:9999], RATE, subtype="FLOAT")

    def checked(*names):
        return check(Manifest(tuple(Clip(str(tmp_path / name), {"a": 1.0}) for name in names), ("a",)))

    usable = checked("good.wav", "inverted.wav", "loud.wav")
    assert usable.ok
    found = checked("good.wav", "silent.wav", "inverted.wav", "loud.wav")
    assert not found.ok
    report = json.loads(json.dumps(found.to_dict()))
    assert {
        kind: [entry["path"] for entry in report[kind]] for kind in ("damaged", "silent", "cancelled", "level")
    } == {
        "damaged": [],
        "silent": [str(tmp_path / "silent.wav")],
        "cancelled": [str(tmp_path / "inverted.wav")],
        "level": [str(tmp_path / "loud.wav")],
    }
    lines = found.table().splitlines()
    assert lines[lines.index("silent: 1") + 1] == (
        f"  {tmp_path}/silent.wav: '{tmp_path}/silent.wav' is silent: there is nothing to hear."
    )
    assert {"channels that cancel each other: 1", "samples far outside -1..1, or very quiet: 1"} <= set(lines)
    assert not any(line.startswith("damaged") for line in lines)
    # Three clips of one second and one of two: all of them count.
    assert report["splits"]["(none)"]["clips"] == 4


def test_an_excerpt_that_is_silent_is_listed(tmp_path):
    wave = np.random.default_rng(1).uniform(-0.5, 0.5, 3 * RATE)
    wave[RATE : 2 * RATE] = 0
    soundfile.write(tmp_path / "a.wav", wave, RATE)
    clips = tuple(Clip(str(tmp_path / "a.wav"), {"a": 1.0}, start, start + 1.0) for start in (0.0, 1.0, 2.0))
    (entry,) = check(Manifest(clips, ("a",))).to_dict()["silent"]
    assert "is silent from 1.000 s to 2.000 s" in entry["reason"]
