"""Render a plan with fluidsynth and mix its instruments."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from keras_tagger.errors import AudioError
from pretrain.score_midi import midi_bytes
from pretrain.score_plan import Plan

SAMPLE_RATE = 16000
RENDER_RATE = 32000
# Instruments are rendered one after another; reverberation decays between them.
_GAP_SECONDS = 3.0


def render(plan: Plan, soundfont: str) -> np.ndarray:
    """Render the clip of a plan, float32 [seconds * 16000], with the peak of the plan.

    fluidsynth plays the instruments one after the other, so that their levels are those of the plan and not of the
    soundfont: a level is the RMS that a tenth of the blocks of 0.4 s exceed.

    Raises:
        AudioError: fluidsynth fails, or an instrument is silent.
    """
    instruments = [instrument for instrument in plan.instruments if instrument.notes]
    if not instruments:
        raise AudioError(f"expected notes in the excerpt of {plan.piece}. Received: none")
    apart = plan.seconds + _GAP_SECONDS
    with tempfile.TemporaryDirectory() as folder:
        score, wav = Path(folder) / "score.mid", Path(folder) / "score.wav"
        score.write_bytes(midi_bytes(instruments, apart))
        # Loading samples on demand takes a quarter of the time with a large soundfont.
        settings = {"synth.gain": 0.5, "synth.dynamic-sample-loading": 1, **plan.synth}
        command = ["fluidsynth", "-ni", "-q", "-F", str(wav), "-O", "float", "-r", str(RENDER_RATE)]
        command += [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        done = subprocess.run([*command, soundfont, str(score)], capture_output=True, text=True, check=False)
        if done.returncode or not wav.is_file():
            reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise AudioError(f"expected fluidsynth to render {plan.piece}. Received: {reason}")
        rendered, _ = soundfile.read(wav, dtype="float32", always_2d=True)
    mono = soxr.resample(rendered.mean(axis=1), RENDER_RATE, SAMPLE_RATE)
    n_samples = round(plan.seconds * SAMPLE_RATE)
    mix = np.zeros(n_samples, np.float32)
    for i, instrument in enumerate(instruments):
        start = round(i * apart * SAMPLE_RATE)
        stem = mono[start : start + n_samples]
        stem = np.pad(stem, (0, n_samples - len(stem)))
        loudness = level(stem)
        if loudness < 1e-4:
            raise AudioError(f"expected program {instrument.program} of {plan.soundfont} to sound. Received: silence")
        mix += stem * (10.0 ** (instrument.level_db / 20.0) / loudness)
    fade = round(0.02 * SAMPLE_RATE)
    mix[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return mix * np.float32(10.0 ** (plan.peak_db / 20.0) / np.abs(mix).max())


def level(waveform: np.ndarray) -> float:
    """Return the RMS that a tenth of the non-silent blocks of 0.4 s exceed; `waveform` is [samples] at 16 kHz.

    What is left after the last whole block counts only if nothing sounds before.
    """
    block = round(0.4 * SAMPLE_RATE)
    n_whole = len(waveform) // block * block
    whole, rest = waveform[:n_whole], waveform[n_whole:]
    blocks = whole.reshape(-1, block) if np.abs(whole).max(initial=0.0) > 1e-4 else rest[np.newaxis]
    rms = np.sqrt(np.mean(blocks.astype(np.float64) ** 2, axis=1))
    heard = rms[rms > 0.02 * rms.max()]
    return float(np.quantile(heard, 0.9)) if len(heard) else 0.0
