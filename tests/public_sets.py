"""Small data sets in the public formats, with real audio."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import tiny
from keras_tagger.data.datasets.vocabularies import CALS_50, GTZAN_10, MSD_50, MTAT_50

OTHER_MTAT_TAGS = tuple(f"rare {index}" for index in range(138))
# Path, and the tags of each clip; 188 columns as in the published file.
MTAT_CLIPS = {
    "0/a-b-01-c-0-29.mp3": ("guitar", "slow"),
    "b/d-e-02-f-30-59.mp3": ("rock", "rare 3"),
    "c/g-h-03-i-0-29.mp3": ("guitar",),
    "d/j-k-04-l-0-29.mp3": ("choral", "guitar"),
    "f/m-n-05-o-59-88.mp3": ("rock",),
    "a/none-06-p-0-29.mp3": ("rare 7",),
}


def write_audio(path: Path, pitch_hz: float = 440.0, seconds: float = 1.2) -> None:
    """A tone, in the format that the name says; `.low.mp3` and `.clip.mp3` are mp3."""
    path.parent.mkdir(parents=True, exist_ok=True)
    formats = {".mp3": "MP3", ".wav": "WAV", ".au": "AU", ".flac": "FLAC"}
    soundfile.write(path, tiny.tone(pitch_hz, seconds, seed=1), tiny.RATE, format=formats[path.suffix])


def make_mtat(root: Path, folder: str = "", clips: Mapping[str, Sequence[str]] = MTAT_CLIPS) -> Path:
    """`annotations_final.csv` (quoted, tab-separated) and the audio, below `folder` of the root."""
    root.mkdir(parents=True, exist_ok=True)
    # The published columns are in no order that matters.
    columns = [*OTHER_MTAT_TAGS[:70], *sorted(MTAT_50), *OTHER_MTAT_TAGS[70:]]
    with (root / "annotations_final.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(["clip_id", *columns, "mp3_path"])
        for number, (path, tags) in enumerate(clips.items()):
            writer.writerow([number + 2, *(int(column in tags) for column in columns), path])
            write_audio(root / folder / path, 300.0 + 50.0 * number)
    return root


def jamendo_rows(part: str, tags: Sequence[Sequence[str]], first: int) -> str:
    """A `.tsv` of the data set: CRLF, any number of tags in a row."""
    lines = ["TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"]
    for number, of_track in enumerate(tags, first):
        path = f"{number % 100:02d}/{number}.mp3"
        row = [f"track_{number:07d}", f"artist_{part}{number % 2}", f"album_{number:06d}", path, "151.4", *of_track]
        lines.append("\t".join(row))
    return "\r\n".join(lines) + "\r\n"


JAMENDO_TAGS = {
    "train": [("genre---rock", "instrument---piano"), ("genre---metal",), ("mood/theme---happy",)],
    "validation": [("genre---rock",)],
    "test": [("instrument---piano", "mood/theme---happy"), ("genre---metal", "genre---rock")],
}


def make_jamendo(
    root: Path, subset: str = "top50tags", split_index: int = 0, folder: str = "data/splits", audio: str = ""
) -> Path:
    """The three files of a subset and split, and the tracks' audio below `audio`."""
    place = root / folder / f"split-{split_index}"
    place.mkdir(parents=True, exist_ok=True)
    number = 213
    for part, tags in JAMENDO_TAGS.items():
        stem = "autotagging" if subset == "all" else f"autotagging_{subset}"
        (place / f"{stem}-{part}.tsv").write_bytes(jamendo_rows(part, tags, number).encode())
        for track in range(number, number + len(tags)):
            suffix = ".low.mp3" if audio.endswith("low") else ".mp3"
            write_audio(root / audio / f"{track % 100:02d}" / f"{track}{suffix}", float(track))
        number += 100 + len(tags)
    return root


def python2_pickle(value: Any) -> bytes:
    """A pickle as Python 2's cPickle wrote it (protocol 0): byte strings, and arrays by `_reconstruct`."""
    return _python2(value) + b"."


def _python2(value: Any) -> bytes:
    if isinstance(value, str):
        return b"S" + repr(value).encode("latin1") + b"\n"
    if isinstance(value, bytes):
        return b"S" + repr(value)[1:].encode("latin1") + b"\n"
    if isinstance(value, list):
        return b"(l" + b"".join(_python2(item) + b"a" for item in value)
    if isinstance(value, dict):
        return b"(d" + b"".join(_python2(key) + _python2(item) + b"s" for key, item in value.items())
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_python2, value)) + b"t"
    if isinstance(value, bool) or value is None:
        return {True: b"I01\n", False: b"I00\n", None: b"N"}[value]
    if isinstance(value, int):
        return b"I%d\n" % value
    assert isinstance(value, np.ndarray)
    dtype = b"cnumpy\ndtype\n" + _python2((value.dtype.str[1:], 0, 1)) + b"R"
    dtype += _python2((3, value.dtype.str[0], None, None, None, -1, -1, 0)) + b"b"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + _python2((0,)) + _python2("b") + b"tR"
    shape = _python2(value.shape)
    return empty + b"(I1\n" + shape + dtype + b"I00\n" + _python2(value.tobytes()) + b"tb"


def track_id(index: int) -> str:
    """An id as the Million Song Dataset's; the third to fifth letters are folders."""
    return f"TR{'ABC'[index % 3]}{'XYZ'[index // 3 % 3]}K{index:05d}128F{index:04X}"


def msd_vector(*tags: str) -> np.ndarray:
    """A tag vector [50, 1], as the pickles have it."""
    return np.array([[float(tag in tags)] for tag in MSD_50])


def make_msd(root: Path, python2: bool = True) -> Path:
    """The conventional files of five tracks and their audio, by 7digital's paths."""
    root.mkdir(parents=True, exist_ok=True)
    ids = [track_id(index) for index in range(5)]
    tags = [("rock",), ("Mellow", "sad"), ("rock", "Hip-Hop"), ("sad",), ("happy",)]
    dump = python2_pickle if python2 else lambda value: pickle.dumps(value, protocol=2)
    contents = {
        "filtered_list_train.cP": ids[:3],
        "filtered_list_test.cP": ids[3:],
        "msd_id_to_tag_vector.cP": {i: msd_vector(*t) for i, t in zip(ids, tags, strict=True)},
        "MSD_id_to_7D_id.pkl": {i: str(100 + number) for number, i in enumerate(ids)},
        "7D_id_to_path.pkl": {str(100 + number): f"1/{number}/{100 + number}.clip.mp3" for number in range(5)},
    }
    for name, content in contents.items():
        (root / name).write_bytes(dump(content))
    for number in range(5):
        write_audio(root / "songs" / f"1/{number}/{100 + number}.clip.mp3")
    return root


def make_cals(root: Path) -> Path:
    """The CALS arrays of four tracks and their audio, by track id."""
    folder = root / "data" / "splits"
    folder.mkdir(parents=True, exist_ok=True)
    place = 0
    for part, tags in {"train": ["rock", "trance"], "valid": ["rock"], "test": ["progressive metal"]}.items():
        ids = [track_id(10 + place + index) for index in range(len(tags))]
        place += len(tags)
        np.save(folder / f"{part}_ids.npy", np.array(ids))
        np.save(folder / f"{part}_binaries.npy", np.array([[tag == name for name in CALS_50] for tag in tags], float))
        for track in ids:
            write_audio(root / "data" / "audio" / track[2] / track[3] / track[4] / f"{track}.wav")
    return root


def make_gtzan(root: Path, per_split: Mapping[str, int] | None = None, suffix: str = ".wav") -> Path:
    """The filtered lists, with `per_split` clips of each of three genres, and the audio: a pitch for each genre."""
    root.mkdir(parents=True, exist_ok=True)
    number = 0
    for split, count in (per_split or {"train": 1, "valid": 1, "test": 1}).items():
        lines = []
        for _ in range(count):
            for genre, pitch in (("blues", 150.0), ("disco", 750.0), ("rock", 3000.0)):
                assert genre in GTZAN_10
                lines.append(f"{genre}/{genre}.{number:05d}.wav")
                write_audio(root / "genres" / lines[-1].replace(".wav", suffix), pitch * (1 + 0.01 * number))
            number += 1
        (root / f"{split}_filtered.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root
