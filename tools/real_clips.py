"""Collect real music with labels by people from checkouts of public repositories.

`collect` reads the table `real_music.csv`, which lists files, artists and labels by hand, finds these files in git
directories or work trees, and writes clips at 16 kHz and a manifest. Nothing is downloaded.
"""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import io
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from keras_tagger import audio
from keras_tagger.errors import AudioError, ManifestError
from keras_tagger.files import replacing, write_json_lines

SAMPLE_RATE = 16000
TABLE = Path(__file__).with_name("real_music.csv")
MANIFEST = "manifest.jsonl"
HALVES = ("develop", "report")

# The repositories that the table knows: name on the command line, repository on GitHub, what it holds.
SOURCES: dict[str, tuple[str, str]] = {
    "gtzan-curated": (
        "adebnathgit/Curated-audio-dataset-sourced-from-GTZAN-Dataset---Music-Genre-Classification",
        "excerpts of 2-3 s of GTZAN",
    ),
    "inteliq": ("muthu1993/InteliEQ", "GTZAN classical"),
    "genre-cnn": ("NazarPonochevnyi/Trained-CNN-for-Genre-classification", "GTZAN excerpts and songs by genre"),
    "jamendolyrics": ("f90/jamendolyrics", "songs with timed lyrics"),
    "ultrastar": ("UltraStar-Deluxe/songs", "songs with timed lyrics"),
    "music-styles": ("Pekka-Legend/MusicStylesPractice", "one song for each style"),
    "archeology": ("kthanuku/musical-archeology", "rock songs"),
    "audio-analysis": ("Uriopass/audio-analysis", "rock and metal songs"),
    "lackthereof": ("awwaiid/thelackthereof", "amateur folk songs"),
    "bootstrap": ("mbham2/BootStrap-Projects", "Indian instruments"),
    "raagai": ("Himanshi87/RaagAI", "Indian instruments"),
    "music-website": ("v-Kansara/music-website", "Indian instruments"),
    "fsdkaggle": ("seth814/Audio-Classification", "FSDKaggle2018, single sounds of instruments"),
    "piast": ("Hayeonbang/PIAST_dataset", "piano"),
    "basic-pitch": ("spotify/basic-pitch", "vocadito, solo singing"),
    "mirdata": ("mir-dataset-loaders/mirdata", "vocadito, solo singing"),
    "librosa-data": ("librosa/data", "examples of librosa"),
    "agb": ("agbrs/agb", "songs"),
    "m4singer": ("M4Singer/M4Singer.github.io", "solo singing"),
    "gtsinger": ("GTSinger/GTSinger.github.io", "solo singing"),
    "gugak": ("danbinaerinHan/Gugak-VocalSet", "solo singing, Korean traditional"),
}

# Sources whose free recordings the shipped weights have learnt (`tools/pretrain/recordings.py`); they are not measured.
LEARNT = ("jamendolyrics", "ultrastar", "lackthereof", "basic-pitch", "mirdata", "librosa-data", "agb")

# Files longer than this are measured on two excerpts.
WHOLE_SECONDS = 45.0
EXCERPT_SECONDS = 30.0
# Songs with timed lyrics: excerpts with and without singing.
SUNG_SECONDS = 15.0
SUNG_SHARE = 0.5
GAP_SECONDS = 8.0
MARGIN_SECONDS = 1.0
_GTZAN = re.compile(r"([a-z]+)\.(\d{5})\.(?:wav|au|mp3)$")
_FREE = re.compile(r"^(CC0|public domain|CC BY(?!-N)(-SA)?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Labels:
    """What people say about a clip. None means unknown.

    Attributes:
        genre: One word, such as "blues".
        singing: Whether somebody sings in the clip.
        voice: "female" or "male" if one kind of voice sings.
        a_cappella: Whether nothing but one voice can be heard.
        instruments: The instruments that are named; complete for recordings of one instrument.
        indian: Whether the music is Indian.
        single_sound: Whether the clip is a single note or stroke rather than music.
    """

    genre: str | None = None
    singing: bool | None = None
    voice: str | None = None
    a_cappella: bool = False
    instruments: tuple[str, ...] = ()
    indian: bool = False
    single_sound: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the table: a pattern of files with the labels of all of them."""

    source: str
    files: str
    artist: str
    labels: Labels
    licence: str
    lyrics: bool = False

    @property
    def learn(self) -> bool:
        """Whether the licence lets a model learn from the files."""
        return bool(_FREE.match(self.licence)) and "NC" not in self.licence and "ND" not in self.licence


@dataclass(frozen=True)
class Clip:
    """A clip of the development set.

    Attributes:
        clip_id: SOURCE/PATH, followed by `#START-END` for an excerpt.
        source: A key of `SOURCES`.
        waveform: The file of samples, float32 at 16 kHz, below the folder of the manifest.
        group: The artist where known, else the file: a group is never split.
        half: "develop" or "report".
        licence: As written in the repository; empty if it says nothing.
        learn: Whether the licence lets a model learn from the clip.
        seconds: Its length.
        labels: What people say about it.
    """

    clip_id: str
    source: str
    waveform: str
    group: str
    half: str
    licence: str
    learn: bool
    seconds: float
    labels: Labels = field(default_factory=Labels)


def read_table(path: Path = TABLE) -> list[Row]:
    """Read the table of files and labels.

    Raises:
        ManifestError: If a row names an unknown source or label.
    """
    rows = []
    with open(path, encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line["source"] not in SOURCES and line["source"] != "gtzan":
                raise ManifestError(f"{path}: expected a source of SOURCES. Received: {line['source']!r}.")
            labels, lyrics = _labels(line["labels"], path)
            rows.append(Row(line["source"], line["files"], line["artist"], labels, line["licence"], lyrics))
    return rows


def _labels(text: str, path: Path) -> tuple[Labels, bool]:
    values: dict[str, Any] = {}
    instruments, lyrics = [], False
    for part in filter(None, text.split(";")):
        name, _, value = part.partition("=")
        if name == "genre":
            values["genre"] = value
        elif name == "singing" and value in ("yes", "no"):
            values["singing"] = value == "yes"
        elif name == "voice" and value in ("female", "male"):
            values["voice"] = value
        elif name == "instrument":
            instruments.append(value)
        elif part in ("a cappella", "indian", "single sound"):
            values[part.replace(" ", "_")] = True
        elif part == "lyrics":
            lyrics = True
        else:
            raise ManifestError(f"{path}: expected labels such as genre=rock. Received: {part!r}.")
    return Labels(instruments=tuple(instruments), **values), lyrics


class Checkout:
    """The files of a repository: a bare git directory, a work tree with `.git`, or a plain folder.

    Files that a later commit deleted are found as well. Nothing is fetched: objects that the copy lacks are missing.

    Args:
        path: The folder.

    Raises:
        ManifestError: If the folder does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise ManifestError(f"expected the folder of a repository. Received: '{self.path}'.")
        git_dir = self.path / ".git" if (self.path / ".git").is_dir() else self.path
        self._git_dir = git_dir if (git_dir / "HEAD").is_file() and (git_dir / "objects").is_dir() else None
        self._blobs = self._versions() if self._git_dir else {}

    def paths(self) -> list[str]:
        """Return the paths of all files, sorted."""
        if self._git_dir:
            return sorted(self._blobs)
        return sorted(path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())

    def read(self, path: str) -> bytes | None:
        """Return the content of a file; None if the copy lacks it or has only a pointer to it."""
        if self._git_dir is None:
            content: bytes | None = (self.path / path).read_bytes()
        else:
            read = (self._git("cat-file", "blob", sha) for sha in self._blobs[path])
            content = next((one for one in read if one is not None), None)
        return None if content is None or content.startswith(b"version https://git-lfs") else content

    def _versions(self) -> dict[str, list[str]]:
        """Return the blobs of each path, the current one first and then older ones, newest first."""
        versions: dict[str, list[str]] = {}
        for entry in (self._git("ls-tree", "-r", "-z", "HEAD") or b"").split(b"\0"):
            about, _, name = entry.partition(b"\t")
            if about.split()[1:2] == [b"blob"]:
                versions[os.fsdecode(name)] = [about.split()[2].decode()]
        log = self._git("log", "--all", "--no-renames", "--format=", "--raw", "-z", "--no-abbrev") or b""
        parts = iter(log.split(b"\0"))
        for about in parts:
            if about.lstrip().startswith(b":"):
                name, sha = os.fsdecode(next(parts, b"")), about.split()[3].decode()
                if int(sha, 16) and sha not in versions.setdefault(name, []):
                    versions[name].append(sha)
        return versions

    def _git(self, *arguments: str) -> bytes | None:
        done = subprocess.run(
            ["git", f"--git-dir={self._git_dir}", *arguments],
            capture_output=True,
            env={**os.environ, "GIT_NO_LAZY_FETCH": "1"},
        )
        return None if done.returncode else done.stdout


def collect(
    checkouts: Mapping[str, str | os.PathLike[str]], out: Path, rows: Sequence[Row] | None = None
) -> tuple[list[Clip], list[str]]:
    """Write the clips of the checkouts and their manifest; clips that exist are not decoded again.

    Args:
        checkouts: The folder of each source, by a key of `SOURCES`.
        out: Folder of the development set.
        rows: The table; `read_table()` by default.

    Returns:
        The clips, and the files that could not be read, with the reason.

    Raises:
        ManifestError: If a source is unknown or its folder does not exist.
    """
    rows = read_table() if rows is None else rows
    unknown = [name for name in checkouts if name not in SOURCES]
    if unknown:
        raise ManifestError(f"expected sources among {', '.join(SOURCES)}. Received: {unknown[0]!r}.")
    gtzan = {name: row for row in rows if row.source == "gtzan" for name in _numbered(row.files)}
    clips: list[Clip] = []
    failed: list[str] = []
    seen: set[bytes] = set()
    for source, folder in checkouts.items():
        checkout = Checkout(folder)
        paths = checkout.paths()
        chosen = {
            path: row for row in rows if row.source == source for path in paths if fnmatch.fnmatchcase(path, row.files)
        }
        for path, row in tqdm(sorted(chosen.items()), desc=source, unit="file"):
            content = checkout.read(path)
            if content is None:
                failed.append(f"{source}/{path}: not in this copy of the repository")
                continue
            digest = hashlib.sha256(content).digest()
            if digest in seen:
                continue
            seen.add(digest)
            sung = _lyrics(checkout, path) if row.lyrics else []
            try:
                clips += _cut(source, path, content, _refined(row, path, gtzan), sung, out)
            except AudioError as error:
                failed.append(f"{source}/{path}: {error}")
    write_json_lines(out / MANIFEST, [_to_json(clip) for clip in clips])
    for reason in failed:
        logging.warning("Left out: %s", reason)
    return clips, failed


def clips_to_measure(folder: Path) -> list[Clip]:
    """Read the clips that no shipped weights have learnt."""
    return [clip for clip in read_clips(folder) if not (clip.learn and clip.source in LEARNT)]


def read_clips(folder: Path) -> list[Clip]:
    """Read the manifest that `collect` wrote.

    Raises:
        ManifestError: If there is none.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ManifestError(f"expected {MANIFEST} in '{folder}', written by collect. Received: no such file.")
    clips = []
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        labels = row.pop("labels")
        labels["instruments"] = tuple(labels["instruments"])
        clips.append(Clip(**row, labels=Labels(**labels)))
    return clips


def _to_json(clip: Clip) -> dict[str, Any]:
    return {**vars(clip), "labels": {**vars(clip.labels), "instruments": list(clip.labels.instruments)}}


def _numbered(files: str) -> list[str]:
    """Expand "pop.00015-00038" to the names of its clips."""
    stem, first, last = re.fullmatch(r"([a-z]+)\.(\d{5})(?:-(\d{5}))?", files).groups()  # type: ignore[union-attr]
    return [f"{stem}.{number:05d}" for number in range(int(first), int(last or first) + 1)]


def _refined(row: Row, path: str, gtzan: Mapping[str, Row]) -> Row:
    """Give a clip of GTZAN its genre, and its artist's labels where the artist is known."""
    found = _GTZAN.search(path)
    if not found or row.labels.genre:
        return row
    known = gtzan.get(f"{found[1]}.{found[2]}")
    labels = vars(known.labels if known else Labels()) | {"genre": found[1]}
    return Row(row.source, row.files, known.artist if known else "", Labels(**labels), row.licence)


def _cut(
    source: str, path: str, content: bytes, row: Row, sung: Sequence[tuple[float, float]], out: Path
) -> list[Clip]:
    """Decode a file and write its clips."""
    key = hashlib.sha256(f"{source}/{path}".encode(errors="surrogateescape")).hexdigest()[:12]
    whole = out / "decoded" / f"{key}.npy"
    if not whole.exists():
        decoded = audio.load(content, SAMPLE_RATE)
        with replacing(whole) as temporary:
            np.save(temporary, decoded)
    waveform = np.load(whole, mmap_mode="r")
    seconds = len(waveform) / SAMPLE_RATE
    group = row.artist or f"{source}/{Path(path).stem}"
    half = HALVES[hashlib.sha256(group.encode(errors="surrogateescape")).digest()[0] % 2]
    clips = []
    for start, end, singing in excerpts(seconds, sung if row.lyrics else None):
        excerpt = (start, end) != (0.0, seconds)
        labels = row.labels if singing is None else Labels(**(vars(row.labels) | {"singing": singing}))
        if singing is False:
            labels = Labels(**(vars(labels) | {"voice": None}))
        name = f"waveforms/{key}{f'-{start:.0f}' if excerpt else ''}.npy"
        if not (out / name).exists():
            with replacing(out / name) as temporary:
                np.save(temporary, waveform[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)])
        clip_id = f"{source}/{path}" + (f"#{start:.0f}-{end:.0f}" if excerpt else "")
        clips.append(Clip(clip_id, source, name, group, half, row.licence, row.learn, round(end - start, 2), labels))
    return clips


def excerpts(seconds: float, sung: Sequence[tuple[float, float]] | None) -> list[tuple[float, float, bool | None]]:
    """Choose the excerpts of a file.

    Args:
        seconds: Length of the file.
        sung: When lyrics are sung, seconds; None if unknown.

    Returns:
        Start, end and whether somebody sings (None: as the table says). With lyrics, up to two excerpts of 15 s with
        the most singing that do not overlap, and the longest gap between lines. Else the whole file, or two excerpts
        of 30 s of a long one, from a quarter and from three fifths of it.
    """
    if sung is None or not sung:
        if seconds <= WHOLE_SECONDS:
            return [(0.0, seconds, None)]
        starts = [min(share * seconds, seconds - EXCERPT_SECONDS) for share in (0.25, 0.6)]
        return [(start, start + EXCERPT_SECONDS, None) for start in map(round, starts)]
    found: list[tuple[float, float, bool | None]] = []
    by_share = sorted(
        ((_sung_share(sung, start, start + SUNG_SECONDS), -start) for start in range(int(seconds - SUNG_SECONDS))),
        reverse=True,
    )
    for share, minus_start in by_share:
        start = -minus_start
        if share >= SUNG_SHARE and all(abs(start - other[0]) >= SUNG_SECONDS for other in found) and len(found) < 2:
            found.append((float(start), start + SUNG_SECONDS, True))
    ends = [0.0, *np.maximum.accumulate([end for _, end in sung])]
    gaps = zip(ends, [*(start for start, _ in sung), seconds], strict=True)
    begin, end = max(((end + MARGIN_SECONDS, start - MARGIN_SECONDS) for end, start in gaps), key=lambda g: g[1] - g[0])
    if end - begin >= GAP_SECONDS:
        found.append((float(round(begin)), float(round(min(end, begin + SUNG_SECONDS))), False))
    return sorted(found)


def _sung_share(sung: Sequence[tuple[float, float]], start: float, end: float) -> float:
    return sum(max(0.0, min(end, stop) - max(start, begin)) for begin, stop in sung) / (end - start)


def _lyrics(checkout: Checkout, path: str) -> list[tuple[float, float]]:
    """Return when lines of a song are sung, from jamendolyrics' or UltraStar's files beside it."""
    stem = Path(path).stem
    lines = (
        checkout.read(f"annotations/lines/{stem}.csv") if f"annotations/lines/{stem}.csv" in checkout.paths() else None
    )
    if lines is not None:
        rows = csv.DictReader(io.StringIO(lines.decode("utf-8")))
        return sorted((float(row["start_time"]), float(row["end_time"])) for row in rows)
    song = f"{Path(path).parent.as_posix()}/song.txt"
    notes = checkout.read(song) if song in checkout.paths() else None
    return list(ultrastar_lines(notes.decode("utf-8", "replace"))) if notes else []


def ultrastar_lines(song: str) -> Iterator[tuple[float, float]]:
    r"""Yield when the lines of an UltraStar song are sung, from its notes (`: BEAT LENGTH PITCH TEXT`).

    Example:
        >>> list(ultrastar_lines("#BPM:60\n#GAP:1000\n: 0 4 0 la\n: 4 4 0 la\n- 10\n: 12 4 0 la\nE"))
        [(1.0, 3.0), (4.0, 5.0)]
    """
    head = dict(re.findall(r"^#(\w+):\s*([\d.,]+)", song, re.MULTILINE))
    beat = 15.0 / float(head["BPM"].replace(",", "."))
    offset = float(head.get("GAP", "0").replace(",", ".")) / 1000
    line: list[tuple[int, int]] = []
    for entry in [*song.splitlines(), "-"]:
        note = re.match(r"[:*]\s+(-?\d+)\s+(\d+)\s", entry)
        if note:
            line.append((int(note[1]), int(note[1]) + int(note[2])))
        elif entry.startswith("-") and line:
            yield offset + line[0][0] * beat, offset + line[-1][1] * beat
            line = []
