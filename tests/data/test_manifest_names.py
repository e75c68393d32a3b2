"""Any name of a file and any tag survives a manifest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keras_tagger.data.manifest import Clip, Manifest, read_manifest
from keras_tagger.errors import ManifestError

NAMES = [
    os.fsdecode(b"caf\xe9.wav"),
    "cafe\u0301.wav",
    "caf\u00e9.wav",
    "a\nb.wav",
    "a\rb.wav",
    "a\r\nb.wav",
    "a\tb.wav",
    'a"b,c;d.wav',
    "-a.wav",
    " a .wav",
    "\u2028\u05e9\u202e\U0001f3b5.wav",
    "n" * 251 + ".wav",
]
TAG = os.fsdecode(b"r\xe9ggae")


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_survives(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).touch()
    clips = (Clip(str(tmp_path / name), {"rock": 1.0}), Clip(str(tmp_path / "plain.wav"), {"rock": 0.5}))
    Manifest(clips, ("rock",)).save(tmp_path / f"m{kind}")
    assert read_manifest(tmp_path / f"m{kind}").clips == clips
    assert sorted(os.listdir(tmp_path)) == sorted([name, f"m{kind}"])


@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_the_name_of_a_folder_survives_as_a_tag(tmp_path: Path, kind: str) -> None:
    (tmp_path / "music" / TAG / "album").mkdir(parents=True)
    (tmp_path / "music" / "low").mkdir()
    clips = (
        Clip(str(tmp_path / "music" / TAG / "album" / "a.wav"), {TAG: 1.0}),
        Clip(str(tmp_path / "music" / "low" / "b.wav"), {"low": 1.0, TAG: 0.5}),
    )
    # The first path has the bytes, too, and must exist.
    Path(clips[0].path).touch()
    (tmp_path / "run").mkdir()
    Manifest(clips, (TAG, "low")).save(tmp_path / "run" / f"m{kind}")
    found = read_manifest(tmp_path / "run" / f"m{kind}")
    assert (found.clips, found.tags) == (clips, ("low", TAG))


def test_a_tag_in_another_encoding_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "low").mkdir()
    (tmp_path / "m.csv").write_bytes(b"path,tags\nlow/a.wav,low;r\xe9ggae\n")
    with pytest.raises(ManifestError, match="line 2, column tags: expected UTF-8 text"):
        read_manifest(tmp_path / "m.csv")
