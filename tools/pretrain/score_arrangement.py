"""Choose an excerpt of a piece, and assign its notes to instruments."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pretrain.score_instruments import Kind, Line


def excerpt(
    parts: Sequence[Sequence[Sequence[float]]], seconds: float, rng: np.random.Generator
) -> tuple[list[Line], float]:
    """Choose an excerpt and a tempo; return lines of (start, end, pitch) in seconds, and the length of a beat.

    Old music is written in long notes, so the tempo depends on the notes: half of them follow each other within 0.14
    to 0.75 s. A piece that is too short is repeated.
    """
    steps = np.concatenate([np.diff(np.unique([note[0] for note in part])) for part in parts] or [np.ones(1)])
    step = float(np.median(steps)) if len(steps) else 1.0
    beat = 0.6 * math.exp(rng.uniform(math.log(0.75), math.log(1.35)))
    scale = beat  # seconds of a quarter note
    while step * scale > 0.75:
        scale /= 2
    while step * scale < 0.14:
        scale *= 2
    total = math.ceil(max(note[0] + note[1] for part in parts for note in part))
    wanted = seconds / scale
    first = float(rng.integers(0, int(total - wanted) + 1)) if total > wanted else 0.0
    lines = []
    for part in parts:
        line: Line = []
        for repeat in range(math.ceil((first + wanted) / total)):
            for onset, duration, pitch in part:
                start = (onset + repeat * total - first) * scale
                end = start + duration * scale
                if end > 0.2 and start < seconds - 0.05:
                    line.append((max(start, 0.0), min(end, seconds), int(pitch)))
        lines.append(line)
    return lines, beat


def arrange(
    lines: list[Line], kinds: Sequence[Kind], beat: float, seconds: float, rng: np.random.Generator
) -> list[Line]:
    """Give every instrument a part of the piece, or an accompaniment if there are too few parts.

    Parts that are left over go to instruments that can play chords, or are dropped.
    """
    if not kinds:
        return []
    scores: list[Line] = [[] for _ in kinds]
    order = list(rng.permutation(len(lines)))
    if len(kinds) == 1 and kinds[0].melodic and lines:
        # High instruments get the melody, low ones the bass.
        order = [0 if kinds[0].low > 44 else len(lines) - 1]
    players = list(rng.permutation(len(kinds)))
    for i in players:
        if order:
            scores[i] += fit(lines[order.pop()], kinds[i])
        else:
            scores[i] += fit(accompaniment(lines, kinds[i], beat, seconds, rng), kinds[i])
    for i in order:
        able = [j for j in players if not kinds[j].melodic]
        if able and (len(kinds) == 1 or rng.random() < 0.6):
            j = int(rng.choice(able))
            scores[j] += fit(lines[i], kinds[j])
    if len(lines) == 1 and len(kinds) == 1 and not kinds[0].melodic and rng.random() < 0.6:
        scores[0] += fit(accompaniment(lines, kinds[0], beat, seconds, rng), kinds[0])
    return scores


def fit(line: Line, kind: Kind) -> Line:
    """Move a line by octaves into an instrument's range, and then single notes that are still outside."""
    if not line:
        return []
    middle = float(np.median([pitch for *_, pitch in line]))
    octaves = 0
    while middle + 12 * octaves < kind.low + 3:
        octaves += 1
    while middle + 12 * octaves > kind.high - 3:
        octaves -= 1
    fitted = []
    for start, end, pitch in line:
        moved = pitch + 12 * octaves
        while moved < kind.low:
            moved += 12
        while moved > kind.high:
            moved -= 12
        fitted.append((start, end, moved))
    return fitted


def accompaniment(lines: list[Line], kind: Kind, beat: float, seconds: float, rng: np.random.Generator) -> Line:
    """Make an accompaniment: for every two beats the triad that fits best, held, broken or as its root."""
    style = str(rng.choice(["roots", "broken"] if kind.melodic else ["held", "beats", "broken"]))
    notes = [note for line in lines for note in line]
    step = 2 * beat
    played: Line = []
    for i in range(math.ceil(seconds / step)):
        start, end = i * step, min((i + 1) * step, seconds)
        weights = np.zeros(12)
        for note_start, note_end, pitch in notes:
            weights[pitch % 12] += max(0.0, min(note_end, end) - max(note_start, start))
        if not weights.any():
            continue
        triads = [(root, third) for root in range(12) for third in (3, 4)]
        fits = [1.2 * weights[root] + weights[(root + third) % 12] + weights[(root + 7) % 12] for root, third in triads]
        root, third = triads[int(np.argmax(fits))]
        chord = [48 + root, 48 + root + third, 48 + root + 7]
        if style == "held":
            played += [(start, end, pitch) for pitch in chord]
        elif style == "roots":
            played += [(start, start + 0.9 * (end - start), chord[0])]
        elif style == "beats":
            for hit in (start, start + beat):
                played += [(hit, min(hit + 0.6 * beat, seconds), pitch) for pitch in chord if hit < seconds - 0.1]
        else:
            for j, pitch in enumerate([chord[0], chord[1], chord[2], chord[1]]):
                hit = start + j * beat / 2
                if hit < seconds - 0.1:
                    played.append((hit, min(hit + beat / 2, seconds), pitch))
    return played


def take_turns(scores: list[Line], seconds: float, rng: np.random.Generator) -> list[Line]:
    """Cut the clip into phrases of 0.5 to 8 s for one or sometimes two instruments; one may play throughout."""
    free = int(rng.integers(len(scores))) if len(scores) > 2 and rng.random() < 0.3 else None
    players = [i for i in range(len(scores)) if i != free]
    kept: list[Line] = [list(score) if i == free else [] for i, score in enumerate(scores)]
    short = rng.random() < 0.6
    start, before = 0.0, -1
    while start < seconds:
        length = float(rng.uniform(0.5, 3.0) if short else rng.uniform(2.0, 8.0))
        turn = int(rng.choice([i for i in players if i != before] or players))
        playing = {turn}
        if rng.random() < 0.12:
            playing.add(int(rng.choice(players)))
        for i in playing:
            kept[i] += within(scores[i], start, min(start + length, seconds))
        start += length + (float(rng.uniform(0.3, 1.0)) if rng.random() < 0.15 else 0.0)
        before = turn
    return kept


def with_entries(scores: list[Line], seconds: float, rng: np.random.Generator) -> list[Line]:
    """Let some instruments, but not all, enter later, end earlier or rest for a while."""
    kept = []
    always = int(rng.integers(len(scores)))
    for i, score in enumerate(scores):
        if i == always or rng.random() < 0.4:
            kept.append(score)
            continue
        start, end = sorted(float(x) for x in rng.uniform(0.0, seconds, 2))
        where = str(rng.choice(["later", "earlier", "rests"]))
        before = [] if where == "later" else within(score, 0.0, max(start, 4.0))
        after = [] if where == "earlier" else within(score, min(end, seconds - 4.0), seconds)
        kept.append(before + after)
    return kept


def within(line: Line, start: float, end: float) -> Line:
    """Cut notes to a stretch, and drop those of which less than 0.06 s remains."""
    cut = [(max(a, start), min(b, end), pitch) for a, b, pitch in line if a < end and b > start]
    return [note for note in cut if note[1] - note[0] >= 0.06]
