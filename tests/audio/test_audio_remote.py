from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
import tensorflow as tf

from keras_tagger import audio
from keras_tagger.errors import AudioError, AudioNotFoundError


def encoded(container: str, subtype: str, seconds: int = 8) -> bytes:
    t = np.arange(44100 * seconds) / 44100
    file = io.BytesIO()
    soundfile.write(file, 0.5 * np.sin(2 * np.pi * (200 * t + 40 * t**2)), 44100, format=container, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III")])
def test_remote_paths_decode_as_bytes_do(container: str, subtype: str, tmp_path: Path):
    data = encoded(container, subtype)
    expected = audio.load(data)
    assert len(expected) == 8 * 16000
    local = tmp_path / "clip"
    local.write_bytes(data)
    in_memory = f"ram://test_audio_remote/{container}"
    with tf.io.gfile.GFile(in_memory, "wb") as file:
        file.write(data)
    for path in (in_memory, f"file://{local}"):
        assert audio.is_remote(path)
        np.testing.assert_array_equal(audio.load(path), expected)
        assert audio.info(path) == audio.info(data)
        np.testing.assert_allclose(audio.load(path, 16000, 5.5, 6.5), expected[88000:104000], atol=1e-5)


def test_a_remote_file_that_ffmpeg_decodes(tmp_path: Path):
    local, remote = tmp_path / "clip.m4a", "ram://test_audio_remote/clip.m4a"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", "sine=440:duration=2", local]
    subprocess.run(command, check=True)
    with tf.io.gfile.GFile(remote, "wb") as file:
        file.write(local.read_bytes())
    np.testing.assert_array_equal(audio.load(remote), audio.load(local))
    assert audio.info(remote) == audio.info(local)


def test_missing_empty_and_directory(tmp_path: Path):
    for path in ("ram://test_audio_remote/nothing.wav", f"file://{tmp_path}/nothing.wav"):
        with pytest.raises(AudioNotFoundError, match=r"nothing\.wav', which does not exist"):
            audio.load(path)
    with pytest.raises(AudioError, match="which is a directory"):
        audio.load(f"file://{tmp_path}")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioError, match=r"empty\.wav', which is empty"):
        audio.load(f"file://{tmp_path}/empty.wav")


def test_a_scheme_that_nobody_knows():
    with pytest.raises(AudioError, match=r"a scheme that tf\.io\.gfile supports\. Received: 'nonsense://a/b.wav'"):
        audio.load("nonsense://a/b.wav")


def test_an_object_store_without_tensorflow_io_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    with pytest.raises(AudioError, match=r"pip install .*TensorFlow up to 2\.17 and Python up to 3\.12") as error:
        audio.load("s3://bucket/song.mp3")
    assert 'pip install "keras_tagger[io]"' in str(error.value)
    assert "s3://bucket/song.mp3" in str(error.value)
