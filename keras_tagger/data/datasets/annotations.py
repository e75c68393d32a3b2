"""What the annotations of a public data set say, and how its files are found. Without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from keras_tagger.errors import ManifestError, ManifestNotFoundError


@dataclass(frozen=True)
class Source:
    """Where a data set is had.

    Attributes:
        annotations, audio: in words, with the address of the page.
        archives: names of the archives in which the audio comes, where they are few.
        unpack: the command that makes folders of them.
    """

    annotations: str
    audio: str
    archives: tuple[str, ...] = ()
    unpack: str = ""


@dataclass(frozen=True)
class Annotated:
    """A clip as the annotations have it: `path` is its audio's path, below a folder that is still to be found."""

    path: str
    tags: tuple[str, ...]
    split: str
    group: str | None = None
    other_paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Annotations:
    """The annotations of a subset.

    Attributes:
        clips: with splits, in the order of the files.
        tags: the vocabulary, in the order in which published models have it.
        known: every tag that the annotations could give a clip.
        folders: where below the root the audio may be.
    """

    clips: tuple[Annotated, ...]
    tags: tuple[str, ...]
    known: frozenset[str]
    folders: tuple[str, ...] = ("", "audio")


@dataclass(frozen=True)
class Published:
    """The numbers of clips (train, valid, test) and tags that are published of a subset."""

    train: int
    valid: int
    test: int
    n_tags: int


@dataclass
class Located:
    """Which clips have audio: their paths by place in `Annotations.clips`, and the places of the others."""

    paths: dict[int, str] = field(default_factory=dict)
    missing: list[int] = field(default_factory=list)


def check_root(root: str | os.PathLike[str], name: str, source: Source) -> str:
    """The folder's absolute path; raises `ManifestNotFoundError` or `ManifestError` if there is none."""
    path = os.fspath(root)
    if not path or not os.path.exists(path):
        raise ManifestNotFoundError(
            f"{name}: expected the folder of the data set. Received: {path!r}, where there is nothing. Its annotations "
            f"are had from {source.annotations}; the audio from {source.audio}."
        )
    if not os.path.isdir(path):
        raise ManifestError(f"{name}: expected the folder of the data set. Received: {path!r}, a file.")
    return os.path.abspath(path)


def find_file(root: str, file: str, name: str, source: Source, folders: Sequence[str] = ()) -> str:
    """The path of an annotation file: in the root, in one of `folders` of it, or else in any folder directly below.

    Raises `ManifestNotFoundError` that says where the file is had.
    """
    below = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    for folder in dict.fromkeys(("", *folders, *below)):
        path = os.path.join(root, folder, file)
        if os.path.isfile(path):
            return path
    raise ManifestNotFoundError(
        f"{name}: expected the file {file} in {root}. Received: a folder without it; it is had from "
        f"{source.annotations}."
    )


def read_lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, each with its number; line ends are LF or CRLF.

    Raises `ManifestError` for text that is not UTF-8.
    """
    with open(path, encoding="utf-8-sig", newline=None) as file:
        try:
            for number, line in enumerate(file, 1):
                line = line.rstrip("\n")
                if line.strip():
                    yield number, line
        except UnicodeDecodeError as error:
            raise ManifestError(f"{path}: expected UTF-8 text. Received bytes that are not: {error.reason}") from None


def locate(annotations: Annotations, root: str) -> Located:
    """Look for every clip's audio, under each of its names, also in capitals after the dot, in each of the folders."""
    folders = [folder for folder in annotations.folders if os.path.isdir(os.path.join(root, folder))]
    found = Located()
    last = (0, 0)
    for index, clip in enumerate(annotations.clips):
        names = [clip.path, *clip.other_paths]
        names += [f"{base}{ending.upper()}" for base, ending in map(os.path.splitext, names)]
        places = [(folder, name) for folder in range(len(folders)) for name in range(len(names))]
        # Where the clip before it was, most likely.
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


def missing_audio(annotations: Annotations, located: Located, root: str, name: str, source: Source) -> str:
    """What is missing and where it is had, in one sentence or two."""
    paths = [annotations.clips[index].path for index in located.missing]
    whole = _empty_folders(annotations, located)
    folders = f", nothing below {_listed([f'{folder}/' for folder in whole])}" if whole and located.paths else ""
    lacking = f"{len(paths)} of them" if located.paths else "any of it"
    text = (
        f"{name}: expected the audio of {len(annotations.clips)} clips below {root}. Received: a folder without "
        f"{lacking} (first: {paths[0]}){folders}. {_archives(annotations, root, source)}"
        f"The audio is had from {source.audio}."
    )
    return text if not located.paths else f"{text} With allow_missing those clips are left out."


def _empty_folders(annotations: Annotations, located: Located) -> list[str]:
    """First parts of the paths below which no clip has audio."""
    firsts = [clip.path.split("/", 1)[0] for clip in annotations.clips if "/" in clip.path]
    some = {annotations.clips[index].path.split("/", 1)[0] for index in located.paths}
    return sorted(set(firsts) - some)


def _archives(annotations: Annotations, root: str, source: Source) -> str:
    """A sentence about archives that lie there and are not unpacked."""
    folders = [folder for folder in annotations.folders if os.path.isdir(os.path.join(root, folder))]
    names = sorted({entry for folder in folders for entry in os.listdir(os.path.join(root, folder))})
    there = [name for name in names if name in source.archives] or [
        name for name in names if name.endswith((".zip", ".tar", ".tar.gz", ".tgz", ".part", ".crdownload"))
    ]
    if not there:
        return ""
    absent = [name for name in source.archives if name not in there] if there[0] in source.archives else []
    lacking = f", {_listed(absent)} not yet" if absent else ""
    how = f" ({source.unpack})" if source.unpack and not absent else ""
    return f"Archives that are not unpacked are there: {_listed(there)}{lacking}{how}. "


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
