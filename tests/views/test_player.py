"""Clip documents and pages of the player; tests/browser/ has what a reader sees."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from keras_tagger.heatmap import Heatmap
from keras_tagger.views import player
from keras_tagger.views.clip_documents import explained_clip, heatmap_clip, weights_sha256
from keras_tagger.views.player import clip_document, encode_audio, encode_values, page, query_map, regular_columns
from tiny import RATE, noise, tone

FOLDER = Path(player.__file__).parent


def decoded(array: dict[str, Any]) -> np.ndarray:
    """The numbers of an encoded array."""
    codes = np.frombuffer(base64.b64decode(array["data"]), np.dtype(array["dtype"]).newbyteorder("<"))
    low, high = array["range"]
    return (low + codes / np.iinfo(array["dtype"]).max * (high - low)).reshape(array["shape"])


def sound_of(url: str) -> tuple[np.ndarray, int]:
    """The audio of a data: address."""
    kind, _, content = url.partition(";base64,")
    assert kind == "data:audio/ogg"
    return soundfile.read(io.BytesIO(base64.b64decode(content)), dtype="float32")


def test_the_bundle_is_built_from_the_sources() -> None:
    """`npm ci && npm run build` writes it; where npm has installed esbuild, build it again and compare."""
    names = [f"src/{path.name}" for path in sorted((FOLDER / "src").iterdir())]
    names += ["assets/theme.css", "build.mjs", "package-lock.json"]
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0".encode() + (FOLDER / name).read_bytes() + b"\0")
    bundle = FOLDER / "assets/player.js"
    assert f"Sources: {digest.hexdigest()} " in bundle.read_text("utf-8").splitlines()[0]
    if shutil.which("node") and (FOLDER / "node_modules/esbuild").is_dir():
        before = bundle.read_bytes()
        subprocess.run(["node", "build.mjs"], cwd=FOLDER, check=True)
        assert bundle.read_bytes() == before


@pytest.mark.parametrize(("rate", "played"), [(16000, 16000), (22050, 24000), (44100, 48000)])
def test_audio_keeps_its_length_and_has_no_delay(rate: int, played: int) -> None:
    clicks = np.zeros(3 * rate, np.float32)
    for second in (0.5, 1.0, 2.5):
        clicks[int(second * rate) : int(second * rate) + rate // 50] = 0.8
    content, kind = encode_audio(clicks, rate)
    samples, found_rate = soundfile.read(io.BytesIO(content))
    assert (kind, found_rate) == ("audio/ogg", played)
    assert len(samples) / played == pytest.approx(3.0, abs=0.001)
    loud = np.flatnonzero(np.abs(samples) > 0.3) / played
    starts = loud[np.concatenate([[True], np.diff(loud) > 0.1])]
    np.testing.assert_allclose(starts, [0.5, 1.0, 2.5], atol=0.005)


def test_a_minute_of_audio_is_encoded() -> None:
    """Longer than libsndfile takes at once; about 30 kbit/s."""
    content, _ = encode_audio(noise(60 * RATE), RATE)
    assert len(content) < 400_000
    assert soundfile.info(io.BytesIO(content)).duration == pytest.approx(60, abs=0.001)


def test_values_come_back_within_a_step() -> None:
    values = np.random.default_rng(0).normal(0, 3, (4, 50))
    for dtype, steps in (("uint8", 255), ("uint16", 65535)):
        np.testing.assert_allclose(decoded(encode_values(values, dtype=dtype)), values, atol=np.ptp(values) / steps)
    clipped = decoded(encode_values(np.array([np.nan, -5.0, 0.5, np.inf]), low=0.0, high=1.0))
    np.testing.assert_allclose(clipped, [0, 0, 0.5, 1], atol=1 / 255)


def test_columns_are_made_regular() -> None:
    edges = np.array([0.0, 3.0, 6.0, 7.0])
    np.testing.assert_array_equal(regular_columns(np.array([[1, 2, 3]]), edges, 1.0), [[1, 1, 1, 2, 2, 2, 3]])
    centred = Heatmap(np.arange(5.0)[None, None], ("a",), np.arange(5) * 0.1, "grad_cam", np.array([100.0]))
    document = centred.player_map()
    assert document["first"] == pytest.approx(-0.05)
    np.testing.assert_allclose(decoded(document["values"])[0, :, 0], np.arange(5), atol=0.02)


def test_hostile_names_cannot_leave_their_place() -> None:
    name = "</script><script>alert(1)</script>\u202e\udce9.mp3"
    document = clip_document(name, noise(RATE), RATE, token_seconds=0.5, tags=[{"name": name, "score": float("nan")}])
    text = page([document], name)
    assert text.count("<script") == 2
    assert "\u202e" not in text
    text.encode("utf-8")
    inside = re.search(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    assert inside
    found = json.loads(inside[1], parse_constant=lambda constant: pytest.fail(constant))
    assert found["tags"] == [{"name": found["name"]}]
    assert not re.search(r"https?://(?!www\.w3\.org)|@import|url\(|(src|href)=", text)


def test_a_model_says_what_it_hears(music: Any) -> None:
    """Two and a half windows: maps are joined as `Tagger` joins them."""
    clip = (tone(300.0, 2.5, seed=0), RATE)
    gradients = music.explain(clip, "gradient_input", ["low", "high"])
    document = explained_clip(music, clip, "tone", [gradients], solo=True)
    maps = {one["id"]: one for one in document["maps"]}
    assert list(maps) == ["gradient_input", "contributions", "taggram", "attention", "query"]
    step = music.model.hop_seconds
    tokens = -(-len(clip[0]) // music.model.token_samples)
    assert document["token_seconds"] == step
    assert [tag["name"] for tag in document["tags"]] == list(music.tags)
    np.testing.assert_allclose([tag["score"] for tag in document["tags"]], music.scores(clip), atol=1e-5)

    contributions = music.contributions(clip)
    np.testing.assert_allclose(decoded(maps["contributions"]["values"]), contributions.values, atol=0.005)
    attention = music.attention(clip)
    expected = [
        np.concatenate([one.weights[layer, head, 0, 1:][-one.n_new :] for one in attention.windows])
        for layer in range(2)
        for head in range(2)
    ]
    found = decoded(maps["attention"]["values"])
    assert found.shape == (4, tokens)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert maps["attention"]["uniform"] == 1 / attention.windows[0].weights.shape[3]

    # Token 5 belongs to the first window, the last token to the last one.
    query, starts = decoded(maps["query"]["values"]), maps["query"]["starts"]
    for token, window in ((5, attention.windows[0]), (tokens - 1, attention.windows[-1])):
        inside = token - starts[token]
        np.testing.assert_allclose(query[:, token], window.weights[:, :, 1 + inside, 1:].mean(axis=1), atol=0.002)
        # The last window ends on the last sample, so it begins between two columns.
        assert starts[token] * step == pytest.approx(window.start_seconds, abs=step / 2)

    taggram = decoded(maps["taggram"]["values"])
    at = int(0.5 / maps["taggram"]["seconds"])
    np.testing.assert_allclose(taggram[:, at], music.taggram(clip).values[:, 0], atol=0.005)
    image = decoded(maps["gradient_input"]["values"])
    bound = maps["gradient_input"]["values"]["range"][1]
    clipped = np.clip(np.swapaxes(gradients.values, 1, 2), -bound, bound)
    # The frames of the last window lie between those of the grid, on which the nearest are drawn.
    whole = 2 * music.model.window_samples // music.model.spectrogram.hop_length
    np.testing.assert_allclose(image[:, :whole], clipped[:, :whole], atol=2 * bound / 255)
    drawn, there = image[:, whole:].mean(axis=1), clipped[:, whole:].mean(axis=1)
    assert np.corrcoef(drawn.ravel(), there.ravel())[0, 1] > 0.95
    parts = document["solo"]["gradient_input"]["low"]
    both = sound_of(parts["kept"])[0] + sound_of(parts["removed"])[0]
    assert np.corrcoef(both, clip[0])[0, 1] > 0.9
    # What is played is what was explained.
    assert len(sound_of(document["audio"]["url"])[0]) == len(clip[0])


def test_long_queries_are_left_out() -> None:
    assert query_map(np.zeros((4, 8000, 80))) is None


def test_a_map_alone_has_a_page() -> None:
    heat = Heatmap(np.ones((2, 10)), ("<b>", "c"), np.arange(10) * 0.1 + 0.05, "made", scores=[0.9, 0.1])
    document = heatmap_clip(heat, (noise(RATE), RATE), "Tom & Jerry")
    assert document["tags"] == [
        {"name": "<b>", "score": pytest.approx(0.9)},
        {"name": "c", "score": pytest.approx(0.1)},
    ]
    assert document["maps"][0]["rows"] == ["<b>", "c"]
    assert document["seconds"] == 1.0


def test_the_checksum_is_that_of_the_file() -> None:
    registry = json.loads((Path(player.__file__).parents[2] / "weights/registry.json").read_text("utf-8"))
    assert weights_sha256("compact") == registry["compact"]["sha256"]
