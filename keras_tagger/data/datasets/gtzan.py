"""GTZAN (Tzanetakis, Cook 2002): clips of 30 s, each of one of ten genres.

    ROOT/train_filtered.txt, valid_filtered.txt, test_filtered.txt    lines such as blues/blues.00029.wav
    ROOT/genres/blues/blues.00029.wav                                 the audio (also .au); also below
                                                                      ROOT/genres_original/, or ROOT itself

The lists are the fault-filtered ones of Kereliuk, Sturm, Larsen 2015: without repetitions and distortions, and with
every artist in one split. Every clip has one genre, so configurations use softmax, and evaluation includes accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras_tagger.data.datasets.annotations import (
    AnnotatedClip,
    Annotations,
    Origin,
    PublishedCounts,
    find_file,
    read_lines,
)
from keras_tagger.data.datasets.vocabularies import GTZAN_10
from keras_tagger.errors import ManifestError

ORIGIN = Origin(
    annotations="https://github.com/jongpillee/music_dataset_split (its folder GTZAN_split)",
    audio="the Marsyas page (http://marsyas.info/downloads/datasets.html), as genres.tar.gz",
    archives=("genres.tar.gz",),
    unpack="tar xzf genres.tar.gz",
)


def published(subset: str, split_index: int = 0) -> PublishedCounts:
    """Return the lengths of the published lists."""
    return PublishedCounts(443, 197, 290, 10)


def read(root: str, subset: str, split_index: int = 0, tags: Sequence[str] | None = None) -> Annotations:
    """Read the three lists."""
    clips: list[AnnotatedClip] = []
    seen: dict[str, str] = {}
    for split in ("train", "valid", "test"):
        path = find_file(root, f"{split}_filtered.txt", "gtzan", ORIGIN)
        for number, line in read_lines(path):
            audio = line.strip()
            genre = audio.split("/")[0]
            if genre not in GTZAN_10 or not audio.startswith(f"{genre}/{genre}.") or not audio.endswith(".wav"):
                raise ManifestError(
                    f"{path}, line {number}: expected a path such as blues/blues.00029.wav, with a genre of "
                    f"{', '.join(GTZAN_10)}. Received: {audio[:80]!r}."
                )
            if audio in seen:
                raise ManifestError(
                    f"{path}, line {number}: expected no duplicate clips. Received: {audio!r}, also in {seen[audio]}."
                )
            seen[audio] = split
            clips.append(AnnotatedClip(audio, (genre,), split, other_paths=(f"{audio[: -len('.wav')]}.au",)))
    folders = ("", "genres", "genres_original", "audio", "Data/genres_original")
    return Annotations(tuple(clips), tuple(tags) if tags else GTZAN_10, frozenset(GTZAN_10), folders)
