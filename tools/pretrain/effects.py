"""Effects that change a clip more than speed and an equalizer do (`vary.py --effects`).

Each takes a waveform, float32 [samples] at 16 kHz, and a random generator that decides the strength, and returns a
waveform. Only effects that change the tempo or cut the clip into pieces change its length.
"""

from __future__ import annotations

from collections.abc import Callable

import librosa
import numpy as np
import scipy.signal

SAMPLE_RATE = 16000
# The share of changed clips that get two effects.
TWICE_SHARE = 0.3

_FRAME, _HOP = 1024, 256
_MARGIN = 2.0


def harmonic(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keep the steady part, with the rest 6 to 30 dB softer."""
    steady, struck = _separated(waveform)
    return steady + 10.0 ** (rng.uniform(-30.0, -6.0) / 20.0) * struck


def percussive(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Keep the percussive part, with the rest 3 to 20 dB softer."""
    steady, struck = _separated(waveform)
    return struck + 10.0 ** (rng.uniform(-20.0, -3.0) / 20.0) * steady


def backwards(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Reverse the waveform."""
    return waveform[::-1].copy()


def cut_up(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut the clip into pieces of 0.2 to 3 s and reorder them, or loop a few of them."""
    length = int(rng.uniform(0.2, 3.0) * SAMPLE_RATE)
    n_pieces = max(1, len(waveform) // length)
    pieces = waveform[: n_pieces * length].reshape(n_pieces, -1) if n_pieces > 1 else waveform[np.newaxis]
    fade = min(160, pieces.shape[1] // 4)
    envelope = np.ones(pieces.shape[1], np.float32)
    envelope[:fade] = np.linspace(0.0, 1.0, fade)
    envelope[len(envelope) - fade :] = np.linspace(1.0, 0.0, fade)
    if rng.random() < 0.5:
        order = rng.permutation(n_pieces)
    else:
        order = np.repeat(rng.permutation(n_pieces), int(rng.integers(2, 9)))[:n_pieces]
    return (pieces[order] * envelope).reshape(-1)


def other_pitch(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift the pitch by 2 to 7 semitones at the same tempo."""
    steps = float(rng.uniform(2.0, 7.0)) * float(rng.choice([-1.0, 1.0]))
    return librosa.effects.pitch_shift(waveform, sr=SAMPLE_RATE, n_steps=steps, n_fft=_FRAME)


def other_tempo(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change the tempo by a factor of 0.55 to 1.8 at the same pitch."""
    rate = float(np.exp(rng.uniform(np.log(0.55), np.log(1.8))))
    return librosa.effects.time_stretch(waveform, rate=rate, n_fft=_FRAME)


def distorted(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Saturate with a drive of 6 to 30 dB."""
    peak = max(float(np.abs(waveform).max(initial=0.0)), 1e-6)
    return np.tanh(waveform / peak * 10.0 ** (rng.uniform(6.0, 30.0) / 20.0)).astype(np.float32) * peak


def reverberant(waveform: np.ndarray, rng: np.random.Generator, longest_seconds: float = 4.0) -> np.ndarray:
    """Add a room of noise that decays by 60 dB in 0.3 s or more, as loud as the clip or up to 9 dB softer."""
    seconds = float(np.exp(rng.uniform(np.log(0.3), np.log(longest_seconds))))
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    response = rng.standard_normal(len(times)) * 10.0 ** (-3.0 * times / seconds)
    room = scipy.signal.fftconvolve(waveform, response)[: len(waveform)]
    level = 10.0 ** (rng.uniform(-9.0, 0.0) / 20.0) * rms(waveform) / max(rms(room), 1e-9)
    return (waveform + level * room).astype(np.float32)


EFFECTS: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...] = (
    harmonic,
    percussive,
    backwards,
    cut_up,
    other_pitch,
    other_tempo,
    distorted,
    reverberant,
)


def changed(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply one or two random effects, all equally often.

    Args:
        waveform: float32 [samples] at 16 kHz.
        rng: Decides which effects and how strong.

    Returns:
        float32 [samples] in -1..1, of another length if the tempo changes or the clip is cut up.
    """
    chosen = rng.permutation(len(EFFECTS))[: 2 if rng.random() < TWICE_SHARE else 1]
    for number in chosen:
        waveform = np.asarray(EFFECTS[number](waveform, rng), np.float32)
    return waveform / max(1.0, float(np.abs(waveform).max(initial=0.0)))


def _separated(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Separate the steady and the percussive part (median filtering, Fitzgerald 2010)."""
    spectrum = librosa.stft(waveform, n_fft=_FRAME, hop_length=_HOP)
    parts = librosa.decompose.hpss(spectrum, kernel_size=17, margin=_MARGIN)
    steady, struck = (librosa.istft(part, n_fft=_FRAME, hop_length=_HOP, length=len(waveform)) for part in parts)
    return steady, struck


def rms(waveform: np.ndarray) -> float:
    """Compute the root mean square of a waveform [samples]."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
