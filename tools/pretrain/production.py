"""What production, distribution and performance do to people's music (`vary.py --production`).

Each function takes a waveform, float32 [samples] at 16 kHz, and a random generator that decides the strength, and
returns a waveform of the same length, in which everything is heard when it was before.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import av
import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.signal

from pretrain.effects import SAMPLE_RATE, reverberant, rms

# Stereo files of 64 to 128 kb/s have about this for one channel and the band below 8 kHz.
MP3_KBPS = (16, 24, 32, 40, 48)
AAC_KBPS = (16, 20, 24, 32, 40)
# What kinds of steps a clip goes through: each with its probability.
LOUD_SHARE, PLACE_SHARE, CODED_SHARE = 0.6, 0.45, 0.5
_BLOCK = 160  # 10 ms


def produced(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Compress and limit the clip, play it on some medium or stage, and code it: each perhaps."""
    if rng.random() < PLACE_SHARE and rng.random() < 0.5:
        waveform = live(waveform, rng)
    if rng.random() < LOUD_SHARE:
        waveform = loud(waveform, rng)
    if rng.random() < PLACE_SHARE:
        waveform = MEDIA[int(rng.integers(len(MEDIA)))](waveform, rng)
    if rng.random() < CODED_SHARE:
        waveform = coded(waveform, rng)
    return waveform.astype(np.float32)


def loud(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Compress and limit until the RMS is 6 to 16 dB below full scale, as the "loudness war" does."""
    ratio, attack, release = rng.uniform(1.5, 6.0), 0.01, float(rng.uniform(0.05, 0.4))
    waveform = waveform / max(np.abs(waveform).max(initial=0.0), 1e-6)
    n_blocks = -(-len(waveform) // _BLOCK)
    blocks = np.pad(waveform, (0, n_blocks * _BLOCK - len(waveform))).reshape(n_blocks, _BLOCK)
    levels = 20.0 * np.log10(np.sqrt(np.mean(blocks**2, axis=1)) + 1e-5)
    over = np.maximum(levels - (np.quantile(levels, 0.5) - rng.uniform(0.0, 12.0)), 0.0)
    gain_db = -_followed(over, attack, release) * (1.0 - 1.0 / ratio)
    gain = np.interp(np.arange(len(waveform)), np.arange(n_blocks) * _BLOCK + _BLOCK / 2, 10.0 ** (gain_db / 20.0))
    waveform = waveform * gain
    waveform *= 10.0 ** (rng.uniform(-16.0, -6.0) / 20.0) / max(rms(waveform), 1e-6)
    return limited(waveform, float(rng.uniform(0.9, 1.0)))


def limited(waveform: np.ndarray, ceiling: float) -> np.ndarray:
    """Turn down, from 2 ms before, what exceeds a ceiling."""
    window = SAMPLE_RATE // 250
    peaks = scipy.ndimage.maximum_filter1d(np.abs(waveform), 2 * window + 1)
    gain = np.minimum(1.0, ceiling / np.maximum(peaks, 1e-9))
    gain = scipy.ndimage.uniform_filter1d(scipy.ndimage.minimum_filter1d(gain, window), window)
    return np.clip(waveform * gain, -ceiling, ceiling).astype(np.float32)


def _followed(levels: np.ndarray, attack: float, release: float) -> np.ndarray:
    """Follow levels of blocks, rising with one time constant in seconds and falling with another."""
    rise, fall = (float(np.exp(-_BLOCK / SAMPLE_RATE / seconds)) for seconds in (attack, release))
    followed, value = np.empty_like(levels), 0.0
    for index, level in enumerate(levels):
        keep = rise if level > value else fall
        value = keep * value + (1.0 - keep) * level
        followed[index] = value
    return followed


def coded(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Encode as MP3 or AAC at a low bit rate, and decode again."""
    codec, kbps = ("libmp3lame", MP3_KBPS) if rng.random() < 0.6 else ("aac", AAC_KBPS)
    return round_trip(waveform, codec, 1000 * int(rng.choice(kbps)))


def round_trip(waveform: np.ndarray, codec: str, bits_per_second: int) -> np.ndarray:
    """Encode and decode a waveform with a codec of FFmpeg, aligned with the original.

    Args:
        waveform: float32 [samples] at 16 kHz; its peak is kept.
        codec: "libmp3lame" or "aac".
        bits_per_second: The bit rate.

    Returns:
        float32 of the same shape.
    """
    peak = max(float(np.abs(waveform).max(initial=0.0)), 1e-6)
    file = io.BytesIO()
    with av.open(file, "w", format="mp3" if codec == "libmp3lame" else "adts") as container:
        stream = container.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = bits_per_second
        # Zeros at both ends: the first and last samples are cut off or spoilt.
        padded = np.pad(waveform / peak * 0.9, SAMPLE_RATE // 4).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(padded[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        resampler = av.AudioResampler(stream.format, "mono", SAMPLE_RATE, frame_size=stream.frame_size or 1024)
        for part in (*resampler.resample(frame), *resampler.resample(None), None):
            container.mux(stream.encode(part))
    file.seek(0)
    with av.open(file) as container:
        decoded = [frame.to_ndarray().astype(np.float32).mean(axis=0) for frame in container.decode(audio=0)]
    result = np.concatenate(decoded)
    delay = _delay(padded, result)
    result = result[max(delay, 0) :] if delay >= 0 else np.pad(result, (-delay, 0))
    result = np.pad(result, (0, max(len(padded) - len(result), 0)))[SAMPLE_RATE // 4 :][: len(waveform)]
    return (result / 0.9 * peak).astype(np.float32)


def _delay(original: np.ndarray, result: np.ndarray, most: int = 4000) -> int:
    """Return by how many samples `result` is later than `original`."""
    length = min(len(original), len(result), 4 * SAMPLE_RATE)
    spectrum = np.fft.rfft(result[:length], 2 * length) * np.conj(np.fft.rfft(original[:length], 2 * length))
    correlation = np.fft.irfft(spectrum)
    lags = np.concatenate([correlation[-most:], correlation[:most]])
    return int(np.argmax(lags)) - most


def band_limited(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Remove what is above 3.4 to 7 kHz and perhaps below 60 to 250 Hz, like a file of low rate or a small speaker."""
    waveform = _passed(waveform, "lowpass", float(np.exp(rng.uniform(np.log(3400.0), np.log(7000.0)))))
    return _passed(waveform, "highpass", float(rng.uniform(60.0, 250.0))) if rng.random() < 0.4 else waveform


def radio(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Limit the band to that of AM radio or a telephone, compress, and add hiss 25 to 45 dB softer."""
    waveform = _passed(waveform, "highpass", float(rng.uniform(100.0, 300.0)))
    waveform = loud(_passed(waveform, "lowpass", float(rng.uniform(3000.0, 5000.0))), rng)
    return waveform + _noise(len(waveform), 0.0, rng) * rms(waveform) * 10.0 ** (-rng.uniform(25.0, 45.0) / 20.0)


def vinyl(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add the wow, crackle, hiss and rumble of an old record, and often its narrow band."""
    times = np.arange(len(waveform))
    wow = 0.002 * rng.uniform(0.0, 1.0) * SAMPLE_RATE / (2.0 * np.pi * 0.55)
    waveform = np.interp(times + wow * np.sin(2.0 * np.pi * 0.55 * times / SAMPLE_RATE), times, waveform)
    if rng.random() < 0.5:
        waveform = _passed(_passed(waveform, "lowpass", float(rng.uniform(3500.0, 6500.0))), "highpass", 120.0)
    loudness = max(rms(waveform), 1e-6)
    clicks = np.zeros(len(waveform))
    where = rng.integers(0, len(waveform), int(rng.uniform(2.0, 40.0) * len(waveform) / SAMPLE_RATE))
    clicks[where] = rng.exponential(1.0, len(where)) * rng.choice([-1.0, 1.0], len(where))
    clicks = scipy.signal.lfilter([1.0], [1.0, -0.6], clicks)
    waveform = waveform + clicks * loudness * 10.0 ** (rng.uniform(-14.0, 2.0) / 20.0)
    hiss, rumble = _noise(len(waveform), 0.0, rng), _passed(_noise(len(waveform), 1.0, rng), "lowpass", 90.0)
    waveform = waveform + hiss * loudness * 10.0 ** (-rng.uniform(24.0, 45.0) / 20.0)
    return waveform + rumble * loudness * 10.0 ** (-rng.uniform(10.0, 30.0) / 20.0)


def live(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Play the clip in a hall with the noise of an audience, 15 to 40 dB softer."""
    loudness = max(rms(waveform), 1e-6)
    waveform = reverberant(waveform, rng, 2.5)
    swells = 1.0 + 0.6 * np.sin(2.0 * np.pi * rng.uniform(0.05, 0.4) * np.arange(len(waveform)) / SAMPLE_RATE)
    crowd = _passed(_noise(len(waveform), 0.5, rng), "highpass", 200.0) * swells
    waveform = waveform + crowd * loudness * 10.0 ** (-rng.uniform(15.0, 40.0) / 20.0)
    return waveform * loudness / max(rms(waveform), 1e-6)


MEDIA: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (band_limited, radio, vinyl)


def _passed(waveform: np.ndarray, kind: str, hz: float) -> np.ndarray:
    return scipy.signal.sosfilt(scipy.signal.butter(4, hz, kind, fs=SAMPLE_RATE, output="sos"), waveform)


def _noise(length: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise of RMS 1 whose amplitude falls by the frequency to the power `slope`."""
    padded = scipy.fft.next_fast_len(length, real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(padded))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** slope
    noise = scipy.fft.irfft(spectrum, padded)[:length]
    return noise / max(float(np.sqrt(np.mean(noise**2))), 1e-12)
