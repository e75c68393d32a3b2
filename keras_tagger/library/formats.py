"""The fields in music files of every format, read and written with mutagen.

Mutagen is GPL-2.0-or-later, so it is an optional extra, `keras_tagger[write]`, and imported only here.

| field | ID3v2 (mp3, wav, aiff) | Vorbis comments (flac, ogg, opus) | MP4 (m4a) | ASF (wma) |
|---|---|---|---|---|
| genre | TCON | GENRE | (c)gen | WM/Genre |
| mood | TMOO (v2.4), TXXX:MOOD (v2.3) | MOOD | ----:com.apple.iTunes:MOOD | WM/Mood |
| other | TXXX:NAME | NAME | ----:com.apple.iTunes:NAME | NAME |

Several values are several values in every format but ID3v2.3, where they are joined by "/".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_tagger.errors import LibraryError

_ITUNES = "----:com.apple.iTunes:"
_V1_BYTES = 128


def open_music(path: str | os.PathLike[str]) -> MusicFile:
    """Open the fields of a music file; the file is read, and written only by `MusicFile.save`.

    Raises:
        LibraryError: If the file is damaged or of a format that has no fields, or mutagen is not installed.

    Example:
        >>> open_music("song.flac").get("genre")
        ['Rock', 'Pop']
    """
    try:
        import mutagen
        from mutagen.asf import ASF
        from mutagen.flac import FLAC
        from mutagen.id3 import ID3
        from mutagen.mp4 import MP4
        from mutagen.ogg import OggFileType
    except ImportError:
        raise LibraryError(
            "expected mutagen, which writes tags into files. Received: none. "
            'Install it with: pip install "keras_tagger[write]"'
        ) from None

    expected = "expected an intact music file (mp3, flac, ogg, opus, m4a, wma, wav or aiff)."
    name = os.fspath(path)
    try:
        file = mutagen.File(name)
        tags = None if file is None else file.tags
        if tags is None and file is not None:
            file.add_tags()
        if file is not None and isinstance(file.tags, ID3):
            if tags is not None:
                # Otherwise mutagen would turn frames of ID3v2.3 into those of ID3v2.4.
                file.load(name, translate=False)
            return _Id3File(file, name)
    except (mutagen.MutagenError, ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise LibraryError(f"{expected} Received: {name!r} ({str(error) or type(error).__name__}).") from None
    if isinstance(file, FLAC | OggFileType):
        return _VorbisFile(file, name)
    if isinstance(file, MP4):
        return _Mp4File(file, name)
    if isinstance(file, ASF):
        return _AsfFile(file, name)
    kind = "of no format that mutagen knows" if file is None else f"{type(file).__name__}, which is not supported"
    raise LibraryError(f"{expected} Received: {name!r}, {kind}.")


class MusicFile:
    """The fields of a music file.

    Args:
        file: The file of mutagen.
        name: Its path.
    """

    def __init__(self, file: Any, name: str) -> None:
        self._file = file
        self._name = name

    def get(self, field: str) -> list[str]:
        """Return the values of a field; none if the file does not have it."""
        return [str(value) for key in self._keys(field) for value in self._values(key) if str(value).strip()]

    def set(self, field: str, values: Sequence[str]) -> None:
        """Replace the values of a field; without values, the file loses the field."""
        keys = self._keys(field)
        for key in keys:
            del self._file.tags[key]
        if values:
            self._put(field, keys[0] if keys else self._key(field), values)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fields into a file, which must be a copy of the one that was opened.

        Raises:
            LibraryError: If mutagen cannot write them.
        """
        import mutagen

        try:
            self._save(os.fspath(path))
        except (mutagen.MutagenError, ValueError, KeyError, OverflowError) as error:
            raise LibraryError(
                f"expected a file whose tags can be written. Received: {self._name!r} ({error})."
            ) from None

    def _save(self, path: str) -> None:
        self._file.save(path)

    def _keys(self, field: str) -> list[str]:
        """Return the keys that hold a field, whatever their case."""
        wanted = self._key(field).lower()
        return [key for key in self._file.tags.keys() if key.lower() == wanted]  # noqa: SIM118

    def _key(self, field: str) -> str:
        raise NotImplementedError

    def _values(self, key: str) -> Sequence[Any]:
        found: Sequence[Any] = self._file.tags[key]
        return found

    def _put(self, field: str, key: str, values: Sequence[str]) -> None:
        self._file.tags[key] = list(values)


class _VorbisFile(MusicFile):
    def _keys(self, field: str) -> list[str]:
        return [field.upper()] if field.upper() in self._file.tags else []

    def _key(self, field: str) -> str:
        return field.upper()


class _Mp4File(MusicFile):
    def _key(self, field: str) -> str:
        return "\xa9gen" if field == "genre" else _ITUNES + field.upper()

    def _values(self, key: str) -> Sequence[Any]:
        found = self._file.tags[key]
        return [bytes(value).decode("utf-8", "replace") if isinstance(value, bytes) else value for value in found]

    def _put(self, field: str, key: str, values: Sequence[str]) -> None:
        self._file.tags[key] = [value.encode() for value in values] if key.startswith("----") else list(values)


class _AsfFile(MusicFile):
    def _key(self, field: str) -> str:
        return {"genre": "WM/Genre", "mood": "WM/Mood"}.get(field, field.upper())

    def _keys(self, field: str) -> list[str]:
        wanted = self._key(field).lower()
        return list(dict.fromkeys(key for key in self._file.tags.keys() if key.lower() == wanted))  # noqa: SIM118


class _Id3File(MusicFile):
    def __init__(self, file: Any, name: str) -> None:
        super().__init__(file, name)
        tags = file.tags
        # A file without ID3v2 gets version 2.4. Version 2.2 can only be written as 2.3.
        self._version = 3 if (2, 0, 0) <= tags.version < (2, 4, 0) else 4
        if (2, 0, 0) <= tags.version < (2, 3, 0):
            tags.update_to_v23()

    def _key(self, field: str) -> str:
        standard = {"genre": "TCON", "mood": "TMOO"} if self._version == 4 else {"genre": "TCON"}
        return standard.get(field, f"TXXX:{field.upper()}")

    def _keys(self, field: str) -> list[str]:
        wanted = {self._key(field).lower(), f"txxx:{field}"} | ({"tmoo"} if field == "mood" else set())
        return [key for key in self._file.tags if key.lower() in wanted]

    def _values(self, key: str) -> Sequence[Any]:
        frame = self._file.tags[key]
        texts = frame.genres if key == "TCON" else frame.text
        return [part for text in texts for part in str(text).split("/")] if self._version == 3 else texts

    def _put(self, field: str, key: str, values: Sequence[str]) -> None:
        from mutagen.id3 import TCON, TMOO, TXXX, Encoding

        text = list(values) if self._version == 4 else ["/".join(values)]
        encoding = Encoding.UTF8 if self._version == 4 else Encoding.UTF16
        if key.startswith("TXXX:"):
            frame: Any = TXXX(encoding=encoding, desc=key.partition(":")[2], text=text)
        else:
            frame = {"TCON": TCON, "TMOO": TMOO}[key](encoding=encoding, text=text)
        self._file.tags.add(frame)

    def _save(self, path: str) -> None:
        last = Path(path).read_bytes()[-_V1_BYTES:] if os.path.getsize(path) >= _V1_BYTES else b""
        # Without a separator, other frames with several values stay as they are.
        self._file.save(path, v2_version=self._version, v23_sep=None)
        if last.startswith(b"TAG"):
            # mutagen also writes the fields into an ID3v1 tag, where a genre is a number.
            with open(path, "r+b") as file:
                file.seek(-_V1_BYTES, os.SEEK_END)
                if file.read(3) == b"TAG":
                    file.seek(-_V1_BYTES, os.SEEK_END)
                    file.write(last)
