"""MTG-Jamendo (Bogdanov, Won, Tovstogan, Porter, Serra 2019): full tracks with tags of genre, instrument and mood.

    ROOT/data/splits/split-0/autotagging_top50tags-train.tsv   and -validation, -test, as in the data set's repository;
                                                               also in ROOT/splits/split-0/, ROOT/split-0/ and, for
                                                               split 0, in ROOT itself
    ROOT/15/215.mp3                                            the audio; also below ROOT/audio/ or ROOT/raw_30s/audio/,
                                                               and 15/215.low.mp3 of the low-bitrate version

A row has TRACK_ID, ARTIST_ID, ALBUM_ID, PATH, DURATION and any number of tags, separated by tabs; lines end with CRLF.
Tags keep their category: `genre---rock`. The artist is the group, and no artist is in two parts of a split.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras_tagger.data.datasets.annotations import (
    AnnotatedClip,
    Annotations,
    Origin,
    PublishedCounts,
    find_in_folders,
    read_lines,
)
from keras_tagger.data.datasets.vocabularies import JAMENDO_50
from keras_tagger.errors import ManifestError

ORIGIN = Origin(
    annotations="https://github.com/MTG/mtg-jamendo-dataset (its folder data/splits)",
    audio="the Music Technology Group of Universitat Pompeu Fabra, with scripts/download of "
    "https://github.com/MTG/mtg-jamendo-dataset",
)

_FILES = {
    "top50": "autotagging_top50tags",
    "genre": "autotagging_genre",
    "instrument": "autotagging_instrument",
    "mood": "autotagging_moodtheme",
    "all": "autotagging",
}
_PARTS = {"train": "train", "valid": "validation", "test": "test"}
_COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")

# The number of tags, and of rows of the files (train, validation, test) of splits 0 to 4.
_PUBLISHED = {
    "top50": (
        50,
        (
            (32136, 10888, 11356),
            (32395, 10619, 11366),
            (32010, 11961, 10409),
            (33173, 10468, 10739),
            (30868, 11593, 11919),
        ),
    ),
    "genre": (
        87,
        (
            (32572, 11043, 11479),
            (32746, 10833, 11515),
            (32360, 12185, 10549),
            (33515, 10656, 10923),
            (31305, 11804, 11985),
        ),
    ),
    "instrument": (
        40,
        ((14395, 5466, 5115), (14943, 4960, 5073), (14702, 5066, 5208), (14875, 5068, 5033), (14829, 5159, 4988)),
    ),
    "mood": (
        56,
        ((9949, 3802, 4231), (10190, 3594, 4198), (10484, 4085, 3413), (10920, 3500, 3562), (10241, 3706, 4035)),
    ),
    "all": (
        183,
        (
            (32859, 11101, 11565),
            (33007, 10937, 11581),
            (32616, 12246, 10663),
            (33747, 10757, 11021),
            (31509, 11893, 12123),
        ),
    ),
}


def published(subset: str, split_index: int = 0) -> PublishedCounts:
    """Return the number of rows of the published files."""
    n_tags, splits = _PUBLISHED[subset]
    return PublishedCounts(*splits[split_index], n_tags)


def read(root: str, subset: str, split_index: int = 0, tags: Sequence[str] | None = None) -> Annotations:
    """Read the three files of a subset and split.

    The vocabulary is `tags`, or else the 50 tags in published order or, for other subsets, all tags, sorted.
    """
    clips: list[AnnotatedClip] = []
    seen: dict[str, str] = {}
    for split, part in _PARTS.items():
        path = _find(root, f"{_FILES[subset]}-{part}.tsv", split_index)
        for clip in _read_file(path, split):
            if clip.path in seen:
                raise ManifestError(
                    f"{path}: expected no duplicate tracks. Received: {clip.path!r}, also in {seen[clip.path]}."
                )
            seen[clip.path] = split
            clips.append(clip)
    found = {tag for clip in clips for tag in clip.tags}
    vocabulary = tuple(tags) if tags else JAMENDO_50 if subset == "top50" else tuple(sorted(found))
    folders = ("", "audio", "raw_30s/audio", "audio-low", "raw_30s/audio-low", "autotagging_moodtheme/audio")
    known = found | (set(JAMENDO_50) if subset == "top50" else set())
    return Annotations(tuple(clips), vocabulary, frozenset(known), folders)


def _find(root: str, file: str, split_index: int) -> str:
    split = f"split-{split_index}"
    folders = [f"data/splits/{split}", f"splits/{split}", split, f"mtg-jamendo-dataset/data/splits/{split}"]
    if split_index == 0:
        folders.append("")
    return find_in_folders(root, folders, file, "mtg_jamendo", ORIGIN, f"data/splits/{split}/")


def _read_file(path: str, split: str) -> list[AnnotatedClip]:
    lines = read_lines(path)
    header = next(lines, (1, ""))[1].split("\t")
    if tuple(header[:6]) != _COLUMNS:
        raise ManifestError(
            f"{path}, line 1: expected the tab-separated columns {', '.join(_COLUMNS)}. "
            f"Received: {', '.join(header)[:80]!r}."
        )
    clips = []
    for number, line in lines:
        row = [cell.strip() for cell in line.split("\t")]
        tags = tuple(filter(None, row[5:]))
        if not tags or not all(row[:5]) or not row[3].endswith(".mp3"):
            raise ManifestError(
                f"{path}, line {number}: expected {', '.join(_COLUMNS[:5])} (such as 15/215.mp3) and a tag. "
                f"Received: {line[:80]!r}; is the file truncated?"
            )
        wrong = next((tag for tag in tags if "---" not in tag), None)
        if wrong is not None:
            raise ManifestError(f"{path}, line {number}: expected tags such as genre---rock. Received: {wrong!r}.")
        low = f"{row[3][: -len('.mp3')]}.low.mp3"
        clips.append(AnnotatedClip(row[3], tags, split, group=row[1], other_paths=(low,)))
    return clips
