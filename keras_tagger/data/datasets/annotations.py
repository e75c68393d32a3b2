"""Annotated clips of a public data set, and how its files are found. Does not import TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from keras_tagger.errors import ManifestError, ManifestNotFoundError


@dataclass(frozen=True)
class Origin:
    """Where a data set is available.

    Attributes:
        annotations: Who distributes the annotations, with the address of the page.
        audio: The same for the audio.
        archives: The names of the archives of the audio, if there are few.
        unpack: The command that unpacks them.
    """

    annotations: str
    audio: str
    archives: tuple[str, ...] = ()
    unpack: str = ""


@dataclass(frozen=True)
class AnnotatedClip:
    """A clip of the annotations.

    Attributes:
        path: The path of its audio, relative to a folder that is not yet known.
        tags: Its tags.
        split: "train", "valid" or "test".
        group: As in `keras_tagger.data.Clip`.
        other_paths: Other paths at which its audio may be.
    """

    path: str
    tags: tuple[str, ...]
    split: str
    group: str | None = None
    other_paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Annotations:
    """The annotations of a subset.

    Attributes:
        clips: The clips, in the order of the files.
        tags: The vocabulary, in the order of published models.
        known: All tags that the annotations may contain.
        folders: Folders below the root in which the audio may be.
    """

    clips: tuple[AnnotatedClip, ...]
    tags: tuple[str, ...]
    known: frozenset[str]
    folders: tuple[str, ...] = ("", "audio")


@dataclass(frozen=True)
class PublishedCounts:
    """The published numbers of clips and tags of a subset."""

    train: int
    valid: int
    test: int
    n_tags: int


@dataclass
class FoundAudio:
    """Paths of the audio by index in `Annotations.clips`, and the indices of clips without audio."""

    paths: dict[int, str] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)


def check_root(root: str | os.PathLike[str], name: str, origin: Origin) -> str:
    """Return the absolute path of a data set's folder, or raise an error if it is not a folder."""
    path = os.fspath(root)
    if not path or not os.path.exists(path):
        raise ManifestNotFoundError(
            f"{name}: expected the folder of the data set. Received: {path!r}, which does not exist. The annotations "
            f"are available from {origin.annotations}; the audio from {origin.audio}."
        )
    if not os.path.isdir(path):
        raise ManifestError(f"{name}: expected the folder of the data set. Received: {path!r}, which is a file.")
    return os.path.abspath(path)


def find_file(root: str, file: str, name: str, origin: Origin, folders: Sequence[str] = ()) -> str:
    """Find an annotation file in the root, in one of its `folders`, or in any folder directly below.

    Raises:
        ManifestNotFoundError: If there is none; the message says where the file is available.
    """
    below = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    return find_in_folders(root, ("", *folders, *below), file, name, origin)


def find_in_folders(
    root: str, folders: Sequence[str], file: str, name: str, origin: Origin, usual_folder: str = ""
) -> str:
    """Find an annotation file in one of some folders below the root; the error names it in its usual folder.

    Raises:
        ManifestNotFoundError: If there is none; the message says where the file is available.
    """
    for folder in dict.fromkeys(folders):
        path = os.path.join(root, folder, file)
        if os.path.isfile(path):
            return path
    raise ManifestNotFoundError(
        f"{name}: expected the file {usual_folder}{file} in {root}. Received: a folder without it; it is available "
        f"from {origin.annotations}."
    )


def read_lines(path: str) -> Iterator[tuple[int, str]]:
    """Read the numbers and text of lines that are not blank, with LF or CRLF at their ends.

    Raises:
        ManifestError: If the text is not UTF-8.
    """
    with open(path, encoding="utf-8-sig", newline=None) as file:
        try:
            for number, line in enumerate(file, 1):
                line = line.rstrip("\n")
                if line.strip():
                    yield number, line
        except UnicodeDecodeError:
            raise ManifestError(f"{path}: expected UTF-8 text. Received: text in another encoding.") from None


def locate(annotations: Annotations, root: str) -> FoundAudio:
    """Look for every clip's audio under each of its names, also with the extension in capitals, in each folder."""
    folders = [folder for folder in annotations.folders if os.path.isdir(os.path.join(root, folder))]
    found = FoundAudio()
    last = (0, 0)
    for index, clip in enumerate(annotations.clips):
        names = [clip.path, *clip.other_paths]
        names += [f"{base}{ending.upper()}" for base, ending in map(os.path.splitext, names)]
        places = [(folder, name) for folder in range(len(folders)) for name in range(len(names))]
        # Most likely it is where the previous clip was.
        if last in places:
            places.insert(0, last)
        for place in places:
            path = os.path.normpath(os.path.join(root, folders[place[0]], names[place[1]]))
            if os.path.isfile(path):
                found.paths[index], last = path, place
                break
        else:
            found.missing.append(index)
    return found


def missing_audio(annotations: Annotations, found: FoundAudio, root: str, name: str, origin: Origin) -> str:
    """Describe which audio is missing and where it is available."""
    paths = [annotations.clips[index].path for index in found.missing]
    whole = _empty_folders(annotations, found)
    folders = f", with nothing below {_listed([f'{folder}/' for folder in whole])}" if whole and found.paths else ""
    lacking = f"{len(paths)} of them" if found.paths else "any of it"
    text = (
        f"{name}: expected the audio of {len(annotations.clips)} clips below {root}. Received: a folder without "
        f"{lacking} (first: {paths[0]}){folders}. {_archives(annotations, root, origin)}"
        f"The audio is available from {origin.audio}."
    )
    return text if not found.paths else f"{text} Set allow_missing to leave those clips out."


def _empty_folders(annotations: Annotations, found: FoundAudio) -> list[str]:
    """Return the top folders of paths below which no clip has audio."""
    firsts = [clip.path.split("/", 1)[0] for clip in annotations.clips if "/" in clip.path]
    some = {annotations.clips[index].path.split("/", 1)[0] for index in found.paths}
    return sorted(set(firsts) - some)


def _archives(annotations: Annotations, root: str, origin: Origin) -> str:
    """Write a sentence about archives that are not unpacked, if there are any."""
    folders = [folder for folder in annotations.folders if os.path.isdir(os.path.join(root, folder))]
    names = sorted({entry for folder in folders for entry in os.listdir(os.path.join(root, folder))})
    there = [name for name in names if name in origin.archives] or [
        name for name in names if name.endswith((".zip", ".tar", ".tar.gz", ".tgz", ".part", ".crdownload"))
    ]
    if not there:
        return ""
    absent = [name for name in origin.archives if name not in there] if there[0] in origin.archives else []
    lacking = f"; still missing: {_listed(absent)}" if absent else ""
    how = f" ({origin.unpack})" if origin.unpack and not absent else ""
    return f"There are archives to unpack: {_listed(there)}{lacking}{how}. "


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
