"""However a file is damaged, reading it ends, does not crash, and never loses more than 0.2 s of sound without a word.

By default a few hundred damaged files are read, always the same. To read more:

    KERAS_TAGGER_DAMAGE_CASES=2400 python -m pytest tests/audio/test_random_damage.py

What counts as a loss. Each file holds a scale, so that one hears which part of it was read. A reader must know of
everything that is missing of a file's scale, and say so, with these exceptions, which no reader can know of:

- samples of a wav or aiff that were overwritten are merely wrong samples;
- a byte of an mp3 or AAC that was flipped inside a frame spoils that frame and its neighbours;
- a format that does not state its length (an mp3 without Info frame, ADTS, AC3, an ogg that ends with a whole page)
  may have been longer, or may have begun earlier. What lies between its first and its last frames counts.
"""

from __future__ import annotations

import bisect
import functools
import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from damage_worker import RATE, Reading, Worker
from scale import MAX_STEPS, STEP
from sound_files import (
    ID3V1,
    aiff,
    ape,
    converted,
    flac,
    id3v2,
    mp3,
    mp3_frames,
    noise,
    ogg_pages,
    opus,
    vorbis,
    wav,
)  # fmt: skip

CASES = int(os.environ.get("KERAS_TAGGER_DAMAGE_CASES", "300"))
ALLOWED = 0.2  # seconds
RUN = 1000  # bytes without a gap, of which a reader can tell that they are frames
STEPS = 12
SECONDS = STEPS * STEP
FIRST, SECOND = range(STEPS), range(STEPS, 2 * STEPS)


@dataclass(frozen=True)
class Container:
    """A format, and what a reader can know of a file of it.

    Attributes:
        make: Makes a file of the given steps.
        kind: "pcm" (overwritten samples are samples), "framed" (frames without a checksum) or "checked".
        head: Number of bytes before the sound.
        states_length: Whether an undamaged head says how much sound there is.
    """

    make: Callable[[range], bytes]
    kind: str
    head: Callable[[bytes], int]
    states_length: bool = True
    needs_av: bool = False


def _after(mark: bytes) -> Callable[[bytes], int]:
    return lambda data: data.index(mark)


def _third_page(data: bytes) -> int:
    pages = ogg_pages(data)
    return sum(len(page) for page in pages[:2])


CONTAINERS = {
    "wav": Container(lambda steps: wav(steps=steps), "pcm", lambda _: 44),
    "aiff": Container(lambda steps: aiff(steps=steps), "pcm", lambda _: 54),
    "flac": Container(flac, "checked", lambda data: data.index(b"\xff\xf8", 42)),
    "vorbis": Container(vorbis, "checked", _third_page),
    "opus": Container(opus, "checked", _third_page),
    "mp3 with Info": Container(mp3, "framed", lambda data: mp3_frames(data)[0][1]),
    "mp3 with Xing": Container(
        lambda steps: mp3(steps, mode="VARIABLE"), "framed", lambda data: mp3_frames(data)[0][1]
    ),
    "mp3 without Info": Container(lambda steps: mp3(steps, info=False), "framed", lambda _: 0, False),
    "vbr mp3 without Xing": Container(
        lambda steps: mp3(steps, mode="VARIABLE", info=False), "framed", lambda _: 0, False
    ),
    "m4a": Container(
        lambda steps: converted("-c:a aac -b:a 64k -movflags +faststart", ".m4a", steps),
        "framed", _after(b"mdat"), needs_av=True,
    ),
    "adts": Container(
        lambda steps: converted("-c:a aac -b:a 64k -f adts", ".aac", steps), "framed", lambda _: 0, False, True
    ),
    "webm": Container(
        lambda steps: converted("-c:a libopus", ".webm", steps), "framed", _after(b"\x1f\x43\xb6\x75"), needs_av=True
    ),
    "wma": Container(
        lambda steps: converted("-c:a wmav2 -b:a 64k", ".wma", steps), "framed",
        _after(bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")), needs_av=True,
    ),
    "wavpack": Container(lambda steps: converted("-c:a wavpack", ".wv", steps), "checked", lambda _: 32, needs_av=True),
    "ac3": Container(lambda steps: converted("-c:a ac3 -b:a 96k", ".ac3", steps), "framed", lambda _: 0, False, True),
}  # fmt: skip


@functools.cache
def clean(container: str, second: bool) -> bytes:
    return CONTAINERS[container].make(SECOND if second else FIRST)


@functools.cache
def onsets(container: str, second: bool) -> tuple[list[int], list[float]]:
    """Return byte offsets of a clean file and the times in seconds at which they sound."""
    data = clean(container, second)
    if container.endswith(("Info", "Xing")):
        places = [offset for offset, _ in mp3_frames(data)]
        return places, [i * SECONDS / len(places) for i in range(len(places))]
    head = CONTAINERS[container].head(data)
    places = list(range(head, len(data), max(1, (len(data) - head) // 200)))
    return places, [SECONDS * (place - head) / (len(data) - head) for place in places]


# --- damage

_FILE = 1 << 24  # origins of the second file begin here


@dataclass
class Damaged:
    """A file, and for each of its bytes the offset in the clean file it comes from, or -1."""

    data: np.ndarray
    origin: np.ndarray
    flips: int = 0
    names: tuple[str, ...] = ()

    def splice(self, start: int, stop: int, data: bytes | np.ndarray, origin: np.ndarray | None = None) -> None:
        new = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
        origin = np.full(len(new), -1) if origin is None else origin
        self.data = np.concatenate([self.data[:start], new, self.data[stop:]])
        self.origin = np.concatenate([self.origin[:start], origin, self.origin[stop:]])


def junk(size: int, seed: int) -> bytes:
    """Make bytes that are no sound: zeros, noise, ones, text, tags or something that begins like a file."""
    kinds: list[Callable[[], bytes]] = [
        lambda: bytes(size),
        lambda: noise(size, seed),
        lambda: np.random.default_rng(seed).bytes(size),
        lambda: b"\xff" * size,
        lambda: (b"the quick brown fox\n" * (size // 20 + 1))[:size],
        lambda: id3v2(max(20, size)),
        lambda: id3v2(max(20, size), picture=True),
        lambda: ape() + ID3V1,
        lambda: (b"OggS\0\2" + bytes(20) + b"\1\x1e" + bytes(30) + b"RIFF" + bytes(40) + b"fLaC\0\0\0\x22")[:size],
    ]
    return kinds[seed % len(kinds)]()


def apply(damaged: Damaged, operation: tuple[str, float, int, int], container: str) -> None:
    """Damage a file further: with a kind of damage at a share of its length, of a size in bytes, and with a seed."""
    kind, at, size, seed = operation
    length = len(damaged.data)
    start = min(int(at * length), max(0, length - 1))
    stop = min(length, start + size)
    if kind == "cut end":
        damaged.splice(start, length, b"")
    elif kind == "cut start":
        damaged.splice(0, start, b"")
    elif kind == "remove":
        damaged.splice(start, stop, b"")
    elif kind == "zero":
        damaged.splice(start, stop, bytes(stop - start))
    elif kind == "noise":
        damaged.splice(start, stop, np.random.default_rng(seed).bytes(stop - start))
    elif kind == "flip" and length:
        draw = np.random.default_rng(seed)
        for place in draw.integers(0, length, 1 + seed % 5) if seed % 3 else [start]:
            damaged.splice(place, place + 1, bytes([damaged.data[place] ^ 1 << int(draw.integers(8))]))
            damaged.flips += 1
    elif kind == "insert":
        damaged.splice(start, start, junk(size, seed))
    elif kind == "append":
        damaged.splice(length, length, junk(size, seed))
    elif kind == "repeat":
        damaged.splice(stop, stop, damaged.data[start:stop], np.full(stop - start, -1))
    elif kind == "swap":
        later = min(length, stop + size)
        order = [*range(stop, later), *range(start, stop)]
        damaged.splice(start, later, damaged.data[order], damaged.origin[order])
    elif kind == "join" and len(damaged.names) == 1:
        # Behind or before the file, another of the format, or with some seeds one of another format without PyAV.
        names = [name for name in CONTAINERS if not CONTAINERS[name].needs_av]
        other = names[seed % len(names)] if seed % 2 else container
        data = clean(other, True)
        place = 0 if seed % 5 == 0 and CONTAINERS[container].kind != "pcm" else length
        damaged.splice(place, place, data, np.arange(len(data)) + _FILE)
        damaged.names += (other,)


KINDS = ["cut end", "cut start", "remove", "zero", "noise", "flip", "insert", "append", "repeat", "swap", "join"]
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.one_of(st.floats(0, 1), st.floats(0, 0.03)),
        st.one_of(st.sampled_from([1, 2, 100, 417, 1000, 3000, 10_000]), st.integers(1, 20_000)),
        st.integers(0, 10_000),
    ),
    min_size=1,
    max_size=3,
)


def damage(container: str, operations: list[tuple[str, float, int, int]]) -> Damaged:
    data = np.frombuffer(clean(container, False), np.uint8)
    damaged = Damaged(data, np.arange(len(data)), names=(container,))
    for operation in operations:
        apply(damaged, operation, container)
    return damaged


# --- what a reader can know


def held(damaged: Damaged, index: int) -> np.ndarray:
    """Return the seconds of each step that a reader can know to belong to the first or second file."""
    name = damaged.names[index]
    container = CONTAINERS[name]
    data = clean(name, bool(index))
    head = container.head(data)
    found = np.flatnonzero((damaged.origin >= index * _FILE) & (damaged.origin < (index + 1) * _FILE))
    own = damaged.origin[found] - index * _FILE
    steps = np.zeros(MAX_STEPS)
    if len(own) == 0:
        return steps
    start = int(np.argmax(damaged.origin == index * _FILE))
    whole_head = np.array_equal(damaged.origin[start : start + head], np.arange(head) + index * _FILE)
    if index and not whole_head and container.states_length:
        return steps  # what stands behind the first file is not recognised as a file
    for other, its_name in enumerate(damaged.names):
        if other != index and CONTAINERS[its_name].kind == "pcm":
            before = int(np.argmax(damaged.origin == other * _FILE))
            if before < start < before + len(clean(its_name, bool(other))):
                return steps  # the header of the file in front counts it as samples
    if container.kind == "pcm":  # what was overwritten is sound too, if not that of the scale
        shift = found - own
        own = own[(shift - shift[0]) % 2 == 0]  # samples that begin in the midst of others are noise
        step_bytes = (len(data) - head) // STEPS
        counts = np.bincount((own[own >= head] - head) // step_bytes, minlength=STEPS)[:STEPS]
        steps[index * STEPS : (index + 1) * STEPS] = counts * STEP / step_bytes
        return steps
    begin, end = 0.0, SECONDS
    places, times = onsets(name, bool(index))
    last = int(own.max()) + 1
    whole_page = container.kind == "checked" and data[last : last + 4] == b"OggS"
    if not (container.states_length and whole_head) or whole_page:
        runs = [run for run in np.split(own, np.flatnonzero(np.diff(own) != 1) + 1) if len(run) >= RUN]
        if not runs:
            return steps
        own = np.concatenate(runs)
        last = int(own.max()) + 1
        begin = times[max(0, bisect.bisect_right(places, int(own.min())) - 1)] if own.min() > 0 else 0.0
        end = times[max(0, bisect.bisect_right(places, last) - 1)] if last < len(data) else SECONDS
        end -= 0.3 if whole_page else 0.0
    for step in range(STEPS):
        inside = min(end, (step + 1) * STEP) - max(begin, step * STEP)
        steps[step + index * STEPS] = max(0.0, inside)
    return steps


def lost_samples(damaged: Damaged, reading: Reading) -> float:
    """Return how many seconds of samples a wav or aiff holds that were not read."""
    name = damaged.names[0]
    width = {"PCM_U8": 1, "PCM_S8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}.get(
        reading.format.split()[-1]
    )
    if width is None:  # the damage made it another codec
        return 0.0
    per_second = 2 * RATE
    read = reading.samples * reading.rate / RATE * reading.channels * width
    head = CONTAINERS[name].head(clean(name, False))
    whole_head = np.array_equal(damaged.origin[:head], np.arange(head))
    promised = len(clean(name, False)) - head if whole_head else 0
    own = (damaged.origin >= head) & (damaged.origin < _FILE)
    begin = head if whole_head else int(np.argmax(own))
    behind = int(own[min(len(own), begin + round(read)) :].sum())
    return max(promised - read, behind) / per_second


def silent_loss(damaged: Damaged, reading: Reading) -> float:
    """Return how many seconds a reader lost that it could have known of."""
    files = range(len(damaged.names))
    if CONTAINERS[damaged.names[0]].kind == "pcm":
        loss = lost_samples(damaged, reading)
        files = files[1:]
    else:
        loss = 0.0
    assert reading.heard is not None
    expected = sum((held(damaged, index) for index in files), np.zeros(MAX_STEPS))
    missing = float(np.maximum(0.0, expected - reading.heard).sum())
    if any(CONTAINERS[damaged.names[index]].kind == "framed" for index in files):
        missing -= 0.1 * damaged.flips
    if reading.rate != 0 and loss == 0.0 and missing > 0:
        missing -= 0.05 * len(damaged.names)  # delays of encoders, and frames that span two steps
    return max(loss, missing)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


HAS_AV = importlib.util.find_spec("av") is not None
NAMES = [name for name, container in CONTAINERS.items() if HAS_AV or not container.needs_av]


@pytest.mark.parametrize("container", NAMES)
def test_no_damage_is_silent(container: str, worker: Worker):
    @settings(
        max_examples=max(5, CASES // len(NAMES)),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operations=OPERATIONS)
    def check(operations: list[tuple[str, float, int, int]]) -> None:
        damaged = damage(container, operations)
        reading = worker.read(damaged.data.tobytes())
        note(f"{len(damaged.data)} bytes: {reading}")
        assert reading.outcome in ("read", "refused"), reading.message
        if reading.outcome == "read" and not reading.told:
            loss = silent_loss(damaged, reading)
            assert loss <= ALLOWED, f"{loss:.2f} s are missing without a word"
            assert reading.excerpt_error < 0.01, "an excerpt is no slice of the whole"

    check()


@pytest.mark.parametrize("container", NAMES)
def test_an_undamaged_file_is_read_whole(container: str, worker: Worker):
    damaged = damage(container, [])
    reading = worker.read(damaged.data.tobytes())
    assert (reading.outcome, reading.told) == ("read", False), reading.message
    assert silent_loss(damaged, reading) <= 0.05
    # A reader that stopped halfway would be found out.
    assert reading.heard is not None
    half = Reading("read", samples=reading.samples // 2, heard=reading.heard / 2, rate=reading.rate,
                   channels=reading.channels, format=reading.format)  # fmt: skip
    assert silent_loss(damaged, half) > 1.0


def test_a_worker_tells_a_crash_and_a_hang_from_a_refusal():
    worker = Worker()
    assert worker.read(b"no audio").outcome == "refused"
    assert worker.process is not None
    worker.process.kill()
    assert worker.read(b"no audio").outcome == "crashed"
    assert worker.read(b"no audio").outcome == "refused"
    worker.process.send_signal(signal.SIGSTOP)
    worker.seconds = 0.2
    assert worker.read(b"no audio").outcome == "hung"
    worker.close()
