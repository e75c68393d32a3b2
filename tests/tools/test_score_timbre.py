"""tools/pretrain/score_timbre.py, and what fluidsynth makes of its generators."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from made_scores import FOLDER, instrument, needs_fluidsynth
from pretrain.score_instruments import DRUMS, KINDS
from pretrain.score_midi import (
    ATTACK,
    DECAY,
    FILTER_CENTS,
    FILTER_Q,
    FINE_TUNE,
    RELEASE,
    VIBRATO_CENTS,
    VIBRATO_RATE,
)
from pretrain.score_plan import Plan
from pretrain.score_render import SAMPLE_RATE, render
from pretrain.score_soundfonts import SOUNDFONTS, SOUNDFONTS_OF
from pretrain.score_timbre import varied

# Two notes of G4, that what is set is seen to stay; the second is measured.
NOTES = ((0.0, 1.9, 67, 90), (2.5, 4.5, 67, 90))


def played(program, soundfont="TimGM6mb", generators=None, key_shift=0):
    """The second of `NOTES` and what follows it, 2.5 s."""
    one = dataclasses.replace(instrument(program, *NOTES), generators=generators or {}, key_shift=key_shift)
    plan = Plan(
        "note", "note", "single", 5.0, soundfont, -3.0, {"synth.reverb.active": 0, "synth.chorus.active": 0}, [one]
    )
    return render(plan, str(FOLDER / SOUNDFONTS[soundfont]))[round(2.5 * SAMPLE_RATE) :]


def pitch_hz(waveform):
    """The partial nearest G4."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 1 << 18))
    hz = np.fft.rfftfreq(1 << 18, 1 / SAMPLE_RATE)
    near = np.flatnonzero((hz > 300) & (hz < 520))
    return hz[near[np.argmax(spectrum[near])]]


def centroid_hz(waveform):
    power = np.abs(np.fft.rfft(waveform[4800:24000] * np.hanning(19200))) ** 2
    return (power * np.fft.rfftfreq(19200, 1 / SAMPLE_RATE)).sum() / power.sum()


def resonance_db(waveform):
    """The partials from 1 to 3 kHz over those below."""
    power = np.abs(np.fft.rfft(waveform[4800:24000] * np.hanning(19200))) ** 2
    hz = np.fft.rfftfreq(19200, 1 / SAMPLE_RATE)
    return 10 * np.log10(power[(hz > 1000) & (hz < 3000)].sum() / power[hz <= 1000].sum())


def wander_cents(waveform):
    """How far the pitch goes up and down, the lowest and highest twentieth aside."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform[4800:24000], 1024)[::256]
    cents = 1200 * np.log2([pitch_hz(frame) for frame in frames])
    return np.percentile(cents, 95) - np.percentile(cents, 5)


def wander_hz(waveform):
    """How often a second the pitch goes up and down."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform[4800:28800], 1024)[::64]
    cents = 1200 * np.log2([pitch_hz(frame) for frame in frames])
    spectrum = np.abs(np.fft.rfft((cents - cents.mean()) * np.hanning(len(cents)), 4096))
    hz = np.fft.rfftfreq(4096, 64 / SAMPLE_RATE)
    return hz[np.argmax(spectrum * (hz > 2.5))]


def loudness(waveform, start, end):
    return np.sqrt(np.mean(waveform[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] ** 2))


def rise_seconds(waveform):
    """Until the first second's envelope is half its highest."""
    envelope = np.sqrt(np.convolve(waveform**2, np.ones(80) / 80, "same"))
    return np.argmax(envelope > 0.5 * envelope[:SAMPLE_RATE].max()) / SAMPLE_RATE


@needs_fluidsynth
@pytest.mark.parametrize(
    ("program", "soundfont", "generators", "measure", "low", "high"),
    [
        (25, "TimGM6mb", {FILTER_CENTS: -2400}, lambda old, new: centroid_hz(new) / centroid_hz(old), 0.5, 0.8),
        (25, "TimGM6mb", {FILTER_CENTS: 1200}, lambda old, new: centroid_hz(new) / centroid_hz(old), 1.1, 2.0),
        (40, "FluidR3", {FILTER_CENTS: -3600}, lambda old, new: centroid_hz(new) / centroid_hz(old), 0.5, 0.95),
        (25, "TimGM6mb", {FILTER_Q: 60}, lambda old, new: resonance_db(new) - resonance_db(old), 1.5, 8.0),
        (25, "TimGM6mb", {VIBRATO_CENTS: 40}, lambda old, new: wander_cents(new) - wander_cents(old), 45, 85),
        (25, "FluidR3", {VIBRATO_CENTS: 40}, lambda _, new: wander_hz(new), 7.9, 8.5),
        (25, "FluidR3", {VIBRATO_CENTS: 40, VIBRATO_RATE: -1000}, lambda _, new: wander_hz(new), 4.3, 4.9),
        (80, "TimGM6mb", {ATTACK: 7200}, lambda old, new: rise_seconds(new) - rise_seconds(old), 0.02, 0.08),
        (25, "TimGM6mb", {DECAY: -1200}, lambda old, new: loudness(new, 0.9, 1.1) / loudness(old, 0.9, 1.1), 0.1, 0.6),
        (25, "TimGM6mb", {DECAY: 1200}, lambda old, new: loudness(new, 0.9, 1.1) / loudness(old, 0.9, 1.1), 1.3, 5.0),
        (73, "FluidR3", {RELEASE: -1200}, lambda old, new: loudness(new, 2.1, 2.2) / loudness(old, 2.1, 2.2), 0.0, 0.5),
        (73, "FluidR3", {RELEASE: 1200}, lambda old, new: loudness(new, 2.1, 2.2) / loudness(old, 2.1, 2.2), 2.0, 9.0),
        (40, "TimGM6mb", {FINE_TUNE: 25}, lambda old, new: 1200 * np.log2(pitch_hz(new) / pitch_hz(old)), 23, 27),
        (40, "TimGM6mb", {FINE_TUNE: -25}, lambda old, new: 1200 * np.log2(pitch_hz(new) / pitch_hz(old)), -27, -23),
    ],
)
def test_generators_do_what_their_names_say(program, soundfont, generators, measure, low, high):
    assert low <= measure(played(program, soundfont), played(program, soundfont, generators)) <= high


@needs_fluidsynth
@pytest.mark.parametrize(
    ("program", "soundfont", "key_shift"), [(40, "TimGM6mb", -4), (40, "FluidR3", 4), (73, "FluidR3", -3)]
)
def test_other_keys_sound_at_the_same_pitch_with_other_spectra(program, soundfont, key_shift):
    old, new = played(program, soundfont), played(program, soundfont, key_shift=key_shift)
    assert abs(1200 * np.log2(pitch_hz(new) / pitch_hz(old))) < 12  # what soundfonts are out of tune by
    ratio = centroid_hz(new) / centroid_hz(old)
    assert max(ratio, 1 / ratio) > 1.1


ONE_OF_EACH_KIND = [
    instrument(program, (0.0, 0.5, kind.low, 30), (0.5, 1.0, kind.high - top, 125), decays=kind.decays)
    for kind in KINDS.values()
    for program in sorted(set(kind.programs))
    for top in (0, 2, 9)
]


@pytest.mark.parametrize(
    ("soundfont", "filters", "rates"),
    [("FluidR3", (-3600, 600), (-1100, -300)), ("TimGM6mb", (-2400, 1200), (-400, 300))],
)
def test_instruments_are_varied_within_limits(soundfont, filters, rates):
    rng = np.random.default_rng(0)
    limits = {FILTER_Q: (10, 60), VIBRATO_CENTS: (4, 40), ATTACK: (1200, 7200), DECAY: (-1200, 1200)}
    limits |= {RELEASE: (-1200, 1200), FINE_TUNE: (-25, 25), FILTER_CENTS: filters, VIBRATO_RATE: rates}
    found = {number: [] for number in limits}
    shifts, louder, same = [], [], 0
    for old in ONE_OF_EACH_KIND * 8:
        new = varied(old, soundfont, rng)
        assert dataclasses.replace(new, notes=old.notes, generators={}, key_shift=0) == old
        assert [note[:3] for note in new.notes] == [note[:3] for note in old.notes]
        assert all(20 <= note[3] <= 127 for note in new.notes)
        kind = next(kind for kind in KINDS.values() if old.program in kind.programs)
        pitches = [pitch for _, _, pitch, _ in new.notes]
        assert kind.low - 4 <= min(pitches) + new.key_shift
        assert max(pitches) + new.key_shift <= kind.high
        if kind.decays:
            assert new.generators.get(ATTACK, 0) <= 4800
            assert new.generators.get(VIBRATO_CENTS, 0) <= 10
            assert new.generators.get(DECAY, 0) >= -400
        if old.program in (46, 104):  # their labels go on after the notes
            assert new.generators.get(RELEASE, 0) >= 0
        for number, offset in new.generators.items():
            found[number].append(offset)
        shifts.append(new.key_shift)
        louder.append(new.notes[0][3] - old.notes[0][3])
        same += new == old
    for number, (low, high) in limits.items():
        assert low <= min(found[number]) <= max(found[number]) <= high
        assert max(found[number]) - min(found[number]) > 0.9 * (high - low)
        assert 0.05 < len(found[number]) / len(shifts) < 0.75, number
    assert set(shifts) == set(range(-4, 5))
    assert (min(louder), max(louder)) == (-10, 20)  # from 30, not below 20
    assert 0.05 < same / len(shifts) < 0.2


def test_pads_do_not_rise_more_slowly_and_drums_get_a_filter_only():
    rng = np.random.default_rng(0)
    for soundfont in SOUNDFONTS_OF["train"]:
        pads = [varied(instrument(89, (0.0, 0.5)), soundfont, rng) for _ in range(50)]
        assert not any(ATTACK in pad.generators for pad in pads)
        drums = [varied(instrument(DRUMS + 16, (0.0, 0.1, 38, 90)), soundfont, rng) for _ in range(50)]
        filters = [drum.generators.pop(FILTER_CENTS, 0) for drum in drums]
        assert all(drum == instrument(DRUMS + 16, (0.0, 0.1, 38, 90)) for drum in drums)
        assert 10 < np.count_nonzero(filters) < 40


def test_timbres_are_a_function_of_the_generator():
    one, other = ([varied(old, "FluidR3", np.random.default_rng(seed)) for old in ONE_OF_EACH_KIND] for seed in (1, 1))
    assert one == other
    assert one != [varied(old, "FluidR3", np.random.default_rng(2)) for old in ONE_OF_EACH_KIND]
