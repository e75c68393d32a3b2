"""The clip document: what the player shows, as plain JSON.

Everything here takes arrays, so that data classes, pages and TensorBoard can all use it. docs/player.md describes the
format.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.files import printable
from keras_tagger.views.pages import data_uri

VERSION = 1
PEAK_SECONDS = 0.01
AUDIO_TYPE = "audio/ogg"
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
# A page of five minutes stays below 12 MB with maps over frequency of three tags.
_SPECTROGRAM_COLUMNS = 20_000
_IMAGE_CELLS = 3_000_000
_QUERY_CELLS = 1_000_000


def clip_document(
    name: str,
    waveform: npt.NDArray[Any],
    rate: int,
    *,
    token_seconds: float,
    first_seconds: float = 0.0,
    tags: Sequence[Mapping[str, Any]] = (),
    maps: Sequence[Mapping[str, Any]] = (),
    spectrogram: tuple[npt.NDArray[Any], npt.NDArray[Any], float] | None = None,
    model: Mapping[str, Any] | None = None,
    audio_url: str | None = "",
    solo: Mapping[str, Mapping[str, Mapping[str, str]]] | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Describe a clip and its maps for the player, as plain JSON.

    Args:
        name: The title, such as a file name.
        waveform: Mono audio, float `[samples]` in -1..1.
        rate: Sample rate in Hz.
        token_seconds: Time from one column of the maps to the next, unless a map has its own.
        first_seconds: Where the first column begins.
        tags: One mapping per tag with `name` and, if known, `score`, `threshold`, `heard` and `present`.
        maps: What `rows_map`, `image_map`, `attention_map` and `query_map` return.
        spectrogram: Values `[frames, bands]`, the bands' centres in Hz, and the time from one frame to the next.
        model: What the page states about the model: `name`, `sha256`, `version` and `settings`.
        audio_url: Where the audio is; "" to put it into the document, None for no audio.
        solo: URLs of audio by map, row and part ("kept", "removed"), for maps over frequency.
        warnings: Sentences about the audio.

    Example:
        >>> maps = [rows_map("contributions", ["guitar"], values, "what it means")]
        >>> document = clip_document("song.mp3", waveform, 16000, token_seconds=0.128, maps=maps)
    """
    if audio_url == "":
        audio_url = audio_uri(waveform, rate)
    document: dict[str, Any] = {
        "version": VERSION,
        "name": printable(name),
        "seconds": len(waveform) / rate,
        "model": dict(model or {}),
        "audio": None if audio_url is None else {"url": audio_url, "type": AUDIO_TYPE},
        "peaks": _peaks(waveform, rate),
        "token_seconds": float(token_seconds),
        "first_seconds": float(first_seconds),
        "tags": [_tag(tag) for tag in tags],
        "maps": [dict(one) for one in maps],
        "warnings": list(warnings),
    }
    if spectrogram is not None:
        values, hz, seconds = spectrogram
        values, seconds = _pooled(np.asarray(values, np.float32), 0, seconds, _SPECTROGRAM_COLUMNS)
        low, high = np.quantile(values, 0.01), values.max()
        document["spectrogram"] = {
            "values": encode_values(values, low=float(low), high=float(high)),
            "hz": [round(float(one), 1) for one in hz],
            "seconds": float(seconds),
        }
    if solo:
        document["solo"] = {
            map_id: {printable(row): dict(parts) for row, parts in rows.items()} for map_id, rows in solo.items()
        }
    return document


def encode_audio(waveform: npt.NDArray[Any], rate: int) -> tuple[bytes, str]:
    """Encode audio as Opus in Ogg, about 30 kbit/s, without a delay.

    Opus has few sample rates; audio of any other is resampled to the next higher one.

    Args:
        waveform: Mono audio, float `[samples]`; samples beyond full scale are clipped.
        rate: Sample rate in Hz.

    Returns:
        The bytes of the file and its media type.

    Example:
        >>> content, kind = encode_audio(waveform, 16000)
    """
    import soundfile

    samples = np.clip(np.asarray(waveform, np.float32), -1.0, 1.0)
    if rate not in _OPUS_RATES:
        import soxr

        target = min((one for one in _OPUS_RATES if one > rate), default=_OPUS_RATES[-1])
        samples, rate = np.clip(soxr.resample(samples, rate, target), -1.0, 1.0), target
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", samplerate=rate, channels=1, format="OGG", subtype="OPUS") as file:
        # libsndfile overflows its stack when it gets minutes of audio at once.
        for start in range(0, len(samples), rate):
            file.write(samples[start : start + rate])
    return buffer.getvalue(), AUDIO_TYPE


def audio_uri(waveform: npt.NDArray[Any], rate: int) -> str:
    """Return audio, encoded by `encode_audio`, as a `data:` address.

    Args:
        waveform: Mono audio, float `[samples]`.
        rate: Sample rate in Hz.
    """
    content, kind = encode_audio(waveform, rate)
    return data_uri(kind, content)


def encode_values(
    values: npt.NDArray[Any], low: float | None = None, high: float | None = None, dtype: str = "uint8"
) -> dict[str, Any]:
    """Encode numbers as unsigned integers with their range, which take a quarter of the space or less.

    Args:
        values: Numbers of any shape; those that are not finite count as the lowest.
        low: The value of 0; None for the smallest.
        high: The value of the largest integer; None for the largest. Values beyond are clipped.
        dtype: "uint8" or "uint16".

    Returns:
        `shape`, `dtype`, `range` and the base64 of the little-endian bytes as `data`.
    """
    array = np.asarray(values, np.float32)
    finite = array[np.isfinite(array)]
    low = float(finite.min()) if low is None and finite.size else float(low or 0.0)
    high = float(finite.max()) if high is None and finite.size else float(high or 0.0)
    steps = np.iinfo(dtype).max
    scaled = (np.nan_to_num(array, nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1.0)
    integers = np.rint(np.clip(scaled, 0.0, 1.0) * steps).astype(np.dtype(dtype).newbyteorder("<"))
    return {"shape": list(array.shape), "dtype": dtype, "range": [low, high], "data": _base64(integers)}


def rows_map(
    map_id: str,
    rows: Sequence[str],
    values: npt.NDArray[Any],
    about: str,
    *,
    method: str = "",
    seconds: float | None = None,
    first: float | None = None,
    high: float | None = None,
) -> dict[str, Any]:
    """Describe a map over time with a row per tag.

    Args:
        map_id: Its name, unique in the document.
        rows: The tags.
        values: float `[rows, columns]`.
        about: One sentence on what the values mean.
        method: The name shown; the `map_id` by default.
        seconds: Time from one column to the next; None for the document's.
        first: Where the first column begins; None for the document's.
        high: The top of the colour scale; None for the largest value.
    """
    low = min(float(np.nanmin(values, initial=0.0)), 0.0)
    document = _map(map_id, "rows", about, method, seconds, first)
    return document | {"rows": [printable(row) for row in rows], "values": encode_values(values, low=low, high=high)}


def image_map(
    map_id: str,
    rows: Sequence[str],
    values: npt.NDArray[Any],
    about: str,
    *,
    seconds: float,
    method: str = "",
    first: float = 0.0,
) -> dict[str, Any]:
    """Describe a map over time and frequency with a picture per tag, which lies over the spectrogram.

    Args:
        map_id: Its name, unique in the document.
        rows: The tags.
        values: float `[rows, frames, bands]`, on the bands of the spectrogram.
        about: One sentence on what the values mean.
        seconds: Time from one frame to the next.
        method: The name shown; the `map_id` by default.
        first: Where the first frame begins.
    """
    array = np.asarray(values, np.float32)
    columns = max(_IMAGE_CELLS // max(array.shape[0] * array.shape[2], 1), 1)
    array, seconds = _pooled(array, 1, seconds, columns)
    # A few cells may be so large that all others would look alike.
    finite = np.abs(array[np.isfinite(array)])
    high = float(np.quantile(finite, 0.995)) if finite.size else 1.0
    low = -high if (array < 0).any() else 0.0
    document = _map(map_id, "image", about, method, seconds, first)
    return document | {
        "rows": [printable(row) for row in rows],
        "values": encode_values(array, low=low, high=high or 1.0),
    }


def attention_map(
    values: npt.NDArray[Any],
    layers: int,
    n_keys: int,
    about: str = "How much [CLS], from which the tags are read, attends to each moment; uniform means to all alike.",
    *,
    map_id: str = "attention",
    seconds: float | None = None,
    first: float | None = None,
) -> dict[str, Any]:
    """Describe the attention of [CLS] in every layer and head.

    Args:
        values: The [CLS] rows without [CLS] itself as a key, float `[layers * heads, tokens]`, layer by layer.
        layers: Number of layers.
        n_keys: Number of keys that a query attends to, with [CLS]; 1 / n_keys is uniform attention.
        about: One sentence on what the values mean.
        map_id: Its name, unique in the document.
        seconds: Time from one column to the next; None for the document's.
        first: Where the first column begins; None for the document's.
    """
    document = _map(map_id, "heads", about, "attention of [CLS]", seconds, first)
    return document | {
        "layers": layers,
        "heads": len(values) // layers,
        "uniform": 1.0 / n_keys,
        "values": encode_values(values, low=0.0, dtype="uint16"),
    }


def query_map(
    values: npt.NDArray[Any],
    starts: npt.NDArray[Any] | None = None,
    about: str = "Where the token of the chosen moment looks, as the mean over the heads of a layer.",
    *,
    uniform: float | None = None,
    seconds: float | None = None,
    first: float | None = None,
) -> dict[str, Any] | None:
    """Describe where each token looks, or return None if that is too much for a document.

    Args:
        values: Attention, mean over heads, float `[layers, T, K]`: of each of T tokens to K keys.
        starts: Index of the first key of each token, int `[T]`; None if the keys are all tokens.
        about: One sentence on what the values mean.
        uniform: The weight of uniform attention; None for 1 / (K + 1).
        seconds: Time from one column to the next; None for the document's.
        first: Where the first column begins; None for the document's.
    """
    if values.size > _QUERY_CELLS:
        return None
    document = _map("query", "query", about, "where this moment looks", seconds, first)
    if starts is not None:
        document["starts"] = [int(start) for start in starts]
    document["uniform"] = 1.0 / (values.shape[2] + 1) if uniform is None else uniform
    # Few weights are large; the scale of the player ends at 8 times uniform.
    high = min(float(values.max()), 16 * document["uniform"])
    return document | {"layers": len(values), "values": encode_values(values, low=0.0, high=high)}


def regular_columns(values: npt.NDArray[Any], edges: npt.NDArray[Any], step: float) -> npt.NDArray[Any]:
    """Return a map on columns of equal length from its beginning on: each takes the value at its centre.

    Args:
        values: float `[..., T]`.
        edges: Where the columns begin and end in seconds, `[T + 1]`, increasing.
        step: Length of a new column in seconds.
    """
    count = max(math.ceil((edges[-1] - edges[0]) / step - 0.01), 1)
    index = np.searchsorted(edges, edges[0] + (np.arange(count) + 0.5) * step, side="right") - 1
    return values[..., np.clip(index, 0, values.shape[-1] - 1)]


def _map(map_id: str, kind: str, about: str, method: str, seconds: float | None, first: float | None) -> dict[str, Any]:
    document: dict[str, Any] = {"id": map_id, "kind": kind, "method": method or map_id, "about": about}
    if seconds is not None:
        document["seconds"] = float(seconds)
    if first is not None:
        document["first"] = float(first)
    return document


def _tag(tag: Mapping[str, Any]) -> dict[str, Any]:
    # JSON has no NaN.
    numbers = {key: tag[key] for key in ("score", "threshold") if tag.get(key) is not None}
    finite = {key: float(value) for key, value in numbers.items() if math.isfinite(value)}
    flags = {key: bool(tag[key]) for key in ("heard", "present") if tag.get(key) is not None}
    return {"name": printable(str(tag["name"]))} | finite | flags


def _peaks(waveform: npt.NDArray[Any], rate: int) -> dict[str, Any]:
    size = max(round(PEAK_SECONDS * rate), 1)
    samples = np.clip(np.asarray(waveform, np.float32), -1.0, 1.0)
    blocks = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
    low, high = (np.rint(peaks * 127).astype(np.int8) for peaks in (blocks.min(axis=1), blocks.max(axis=1)))
    return {"seconds": size / rate, "low": _base64(low), "high": _base64(high)}


def _pooled(values: npt.NDArray[Any], axis: int, seconds: float, most: int) -> tuple[npt.NDArray[Any], float]:
    """Average neighbouring columns until there are at most `most`, and return the new time between them."""
    factor = math.ceil(values.shape[axis] / most)
    if factor <= 1:
        return values, seconds
    starts = np.arange(0, values.shape[axis], factor)
    counts = np.diff(np.append(starts, values.shape[axis]))
    shape = [1] * values.ndim
    shape[axis] = -1
    return np.add.reduceat(values, starts, axis=axis) / counts.reshape(shape), seconds * factor


def _base64(array: npt.NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
