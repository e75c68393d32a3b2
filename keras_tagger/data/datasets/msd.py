"""The Million Song Dataset (Bertin-Mahieux, Ellis, Whitman, Lamere 2011) with tags of Last.fm, in two subsets.

"conventional", used by Lee et al. 2017 and Won et al. 2019 and 2020, in pickles of Python 2::

    ROOT/filtered_list_train.cP        track ids: the first 201,680 for train, the rest for valid
    ROOT/filtered_list_test.cP         track ids
    ROOT/msd_id_to_tag_vector.cP       track id to a vector of 50 zeros and ones
    ROOT/MSD_id_to_7D_id.pkl, ROOT/7D_id_to_path.pkl       track id to path, such as 8/9/8947470.clip.mp3

"cals" (cleaned, artist-level stratified; Won, Choi, Serra 2021), which has 50 other tags::

    ROOT/train_ids.npy, ROOT/train_binaries.npy            text [n], numbers [n, 50]; also valid_ and test_

The files may be in a folder of ROOT (MSD_split, splits, data/splits). The audio is below ROOT, ROOT/audio or
ROOT/songs, at the paths of 7digital if the two files of its ids exist, or by track id as A/B/C/TRABC...wav, .mp3 or
.flac. The pickles are read without running anything in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.data.datasets.annotations import AnnotatedClip, Annotations, Origin, PublishedCounts, find_file
from keras_tagger.data.datasets.vocabularies import CALS_50, MSD_50
from keras_tagger.errors import ManifestError, ManifestNotFoundError
from keras_tagger.pickles import read_pickle

ORIGIN = Origin(
    annotations="https://github.com/jongpillee/music_dataset_split (its folder MSD_split; conventional) or "
    "https://github.com/minzwon/semi-supervised-music-tagging-transformer (its folder data/splits; cals)",
    audio="research groups that share them (7digital's previews are no longer public)",
)

N_TRAIN = 201_680

_FOLDERS = ("MSD_split", "splits", "data/splits", "split/msd", "lastfm_annotation", "cals_annotation")
_AUDIO_FOLDERS = ("", "audio", "songs", "data/audio")


def published(subset: str, split_index: int = 0) -> PublishedCounts:
    """Return the lengths of the published lists."""
    if subset == "cals":
        return PublishedCounts(163_504, 34_730, 34_913, 50)
    return PublishedCounts(N_TRAIN, 11_774, 28_435, 50)


def read(
    root: str, subset: str, split_index: int = 0, tags: Sequence[str] | None = None, n_train: int = N_TRAIN
) -> Annotations:
    """Read the lists; the first `n_train` entries of the conventional list are for training, the others valid."""
    labelled = _read_cals(root) if subset == "cals" else _read_conventional(root, n_train)
    vocabulary = CALS_50 if subset == "cals" else MSD_50
    paths = _paths_of_7digital(root)
    clips = []
    for track, split, vector in labelled:
        if len(track) < 5 or not track.startswith("TR") or not track.isalnum():
            raise ManifestError(f"msd: expected track ids such as TRAAAAW128F429D538. Received: {track[:40]!r}.")
        base = f"{track[2]}/{track[3]}/{track[4]}/{track}"
        names = [f"{base}{extension}" for extension in (".wav", ".mp3", ".flac")]
        names = [paths[track], *names] if track in paths else names
        present = tuple(vocabulary[index] for index in np.flatnonzero(vector))
        clips.append(AnnotatedClip(names[0], present, split, other_paths=tuple(names[1:])))
    return Annotations(tuple(clips), tuple(tags) if tags else vocabulary, frozenset(vocabulary), _AUDIO_FOLDERS)


def _read_conventional(root: str, n_train: int) -> list[tuple[str, str, npt.NDArray[Any]]]:
    both, test = (
        _ids(find_file(root, f"filtered_list_{part}.cP", "msd", ORIGIN, _FOLDERS)) for part in ("train", "test")
    )
    path = find_file(root, "msd_id_to_tag_vector.cP", "msd", ORIGIN, _FOLDERS)
    vectors = read_pickle(path)
    if not isinstance(vectors, dict):
        raise ManifestError(f"{path}: expected a dictionary of tag vectors. Received: a {type(vectors).__name__}.")
    found = []
    for split, tracks in (("train", both[:n_train]), ("valid", both[n_train:]), ("test", test)):
        for track in tracks:
            if track not in vectors:
                raise ManifestError(
                    f"{path}: expected a tag vector for every listed track. Received: none for {track}."
                )
            found.append((track, split, _vector(vectors[track], f"{path}, {track}")))
    return found


def _read_cals(root: str) -> list[tuple[str, str, npt.NDArray[Any]]]:
    found: list[tuple[str, str, npt.NDArray[Any]]] = []
    for split in ("train", "valid", "test"):
        paths = [
            find_file(root, f"{split}_{part}.npy", "msd", ORIGIN, ("data/splits", *_FOLDERS))
            for part in ("ids", "binaries")
        ]
        ids, binaries = (_array(path) for path in paths)
        if ids.ndim != 1 or ids.dtype.kind not in "US" or binaries.shape != (len(ids), len(CALS_50)):
            raise ManifestError(
                f"{paths[1]}: expected numbers [n, {len(CALS_50)}], and text [n] in the file of ids. "
                f"Received: {binaries.shape}, and {ids.dtype} {ids.shape}."
            )
        names = ids.astype(str).tolist()
        found.extend(
            (name, split, _vector(row, f"{paths[1]}, {name}")) for name, row in zip(names, binaries, strict=True)
        )
    return found


def _array(path: str) -> npt.NDArray[Any]:
    try:
        with open(path, "rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise ManifestError(f"{path}: expected a .npy file of text or numbers. Received: {error}.") from None


def _ids(path: str) -> list[str]:
    ids = read_pickle(path)
    if not isinstance(ids, list) or not all(isinstance(track, str) for track in ids):
        raise ManifestError(f"{path}: expected a list of track ids. Received: a {type(ids).__name__}, {str(ids)[:60]}.")
    return ids


def _vector(value: Any, where: str) -> npt.NDArray[Any]:
    """Check and flatten a vector of 50 zeros and ones, of any numeric type and of shape `[50]` or `[50, 1]`."""
    try:
        vector = np.asarray(value).reshape(-1)
    except ValueError:  # lists of several lengths
        vector = np.zeros(0)
    if len(vector) != 50 or vector.dtype.kind not in "biuf" or not np.isin(vector, (0, 1)).all():
        raise ManifestError(f"{where}: expected a vector of 50 zeros and ones. Received: {str(value)[:60]}.")
    return vector


def _paths_of_7digital(root: str) -> dict[str, str]:
    """Read paths by track id; return none if the two files do not exist."""
    tables: list[dict[Any, Any]] = []
    for file in ("MSD_id_to_7D_id.pkl", "7D_id_to_path.pkl"):
        try:
            path = find_file(root, file, "msd", ORIGIN, _FOLDERS)
        except ManifestNotFoundError:
            return {}
        table = read_pickle(path)
        if not isinstance(table, dict):
            raise ManifestError(f"{path}: expected a dictionary. Received: a {type(table).__name__}.")
        wrong = {type(value).__name__ for value in table.values() if not isinstance(value, str | int)}
        if wrong:
            raise ManifestError(f"{path}: expected ids and paths. Received: a {min(wrong)}.")
        tables.append(table)
    ids, paths = tables
    return {track: str(paths[number]) for track, number in ids.items() if number in paths}
