"""Deltas make the wanted file from any other."""

from __future__ import annotations

import random

import pytest

from keras_tagger.library.delta import make_delta, restored

NOISE = random.Random(0).randbytes(200_000)
PAGES = b"".join(bytes([n]) * 30 + NOISE[n * 4000 : n * 4000 + 4000] for n in range(50))
RENUMBERED = b"".join(bytes([n + 1]) * 30 + NOISE[n * 4000 : n * 4000 + 4000] for n in range(50))
PAIRS = {
    "nothing": (b"", b""),
    "from nothing": (b"", NOISE[:300]),
    "to nothing": (NOISE, b""),
    "same": (NOISE, NOISE),
    "insertion": (NOISE[:500] + b"new tags" * 20 + NOISE[500:], NOISE),
    "removal": (NOISE[700:], NOISE),
    "numbers changed all over": (b"OggS" * 9 + RENUMBERED, b"OggS" + PAGES),
    "picture moved": (NOISE[:100] + b"x" * 77 + NOISE[100:9000] + b"\0" * 400, NOISE[:9000] + b"\0" * 477),
    "parts swapped": (NOISE[5000:10000] + NOISE[:5000], NOISE[:10000]),
    "unrelated": (NOISE[:5000], NOISE[100_000:105_000]),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_delta_restores_the_file(name, tmp_path):
    base, wanted = tmp_path / "base", tmp_path / "wanted"
    for path, content in zip((base, wanted), PAIRS[name], strict=True):
        path.write_bytes(content)
    delta = make_delta(base, wanted)
    assert b"".join(restored(base, delta)) == PAIRS[name][1]
    if name not in ("from nothing", "unrelated"):
        assert len(delta) < 2500


def test_any_edits(tmp_path):
    base, wanted = tmp_path / "base", tmp_path / "wanted"
    rng = random.Random(1)
    for _ in range(60):
        content = bytearray(NOISE[: rng.randrange(4000)])
        base.write_bytes(content)
        for _ in range(rng.randrange(6)):
            begin = rng.randrange(len(content) + 1)
            content[begin : begin + rng.randrange(200)] = rng.randbytes(rng.randrange(200))
        wanted.write_bytes(content)
        assert b"".join(restored(base, make_delta(base, wanted))) == content
