"""Audio from file objects: in memory, on disk, and from pipes."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import tiny
from keras_tagger import audio
from keras_tagger.audio.streams import seekable
from keras_tagger.errors import AudioError, ModelError


@pytest.fixture(scope="module", params=["flac", "ogg"])
def encoded(request: pytest.FixtureRequest) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tiny.tone(300.0, 1.5, seed=1), tiny.RATE, format=request.param)
    return buffer.getvalue()


class Pipe(io.RawIOBase):
    """Cannot seek, and returns little at a time."""

    def __init__(self, content: bytes) -> None:
        self._inner = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._inner.read(min(size, 1000) if size >= 0 else size)


def test_file_objects_are_read_from_their_position_and_stay_open(encoded: bytes, tmp_path: Path) -> None:
    expected = audio.load(encoded)
    path = tmp_path / "song"
    path.write_bytes(b"some header" + encoded)
    for file in (io.BytesIO(b"some header" + encoded), path.open("rb"), path.open("rb", buffering=0)):
        with file:
            file.seek(len(b"some header"))
            np.testing.assert_array_equal(audio.load(file), expected)
            # It returns to its position, so that it can be read again.
            assert (file.tell(), file.closed) == (len(b"some header"), False)
            assert audio.info(file) == audio.info(encoded)
            np.testing.assert_array_equal(np.concatenate(list(audio.blocks(file, block_seconds=0.4))), expected)


def test_a_pipe_is_read_once(encoded: bytes) -> None:
    pipe = Pipe(encoded)
    np.testing.assert_array_equal(audio.load(pipe), audio.load(encoded))
    assert not pipe.closed
    with pytest.raises(AudioError, match=r"Expected audio\. Received: a Pipe, which is empty\."):
        audio.load(pipe)
    ours, theirs = os.pipe()
    writer = threading.Thread(target=lambda: os.fdopen(theirs, "wb").write(encoded))
    writer.start()
    with os.fdopen(ours, "rb") as file:
        np.testing.assert_array_equal(audio.load(file), audio.load(encoded))
    writer.join()


def test_a_copy_of_a_pipe_can_be_read_twice(encoded: bytes) -> None:
    copy = seekable(Pipe(encoded))
    np.testing.assert_array_equal(audio.load(copy), audio.load(copy))
    buffer = io.BytesIO(encoded)
    assert seekable(buffer) is buffer
    assert seekable("song.mp3") == "song.mp3"


class Broken(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        if size:
            raise OSError(5, "Bad disk")
        return b""


def closed() -> io.BytesIO:
    file = io.BytesIO(b"x")
    file.close()
    return file


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (io.StringIO("words"), "Expected a file opened in binary mode. Received: a StringIO, a text file."),
        (io.BytesIO(b""), "Expected audio. Received: a BytesIO, which is empty."),
        (closed(), "Expected a readable file. Received: a BytesIO (I/O operation on closed file.)."),
        (Broken(b"x" * 100), "Expected a readable file. Received: a Broken (Bad disk)."),
        (io.BytesIO(b"no music" * 99), "Expected audio"),
    ],
    ids=["text", "empty", "closed", "broken", "noise"],
)
def test_bad_file_objects_get_one_sentence(file: Any, sentence: str) -> None:
    with pytest.raises(AudioError) as caught:
        audio.load(file)
    assert str(caught.value).startswith(sentence)


def test_files_of_the_wrong_mode_are_named(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.write_text("words")
    with path.open() as file, pytest.raises(AudioError, match=r"binary mode\. Received: '.*song\.wav', a text file\."):
        audio.load(file)  # type: ignore[arg-type]
    with path.open("wb") as file, pytest.raises(AudioError, match=r"a readable file\. Received: '.*song\.wav' \(read"):
        audio.load(file)


def test_a_tagger_takes_file_objects(tagger: Any, encoded: bytes) -> None:
    expected = tagger.tag(encoded).to_dict()
    buffer = io.BytesIO(encoded)
    assert tagger.tag(buffer).to_dict() == expected
    assert tagger.tag(Pipe(encoded)).to_dict() == expected
    for _, tags in tagger.tag_files([buffer, Pipe(encoded), buffer]):
        assert tags.to_dict() == pytest.approx(expected, abs=1e-5)
    np.testing.assert_array_equal(
        tagger.explain(Pipe(encoded), "contributions").values, tagger.explain(buffer, "contributions").values
    )
    with pytest.raises(ModelError, match="expected several files"):
        tagger.tag_files(buffer)
