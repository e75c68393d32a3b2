"""Find audio: in folders, in playlists, and in what a user names on the command line.

Folders and playlists on remote file systems are not read; TensorFlow is not imported.
"""

from __future__ import annotations

import os
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from keras_tagger.audio.streams import audio_error, is_remote
from keras_tagger.errors import AudioError, AudioNotFoundError

PathError: TypeAlias = AudioError | AudioNotFoundError

# Extensions of audio, and of containers that often hold nothing but audio.
AUDIO_SUFFIXES = frozenset(
    {".mp3", ".mp2", ".mp1", ".mpga", ".wav", ".wave", ".bwf", ".rf64", ".w64", ".aif", ".aiff", ".aifc", ".caf"}
    | {".flac", ".fla", ".ogg", ".oga", ".ogx", ".opus", ".spx", ".m4a", ".m4b", ".m4p", ".m4r", ".mp4", ".3ga"}
    | {".aac", ".adts", ".ac3", ".eac3", ".ec3", ".dts", ".alac", ".wma", ".asf", ".mka", ".webm", ".weba"}
    | {".ape", ".wv", ".dsf", ".dff", ".tta", ".tak", ".mpc", ".mp+", ".shn", ".au", ".snd", ".amr", ".ra"}
)
PLAYLIST_SUFFIXES = frozenset({".m3u", ".m3u8", ".pls", ".xspf"})

# Files that lie beside music and are not audio, unfinished copies, and films. Their content does not matter.
NOT_AUDIO = frozenset(
    {".txt", ".md", ".rst", ".pdf", ".doc", ".nfo", ".log", ".html", ".htm", ".xml", ".py", ".ipynb"}
    | {".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".ini", ".cfg", ".toml", ".npy", ".npz", ".db"}
    | {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".svg", ".webp", ".ico", ".heic", ".cue", ".lrc", ".sfv", ".md5"}
    | {".mid", ".midi", ".zip", ".gz", ".rar", ".7z", ".part", ".tmp", ".crdownload"}
    | {".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv"}
    | PLAYLIST_SUFFIXES
)

# Written into folders of music by storage devices and systems.
_SYSTEM_NAMES = frozenset(
    {"@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "__macosx", "$recycle.bin"}
    | {"recycler", "system volume information", "lost+found", "thumbs.db", "desktop.ini"}
)

# The first bytes of audio files; `.` is any byte.
_SIGNATURE = re.compile(
    rb"(?:RIFF|RIFX|RF64|BW64)....WAVE|riff\x2e\x91\xcf\x11|FORM....AIF[FC]|fLaC|OggS|ID3[\x02-\x04]|APETAGEX|\.snd|caff"
    rb"|....ftyp(?:M4[ABP] |F4A |mp4[12]|iso.|dash)|\x1a\x45\xdf\xa3|\x30\x26\xb2\x75\x8e\x66\xcf\x11"
    rb"|wvpk|MAC |DSD |FRM8|TTA1|tBaK|MPCK|MP\+|#!AMR|\x0b\x77|\x7f\xfe\x80\x01"
    # A frame of MPEG audio or ADTS. FF FE begins UTF-16 text.
    rb"|\xff(?:[\xfa\xfb\xf2\xf3\xe2\xe3\xfc\xfd\xf4\xf5\xe4\xe5][\x10-\xeb]|[\xf0\xf1\xf8\xf9][\x00-\xb0])",
    re.DOTALL,
)
_SIGNATURE_BYTES = 16

_WEB = re.compile(r"(?:https?|ftp|mms|rtsp|rtmp)://", re.IGNORECASE)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or written by a system and not by its user.

    Example:
        >>> is_hidden("._song.mp3"), is_hidden("@eaDir"), is_hidden("song.mp3")
        (True, True, False)
    """
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def is_playlist(path: str | os.PathLike[str]) -> bool:
    """Return whether a path has the extension of a playlist that `read_playlist` reads.

    Example:
        >>> is_playlist("mix.M3U8")
        True
    """
    return _suffix(os.fspath(path)) in PLAYLIST_SUFFIXES


def find_audio(folder: str | os.PathLike[str], on_error: Callable[[AudioError], None] | None = None) -> list[str]:
    """Find the audio files in a folder, at any depth.

    Files with an extension of audio count whatever they contain, and so does a broken link, which reading will report.
    Files with an unknown extension or none count if they begin as audio does. Hidden files and folders, and those that
    systems write (`@eaDir`, `__MACOSX`), are ignored. Links to folders are followed once, and never upwards.

    Args:
        folder: A local folder.
        on_error: Called for each folder below that cannot be read; None to raise the error.

    Returns:
        The paths, which begin with `folder`, sorted.

    Raises:
        AudioNotFoundError: If the folder does not exist.
        AudioError: If it is not a folder, or cannot be read.

    Example:
        >>> find_audio("music")
        ['music/album/01.flac', 'music/album/02.flac', 'music/song.mp3']
    """
    top = os.fspath(folder)
    if not os.path.exists(top):
        raise AudioNotFoundError(f"Expected a folder. Received: {top!r}, which does not exist.")
    if not os.path.isdir(top):
        raise audio_error("a folder", f"{top!r}, which is a file")

    def report(error: OSError) -> None:
        unreadable = audio_error("a readable folder", f"{error.filename!r} ({error.strerror})")
        if on_error is None or error.filename == top:
            raise unreadable from error
        on_error(unreadable)

    found = []
    seen = set(map(str, Path(os.path.realpath(top)).parents))
    for parent, folders, names in os.walk(top, onerror=report, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        paths = (os.path.join(parent, name) for name in names if not is_hidden(name))
        found += [path for path in paths if _is_audio(path)]
    return sorted(found)


def _is_audio(path: str) -> bool:
    suffix = _suffix(path)
    broken = os.path.islink(path) and not os.path.exists(path)
    if suffix in NOT_AUDIO or not (broken or os.path.isfile(path)):
        return False
    if broken or suffix in AUDIO_SUFFIXES:
        return True
    try:
        with open(path, "rb") as file:
            return _SIGNATURE.match(file.read(_SIGNATURE_BYTES)) is not None
    except OSError:
        # Reading the file as audio will report this.
        return True


def read_playlist(path: str | os.PathLike[str]) -> list[str]:
    """Read the entries of a playlist: `.m3u`, `.m3u8`, `.pls` or `.xspf`.

    Relative entries are relative to the playlist's folder. `file://` URLs and Windows paths become local paths. Text
    may be UTF-8, UTF-16, Latin-1 or Windows-1252, with or without percent escapes, its accents composed or decomposed:
    the spelling whose file exists is returned. Other URLs are returned as they are.

    Args:
        path: A local playlist.

    Returns:
        Paths and URLs in the order of the playlist. They need not exist.

    Raises:
        AudioNotFoundError: If the playlist does not exist.
        AudioError: If it cannot be read.

    Example:
        >>> read_playlist("mixes/summer.m3u8")
        ['mixes/01.mp3', '/music/album/02.flac']
    """
    name = os.fspath(path)
    try:
        content = Path(name).read_bytes()
    except FileNotFoundError as error:
        raise AudioNotFoundError(f"Expected a playlist. Received: {name!r}, which does not exist.") from error
    except OSError as error:
        raise audio_error("a readable playlist", f"{name!r} ({error.strerror})") from error
    folder = os.path.dirname(name)
    suffix = _suffix(name)
    if suffix == ".xspf":
        return [_located(location, folder, is_url=True) for location in _xspf_locations(content, name)]
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        content = content.decode("utf-16", "replace").encode("utf-8", "surrogatepass")
    lines = content.removeprefix(b"\xef\xbb\xbf").splitlines()
    if suffix == ".pls":
        matches = [match for line in lines if (match := re.match(rb"\s*File(\d+)\s*=(.*)", line, re.IGNORECASE))]
        entries = [match[2] for match in sorted(matches, key=lambda match: int(match[1]))]
    else:
        # A comment begins with #, and so may the name of a file.
        entries = [
            line
            for line in lines
            if not line.lstrip().startswith(b"#")
            or (not line.lstrip().upper().startswith(b"#EXT") and os.path.isfile(_located(line, folder)))
        ]
    return [_located(entry, folder) for entry in entries if entry.strip()]


def _xspf_locations(content: bytes, name: str) -> Iterator[bytes]:
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise audio_error("an XSPF playlist", f"{name!r} ({error})") from error
    for track in root.iter():
        # Tags carry a namespace, as in {http://xspf.org/ns/0/}track.
        if isinstance(track.tag, str) and track.tag.rpartition("}")[2] == "track":
            locations = [child.text for child in track if child.tag.rpartition("}")[2] == "location"]
            text = next((text.strip() for text in locations if text and text.strip()), None)
            if text is not None:
                yield text.encode("utf-8", "surrogatepass")


def _located(entry: bytes, folder: str, is_url: bool = False) -> str:
    """Return the URL of a playlist's entry, or its path: the first spelling that exists, or else the likeliest one."""
    url = _decoded(entry.strip())[0]
    if is_remote(url) and not url.lower().startswith("file:"):
        return url
    spellings = [os.path.join(folder, text) for text in _spellings(entry, is_url)]
    return next((text for text in spellings if os.path.exists(text)), spellings[0])


def _spellings(entry: bytes, is_url: bool) -> Iterator[str]:
    stripped = entry.strip()
    if stripped.lower().startswith(b"file:"):
        is_url = True
        # file:///path, file://host/path, file:/path, and file:///C:/path
        stripped = re.sub(rb"(?i)^file:(?://[^/]*)?(?=/)", b"", stripped)
        stripped = re.sub(rb"^/(?=[A-Za-z]:)", b"", stripped)
    unquoted = unquote_to_bytes(stripped)
    forms = (unquoted, stripped) if is_url else (stripped, entry, unquoted)
    for form in forms:
        for text in _decoded(form):
            # Outside Windows, a backslash may be part of a name.
            for path in (text.replace("\\", "/"), text) if os.sep == "/" else (text,):
                yield path
                yield unicodedata.normalize("NFC", path)
                yield unicodedata.normalize("NFD", path)


def _decoded(text: bytes) -> list[str]:
    """Return what bytes may spell, the likeliest first."""
    try:
        return [text.decode("utf-8")]
    except UnicodeDecodeError:
        # The name on the disk may have the same bytes, or be the same text in UTF-8.
        windows = [text.decode("cp1252")] if not re.search(rb"[\x81\x8d\x8f\x90\x9d]", text) else []
        return [*windows, text.decode("latin-1"), os.fsdecode(text)]


def expand(inputs: Iterable[str]) -> Iterator[tuple[str, PathError | None]]:
    """Replace folders and playlists, of any depth, by the audio files that they hold; other inputs stay as they are.

    Args:
        inputs: Paths of files, folders and playlists, or anything else that is not the path of a folder or playlist.

    Yields:
        Each path with None, in the order given, duplicates included; and each folder or playlist that cannot be read or
        is empty, and each web address in a playlist, with the error.

    Example:
        >>> [path for path, error in expand(["song.mp3", "album/", "mix.m3u"]) if error is None]
        ['song.mp3', 'album/01.flac', 'album/02.flac', '/music/b.ogg']
    """
    for path in inputs:
        yield from _expanded(path, ())


def _expanded(path: str, outer: tuple[str, ...]) -> Iterator[tuple[str, PathError | None]]:
    if is_remote(path):
        yield path, None
    elif os.path.isdir(path):
        errors: list[PathError] = []
        found: list[str] = []
        try:
            found = find_audio(path, errors.append)
        except AudioError as error:
            errors.append(error)
        if not found and not errors:
            errors.append(audio_error("a folder with audio files", f"{path!r}, which holds none"))
        yield from ((file, None) for file in found)
        yield from ((path, error) for error in errors)
    elif is_playlist(path):
        yield from _listed(path, outer)
    else:
        yield path, None


def _listed(path: str, outer: tuple[str, ...]) -> Iterator[tuple[str, PathError | None]]:
    real = os.path.realpath(path)
    if real in outer:
        yield path, audio_error("a playlist that does not contain itself", repr(path))
        return
    try:
        entries = read_playlist(path)
    except (AudioError, AudioNotFoundError) as error:
        yield path, error
        return
    if not entries:
        yield path, audio_error("a playlist with entries", f"{path!r}, which is empty")
    for entry in entries:
        if _WEB.match(entry):
            yield entry, audio_error(f"files in the playlist {path!r}", f"{entry!r}, which must be downloaded first")
        else:
            yield from _expanded(entry, (*outer, real))


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()
