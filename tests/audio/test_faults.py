"""Every strange file of `faults.ENTRIES` is read whole, or its reader is told what is missing."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import struct
import sys
import warnings as pywarnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import scale
from faults import BY_NAME, ENTRIES, Strange
from keras_tagger import audio
from keras_tagger.errors import AudioError, AudioWarning
from sound_files import ID3V1, flac, mp3, opus, vorbis, wav

pytestmark = pytest.mark.timeout(60)  # reading a file of some seconds takes a few milliseconds

RATE = 16000
HAS_AV = importlib.util.find_spec("av") is not None
# Codecs need a moment before the first sound and round up to a frame after the last.
EDGE = 0.05


@pytest.fixture(scope="session")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Strange], Path]:
    """Make an entry's file, once."""
    folder = tmp_path_factory.mktemp("strange")

    def path(entry: Strange) -> Path:
        place = folder / entry.name
        return place if place.exists() or place.is_symlink() else entry.write(folder)

    return path


def states_place(message: str, lost: tuple[float, float] | None) -> bool:
    """Return whether a message names a second near the damage, or a byte."""
    seconds = [float(number) for number in re.findall(r"(\d+(?:\.\d+)?) s\b", message)]
    if lost is None:
        return bool(seconds) or re.search(r"\d+ (byte|sample|frame)|byte \d+", message) is not None
    near = any(lost[0] - 0.6 <= second <= lost[1] + 0.6 for second in seconds)
    return near or re.search(r"\bbytes? \d[\d,]*|\d bytes", message) is not None


def missing(waveform: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
    """Return for how many seconds each of `steps` should be heard in a waveform and is not."""
    tones = [step for step in steps if step >= 0]
    expected = np.bincount(tones, minlength=scale.MAX_STEPS) * scale.STEP if tones else np.zeros(scale.MAX_STEPS)
    return np.maximum(0.0, expected - scale.heard(waveform))


def check_whole(entry: Strange, waveform: np.ndarray) -> None:
    """Check that every step is there, in order, and nothing else."""
    assert len(waveform) / RATE == pytest.approx(entry.seconds, abs=entry.slack + EDGE)
    lacking = missing(waveform, entry.steps)
    assert lacking.max() <= 0.1, f"of step {lacking.argmax()} {lacking.max():.2f} s are missing"
    assert lacking.sum() <= max(0.2, 0.02 * len(entry.steps)), f"{lacking.sum():.2f} s are missing"
    if all(step >= 0 for step in entry.steps):
        assert scale.order(waveform) == list(entry.steps)


def check_told(entry: Strange, waveform: np.ndarray) -> None:
    """Check that what lies apart from the damage is there."""
    lost = entry.lost or (0.0, 0.0)
    kept = tuple(
        step
        for i, step in enumerate(entry.steps)
        if entry.lost is None or (i + 1) * scale.STEP <= lost[0] or i * scale.STEP >= lost[1]
    )
    lacking = missing(waveform, kept)
    assert lacking.max() <= 0.12, f"of step {lacking.argmax()} {lacking.max():.2f} s are missing"
    assert len(waveform) / RATE <= entry.seconds + entry.slack + EDGE


def check_refusal(entry: Strange, error: AudioError, has_av: bool) -> None:
    """Check the words of an error."""
    message = str(error)
    assert message.startswith("Expected ")
    assert "Received: " in message
    assert entry.name in message
    assert "\n" not in message
    if entry.outcome == "refused":
        assert re.search(entry.words, message), message
    elif entry.av == "needs" and not has_av:
        assert "keras_tagger[av]" in message
    elif entry.av == "may" and not has_av:
        pass
    else:
        assert entry.outcome in ("told", "minor"), f"refused: {message}"
        assert states_place(message, entry.lost), f"no place: {message}"


@pytest.mark.parametrize("name", list(BY_NAME))
def test_strange_file(
    name: str, strange: Callable[[Strange], Path], capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
):
    entry = BY_NAME[name]
    path = strange(entry)
    capfd.readouterr()
    warnings: list[AudioWarning] = []
    try:
        waveform = audio.load(path, RATE, warnings=warnings)
    except AudioError as error:
        assert capfd.readouterr().err == ""
        check_refusal(entry, error, HAS_AV)
        return
    assert entry.outcome != "refused"
    assert capfd.readouterr().err == ""
    assert waveform.dtype == np.float32
    damage = [str(warning) for warning in warnings if warning.kind == "damaged"]
    lacking = float(missing(waveform, entry.steps).sum())
    if entry.outcome in ("warned", "told"):
        if entry.outcome == "warned" or entry.lost is None or lacking > 0.2:
            assert damage, f"read {len(waveform) / RATE:.2f} s, {lacking:.2f} s are missing, and no warning"
        check_told(entry, waveform)
    elif entry.outcome == "minor":
        assert lacking <= 0.2 or damage
        assert len(waveform) / RATE == pytest.approx(entry.seconds, abs=entry.slack + EDGE)
    else:
        check_whole(entry, waveform)
        assert entry.may_warn or not damage, damage
    for message in damage:
        assert entry.name in message
        assert "\n" not in message
        assert states_place(message, entry.lost), f"no place: {message}"

    assert {warning.kind for warning in warnings} - {"damaged"} == ({entry.warns} if entry.warns else set())

    # The header's length is what is decoded, unless the header is what is false.
    with pywarnings.catch_warnings():
        pywarnings.simplefilter("ignore")
        about = audio.info(path)
    if about.seconds is not None:
        assert about.seconds >= len(waveform) / RATE - 0.1
        if entry.outcome == "whole" and not damage:
            assert about.seconds == pytest.approx(len(waveform) / RATE, abs=0.1)

    # An excerpt, also one behind the damage, is a slice of the whole.
    for start, end in ((0.4 * entry.seconds, 0.4 * entry.seconds + 0.3), (0.8 * entry.seconds, None)):
        first = round(start * RATE)
        if first < len(waveform):
            stop = None if end is None else round(end * RATE)
            excerpt = audio.load(path, RATE, start, end, warnings=[])
            np.testing.assert_allclose(excerpt, waveform[first:stop], atol=2e-3 * max(1.0, np.abs(waveform).max()))
    assert capfd.readouterr().err == ""
    assert not [warning for warning in recwarn if issubclass(warning.category, AudioWarning)]


@pytest.mark.parametrize("name", [entry.name for entry in ENTRIES if entry.av != "no"])
def test_without_pyav_the_error_names_the_extra(
    name: str, strange: Callable[[Strange], Path], monkeypatch: pytest.MonkeyPatch
):
    entry = BY_NAME[name]
    path = strange(entry)
    monkeypatch.setitem(sys.modules, "av", None)
    try:
        waveform = audio.load(path, RATE, warnings=[])
    except AudioError as error:
        check_refusal(entry, error, has_av=False)
    else:
        assert entry.av == "may"
        if entry.outcome == "whole":
            check_whole(entry, waveform)


@pytest.mark.parametrize("name", ["hole_zeros_50.mp3", "join_mp3_id3v2.mp3", "chain_vorbis_rates.ogg", "wav_s24.wav"])
def test_bytes_are_read_as_the_file_is(name: str, strange: Callable[[Strange], Path]):
    path = strange(BY_NAME[name])
    from_path: list[AudioWarning] = []
    from_bytes: list[AudioWarning] = []
    waveform = audio.load(path, RATE, warnings=from_path)
    np.testing.assert_array_equal(audio.load(path.read_bytes(), RATE, warnings=from_bytes), waveform)
    assert [warning.kind for warning in from_bytes] == [warning.kind for warning in from_path]


@pytest.mark.parametrize("name", [b"two\nlines.mp3", b"caf\xe9.mp3", "\u96ea | <b>.mp3".encode()])
def test_messages_of_odd_names_are_one_line_that_can_be_shown(name: bytes, tmp_path: Path):
    path = os.path.join(os.fsencode(tmp_path), name)
    warnings: list[AudioWarning] = []
    Path(os.fsdecode(path)).write_bytes(BY_NAME["hole_zeros_50.mp3"].make())  # type: ignore[call-arg]
    try:
        audio.load(os.fsdecode(path), RATE, warnings=warnings)
        messages = [str(warning) for warning in warnings]
    except AudioError as error:
        messages = [str(error)]
    Path(os.fsdecode(path)).write_bytes(BY_NAME["shopping_list.mp3"].make())  # type: ignore[call-arg]
    with pytest.raises(AudioError) as raised:
        audio.load(os.fsdecode(path), RATE)
    for message in [*messages, str(raised.value)]:
        assert "\n" not in message
        message.encode("utf-8")
    assert messages


def repeated(unit: bytes, size: int = 300_000) -> bytes:
    return unit * (size // len(unit))


LONG = {
    "ones": repeated(b"\xff"),
    "noise": np.random.default_rng(5).bytes(300_000),
    "false mp3 frames": repeated(b"\xff\xfb\x90\x64"),
    "false flac frames": repeated(b"\xff\xf8\xc9\x08"),
    "ogg page headers": repeated(b"OggS\0\2" + bytes(21)),
    "empty ID3v2 tags": repeated(b"ID3\3\0\0\0\0\0\0"),
    "ID3v1 tags": repeated(ID3V1),
    "APE tags": repeated(b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0xA0000000) + bytes(8)),
    "riff headers": repeated(b"RIFF\xff\xff\xff\xffWAVE"),
    "empty chunks": repeated(b"JUNK\0\0\0\0"),
    "flac headers": repeated(b"fLaC\0\0\0\x22"),
}


@pytest.mark.timeout(60)  # Work that grows with the square of the length takes much longer.
@pytest.mark.parametrize("kind", list(LONG))
def test_long_runs_of_one_thing_end(kind: str):
    with contextlib.suppress(AudioError):
        audio.load(LONG[kind], RATE, warnings=[])
    sound = flac() if "flac" in kind else mp3()
    alone = len(audio.load(sound, RATE))
    with contextlib.suppress(AudioError):
        assert len(audio.load(sound + LONG[kind], RATE, warnings=[])) >= alone


@pytest.mark.parametrize("make", [mp3, flac, vorbis, opus, wav])
def test_many_short_files_joined_are_read_or_told_of(make: Callable[..., bytes]):
    warnings: list[AudioWarning] = []
    files = [make(steps=range(i, i + 1)) for i in range(20)]
    waveform = audio.load(b"".join(files), RATE, warnings=warnings)
    assert warnings or missing(waveform, tuple(range(20))).max() <= 0.15


def test_a_scale_tells_which_part_is_missing():
    samples = scale.scale(range(12), RATE)[:, 0]
    np.testing.assert_allclose(scale.heard(samples)[:12], scale.STEP, atol=0.011)
    assert scale.order(samples) == list(range(12))
    shortened = np.delete(samples, slice(RATE, RATE + 4000))
    np.testing.assert_allclose(missing(shortened, tuple(range(12))), np.eye(32)[4] * scale.STEP, atol=0.03)
    assert scale.order(shortened) == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert not scale.heard(np.random.default_rng(0).standard_normal(RATE)).any()
    assert not scale.heard(np.zeros(RATE)).any()


def test_the_table_is_long_enough_and_no_file_stands_there_twice():
    contents = [entry.make() for entry in ENTRIES if entry.regular]  # type: ignore[call-arg]
    assert len(set(contents)) == len(contents)
    assert len(ENTRIES) >= 80
