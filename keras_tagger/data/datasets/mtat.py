"""MagnaTagATune (Law, West, Mandel, Bay, Downie 2009): 25,863 clips of 29 s, 188 tags of which models use 50.

    ROOT/annotations_final.csv    tab-separated: clip_id, 188 columns of 0 and 1, mp3_path
    ROOT/0/ ... ROOT/f/           the audio, as unpacked from mp3.zip.001 to .003; also below ROOT/mp3/

The first hexadecimal digit of `mp3_path` decides the split: 0 to b for train, c for valid, d to f for test. The subset
"clean" keeps the clips with a tag of the vocabulary (as do Lee et al. 2017 and Won et al. 2020), "all" keeps all clips.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence

from keras_tagger.data.datasets.annotations import (
    AnnotatedClip,
    Annotations,
    Origin,
    PublishedCounts,
    find_file,
    read_lines,
)
from keras_tagger.data.datasets.vocabularies import MTAT_50
from keras_tagger.errors import ManifestError

ORIGIN = Origin(
    annotations="the MagnaTagATune page of City, University of London "
    "(https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset)",
    audio="the same page, as mp3.zip.001, mp3.zip.002 and mp3.zip.003",
    archives=("mp3.zip.001", "mp3.zip.002", "mp3.zip.003"),
    unpack="cat mp3.zip.00? > mp3.zip && unzip mp3.zip",
)

SPLIT_OF_FOLDER = {**dict.fromkeys("0123456789ab", "train"), "c": "valid", **dict.fromkeys("def", "test")}


def published(subset: str, split_index: int = 0) -> PublishedCounts:
    """Return the counts of the papers (clean) or of the annotations (all)."""
    return PublishedCounts(15_247, 1_529, 4_332, 50) if subset == "clean" else PublishedCounts(18_709, 1_825, 5_329, 50)


def read(root: str, subset: str, split_index: int = 0, tags: Sequence[str] | None = None) -> Annotations:
    """Read `annotations_final.csv`; `tags` is a vocabulary out of the 188 tags, instead of the 50."""
    path = find_file(root, "annotations_final.csv", "mtat", ORIGIN)
    rows = ((number, next(csv.reader([line], delimiter="\t"))) for number, line in read_lines(path))
    _, header = next(rows, (1, []))
    known = [column for column in header if column not in ("clip_id", "mp3_path")]
    lacking = [column for column in ("clip_id", "mp3_path", *MTAT_50) if column not in header]
    if lacking:
        raise ManifestError(
            f"{path}: expected tab-separated columns clip_id, 188 tags and mp3_path. "
            f"Received: a file without the column {lacking[0]!r}."
        )
    if len(set(header)) != len(header):
        twice = next(column for column in header if header.count(column) > 1)
        raise ManifestError(f"{path}: expected no duplicate columns. Received: {twice!r} more than once.")
    vocabulary = tuple(tags) if tags else MTAT_50
    counted = set(vocabulary)
    clips = []
    seen: dict[str, int] = {}
    for line, row in rows:
        if len(row) != len(header):
            raise ManifestError(
                f"{path}, line {line}: expected {len(header)} columns. Received: {len(row)}; is the file truncated?"
            )
        cells = dict(zip(header, row, strict=True))
        audio = cells["mp3_path"].strip()
        split = SPLIT_OF_FOLDER.get(audio[:1].lower())
        if split is None or audio[1:2] != "/":
            raise ManifestError(
                f"{path}, line {line}, column mp3_path: expected a path below one of the folders 0 to f. "
                f"Received: {audio!r}."
            )
        if seen.setdefault(audio, line) != line:
            raise ManifestError(
                f"{path}, line {line}: expected no duplicate clips. Received: {audio!r}, also in line {seen[audio]}."
            )
        wrong = next((tag for tag in known if cells[tag] not in ("0", "1")), None)
        if wrong is not None:
            raise ManifestError(f"{path}, line {line}, column {wrong}: expected 0 or 1. Received: {cells[wrong]!r}.")
        present = tuple(tag for tag in known if cells[tag] == "1")
        if subset == "all" or not counted.isdisjoint(present):
            clips.append(AnnotatedClip(audio, present, split))
    return Annotations(tuple(clips), vocabulary, frozenset(known), ("", "mp3", "audio"))
