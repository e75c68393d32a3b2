"""Find the labels of a folder of music: a table in it, a text file beside each song, or a folder per tag."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from keras_tagger.audio.paths import find_audio, is_hidden
from keras_tagger.data.manifest import Manifest, manifest_of_rows, read_folders, read_manifest
from keras_tagger.data.manifest_rows import standard_names
from keras_tagger.errors import AudioError, ManifestError
from keras_tagger.tables import listed

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
# Lyrics and track lists also lie beside songs; they are longer than tags.
_LONGEST_TAG = 40
_MOST_TAGS = 50


def read_labelled_folder(
    root: str | os.PathLike[str], tags: Sequence[str] | None = None, min_clips_per_tag: int = 1
) -> Manifest:
    """Read a folder of music in the first of these layouts that it has.

    1. A table: one `.csv`, `.tsv` or `.jsonl` file directly in the folder with a column of file names, as
       `read_manifest` reads it. A name may lack folders or the extension if only one song of the folder fits.
    2. Text files: `song.txt` beside `song.mp3` holds its tags, one per line or separated by `;` or `,`. Songs without
       one are left out, and a warning names them. Text that is too long for tags, such as lyrics, does not count.
    3. A folder per tag, as `read_folders` reads it.

    Args:
        root: The folder.
        tags: As in `read_manifest`.
        min_clips_per_tag: As in `read_manifest`.

    Raises:
        ManifestError: If no labels can be found, there are several tables, or the one that was found is not valid.

    Example:
        >>> read_labelled_folder("my_music/").tags
        ('guitar', 'piano')
    """
    root = Path(root)
    try:
        songs = find_audio(os.path.abspath(root))
    except AudioError as error:
        raise ManifestError(f"{root}: expected a readable folder. Received: {error}") from None
    tables = _tables(root)
    if len(tables) > 1:
        raise ManifestError(
            f"{root}: expected one table of labels. Received: {listed([path.name for path in tables])} (name one: "
            f"--data {tables[0]})."
        )
    if tables:
        logging.info("Labels are read from %s.", tables[0])
        return _located(read_manifest(tables[0], tags, min_clips_per_tag), songs, tables[0])
    beside = {song: text for song in songs if (text := _tags_beside(Path(song))) is not None}
    if beside:
        without = [os.path.relpath(song, root) for song in songs if song not in beside]
        if without:
            logging.warning("%s: songs without a text file of tags are left out: %s.", root, listed(without, 3))
        rows = [(f"{Path(song).stem}.txt", {"path": song, "tags": text}) for song, text in beside.items()]
        return manifest_of_rows(rows, os.path.abspath(root), root.name, str(root), tags, min_clips_per_tag)
    if songs and not _has_folders(root, songs):
        raise ManifestError(
            f"{root}: expected labels: a folder per tag ({root / 'rock' / Path(songs[0]).name}), a table with the "
            f"columns path and tags ({root / 'labels.csv'}), or the tags of each song in a text file beside it "
            f"({Path(songs[0]).stem}.txt). Received: {len(songs)} audio "
            f"file{'s' if len(songs) > 1 else ''} without any of these."
        )
    return read_folders(root, tags, min_clips_per_tag)


def has_labels(root: str | os.PathLike[str]) -> bool:
    """Return whether a folder has one of the layouts that `read_labelled_folder` reads, or no audio at all.

    Raises:
        AudioError: If the folder cannot be read.
    """
    songs = find_audio(os.path.abspath(root))
    beside = any(_tags_beside(Path(song)) is not None for song in songs)
    return not songs or beside or bool(_tables(Path(root))) or _has_folders(Path(root), songs)


def _has_folders(root: Path, songs: Sequence[str]) -> bool:
    return any(Path(song).parent != Path(os.path.abspath(root)) for song in songs)


def _tables(root: Path) -> list[Path]:
    return [path for path in sorted(root.iterdir()) if _is_table(path)]


def _is_table(path: Path) -> bool:
    """Return whether a file has a column of file names and others, but no scores, as tables of results have."""
    if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file() or is_hidden(path.name):
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        # UTF-16, which spreadsheets write, has a zero byte beside every letter.
        header = file.readline().replace("\0", "").strip()
    if path.suffix.lower() == ".jsonl":
        return '"path"' in header
    names = standard_names(re.split("[,;\t]", header.replace('"', "")))
    return "path" in names and len(names) > 1 and "score" not in names


def _tags_beside(song: Path) -> str | None:
    """Return the tags in the text file beside a song as a manifest's cell, or None if there are none."""
    try:
        text = song.with_suffix(".txt").read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    found = [part.strip() for part in re.split(r"[;,\n]", text)]
    found = [tag for tag in found if tag]
    if not found or len(found) > _MOST_TAGS or max(map(len, found)) > _LONGEST_TAG:
        return None
    return ";".join(found)


def _located(manifest: Manifest, songs: Sequence[str], table: Path) -> Manifest:
    """Replace paths of files that do not exist by the one song with the same name, if there is exactly one."""
    by_name: dict[str, list[str]] = {}
    for song in songs:
        for name in {Path(song).name, Path(song).stem}:
            by_name.setdefault(name, []).append(song)
    clips, lost = [], []
    for clip in manifest.clips:
        if not os.path.lexists(clip.path) and "://" not in clip.path:
            matches = by_name.get(Path(clip.path).name, [])
            if len(matches) == 1:
                clip = dataclasses.replace(clip, path=matches[0])
            else:
                lost.append(clip.path)
        clips.append(clip)
    if len(lost) == len(clips):
        raise ManifestError(
            f"{table}: expected the names of audio files, relative to the table. "
            f"Received: {lost[0]!r} and {len(lost) - 1} others that do not exist."
        )
    return dataclasses.replace(manifest, clips=tuple(clips))
