"""What a request may cost: too much audio, too large a document, too much memory."""

from __future__ import annotations

import gzip
import io
from typing import Any

import numpy as np
import pytest
import soundfile

from keras_tagger.serving.limits import Budget, json_bytes
from keras_tagger.serving.status import StatusError
from raw_requests import Raw, refusal
from rest_cases import OURS
from rest_requests import ask
from tiny import RATE
from unrelated import example


def audio_file(seconds: float, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(int(seconds * rate), np.int16), rate, format="WAV", subtype="PCM_U8")
    return file.getvalue()


def test_too_much_audio_is_refused_before_it_is_run(contract: Any) -> None:
    raw = Raw(contract.port)
    text = "expected at most 600 s of audio in one request (--max_request_seconds). Received: 601 s. "
    text += "Send several requests."
    code = "INVALID_ARGUMENT"
    assert refusal(raw.predict, {"waveform": np.zeros((1, 601 * RATE), np.float32)}, name="ours") == (code, text)
    assert refusal(raw.predict, {"waveform": np.zeros((601, RATE), np.float32)}, name="ours") == (code, text)
    file = np.array([audio_file(601, 8000)], object)
    found = refusal(raw.predict, {"audio_bytes": file}, "wav", name="ours")
    assert found[0] == code
    assert found[1].startswith(text[:75])
    clip = np.array([example(audio_bytes=file[0]).SerializeToString()], object)
    assert refusal(raw.predict, {"inputs": clip}, "classify", name="ours") == found
    text = "expected a clip of at most 120 s, or fewer clips, for a reply with attention. Received: 1 of 121 s."
    assert refusal(raw.predict, {"waveform": np.zeros((1, 121 * RATE), np.float32)}, "attention", name="ours") == (
        code,
        text,
    )


@pytest.mark.parametrize("piece", [b"[],", b"0,", b"{},"])
def test_a_small_body_that_would_take_a_gigabyte_is_not_parsed(contract: Any, piece: bytes) -> None:
    body = gzip.compress(b'{"instances": [' + piece * (2**26 // len(piece) - 10) + b"0]}", 6)
    assert len(body) < 300_000
    status, reply = ask(contract.rest_api_port, "POST", f"{OURS}:predict", body, {"Content-Encoding": "gzip"})
    assert status == 400
    assert reply["error"].startswith("expected a JSON document that needs at most 512 MiB when parsed. Received: one ")


def test_documents_share_their_memory() -> None:
    budget = Budget(1000)
    with budget.held(600, None):
        assert not budget.take(500)
        with pytest.raises(StatusError, match="while the request waited for memory"), budget.held(500, 0.0):
            pass
    with budget.held(1000, None):
        pass
    with pytest.raises(StatusError, match="expected a JSON document"), budget.held(1001, None):
        pass


def test_the_estimate_is_no_less_than_what_parsing_takes() -> None:
    import json
    import tracemalloc

    for text in (
        b"[" + b"0.123456789," * 10_000 + b"1]",
        b"[" + b"[]," * 10_000 + b"1]",
        b"[" + b"{}," * 10_000 + b"1]",
    ):
        tracemalloc.start()
        kept = json.loads(text.decode())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(kept) == 10_001
        assert most <= json_bytes(text)
