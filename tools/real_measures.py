"""The measures of `real_music.py`, from scores of labelled clips. Does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_tagger.data.datasets.vocabularies import MSD_50, MTAT_50
from keras_tagger.evaluation.bootstrap import interval
from keras_tagger.metrics import ranking_scores, threshold_counts
from real_clips import Clip

MTAT, MSD = "MTAT", "MSD"
NAMES = {MTAT: MTAT_50, MSD: MSD_50}
FALSE_ALARMS = 0.05
RESAMPLES = 300

# Genre of the labels -> tags that say so; the first is the one that is ranked.
GENRES: dict[str, dict[str, tuple[str, ...]]] = {
    MSD: {
        "blues": ("blues",),
        "country": ("country",),
        "disco": ("dance", "funk", "party"),
        "hiphop": ("Hip-Hop",),
        "jazz": ("jazz",),
        "metal": ("metal", "heavy metal"),
        "pop": ("pop",),
        "rock": ("rock", "classic rock", "alternative rock", "hard rock"),
    },
    MTAT: {
        "classical": ("classical", "classic"),
        "country": ("country",),
        "disco": ("dance",),
        "metal": ("metal",),
        "pop": ("pop",),
        "rock": ("rock",),
    },
}
_FEMALE = ("female", "woman", "female vocal", "female voice")
_MALE = ("male", "man", "male vocal", "male voice")
VOICES = {
    MTAT: ("vocal", "vocals", "voice", "singing", *_FEMALE, *_MALE),
    MSD: ("female vocalists", "female vocalist", "male vocalists"),
}
FEMALE = {MTAT: _FEMALE, MSD: ("female vocalists", "female vocalist")}
MALE = {MTAT: _MALE, MSD: ("male vocalists",)}
CHOIRS = ("choir", "choral", "opera")
INSTRUMENTS = ("guitar", "strings", "drums", "piano", "violin", "flute", "sitar", "cello", "indian")


@dataclass(frozen=True)
class Scored:
    """The scores that a model gives to clips, in one vocabulary.

    Attributes:
        tags: The tags.
        scores: float `[n_clips, n_tags]`, 0..1.
        thresholds: float `[n_tags]`, the published ones.
    """

    tags: tuple[str, ...]
    scores: np.ndarray
    thresholds: np.ndarray

    def of(self, names: Sequence[str]) -> np.ndarray:
        """Return the columns of some tags, `[n_clips, n]`."""
        return self.scores[:, [self.tags.index(name) for name in names]]

    def margins(self, names: Sequence[str]) -> np.ndarray:
        """Return by how much the logits of some tags exceed the logits of their thresholds, `[n_clips, n]`."""
        return logit(self.of(names)) - logit(self.thresholds[[self.tags.index(name) for name in names]])


Scores = dict[str, Scored]


def logit(values: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)), finite for 0 and 1."""
    values = np.clip(np.asarray(values, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(values / (1 - values)))


@dataclass(frozen=True)
class Value:
    """A measure with the bounds of its bootstrap interval, and how many clips have the label and lack it."""

    value: float
    low: float
    high: float
    n_with: int
    n_without: int
    draws: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without the draws."""
        return {name: value for name, value in vars(self).items() if name != "draws"}

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


class Resampling:
    """Resamples of whole groups (artists), which clips of one artist need: they are not independent.

    Args:
        groups: The group of each clip.
        resamples: How many to draw.
        seed: Seed of the draws.
    """

    def __init__(self, groups: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> None:
        names, index = np.unique(np.array(groups), return_inverse=True)
        drawn = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
        counts = np.stack([np.bincount(one, minlength=len(names)) for one in drawn])
        self.weights = counts[:, index]

    def auc(self, present: np.ndarray, scores: np.ndarray, among: np.ndarray | None = None) -> Value:
        """Return the ROC-AUC of scores among some clips."""
        among = np.ones(len(present), bool) if among is None else among
        return self.measure(lambda p, s, w: ranking_scores(p, s, w)[0], present, scores, among)

    def mean(self, values: np.ndarray, among: np.ndarray) -> Value:
        """Return the mean of values, such as the share of hits, among some clips; counts are sums of these."""
        values = values[among].astype(float)
        weights = self.weights[:, among]
        with np.errstate(invalid="ignore"):
            draws = weights @ values / weights.sum(axis=1)
        value = float(values.mean()) if len(values) else float("nan")
        return Value(value, *interval(draws), round(values.sum()), round((1 - values).sum()), draws)

    def recall(self, present: np.ndarray, scores: np.ndarray, among: np.ndarray) -> Value:
        """Return the recall at 5 % false alarms."""
        return self.measure(lambda p, s, w: recall_at(p, s, w), present, scores, among)

    def measure(self, of: Callable[..., Any], present: np.ndarray, scores: np.ndarray, among: np.ndarray) -> Value:
        """Apply a measure of labels, scores and weights to some clips and to their resamples."""
        present, scores = present[among], scores[among]
        value = float(of(present, scores, None))
        draws = np.asarray(of(present, scores, self.weights[:, among]), float)
        return Value(value, *interval(draws), int(present.sum()), int((~present).sum()), draws)


def recall_at(
    present: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None, false_alarms: float = FALSE_ALARMS
) -> np.ndarray:
    """Return the largest recall whose share of false alarms is at most `false_alarms`."""
    _, hits, reached = threshold_counts(present, scores, weights)
    misses = reached - hits
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, alarms = hits / hits[..., -1:], misses / misses[..., -1:]
    return np.asarray(np.where(alarms <= false_alarms, recall, 0.0).max(axis=-1))


def macro(values: Sequence[Value]) -> Value:
    """Return the mean of measures, resampled together."""
    draws = np.nanmean(np.stack([value.draws for value in values]), axis=0)
    return Value(float(np.mean([value.value for value in values])), *interval(draws), 0, 0, draws)


def measure(clips: Sequence[Clip], scores: Scores, resampling: Resampling) -> dict[str, dict[str, Value]]:
    """Measure one model's scores; returns sections of named values."""
    found: dict[str, dict[str, Value]] = {}
    labels = [clip.labels for clip in clips]
    source = np.array([clip.source for clip in clips])
    gtzan = source == "gtzan-curated"
    genre = np.array([str(label.genre) for label in labels])
    sounds = np.array([label.single_sound for label in labels])
    for vocabulary, scored in scores.items():
        order = np.argsort(-scored.scores, axis=1, kind="stable")
        section: dict[str, Value] = {}
        for name, tags in GENRES[vocabulary].items():
            section[name] = resampling.auc(genre == name, scored.of(tags[:1])[:, 0], gtzan)
        section["macro"] = macro(list(section.values()))
        found[f"genres, {vocabulary} tags"] = section
        for top in (3, 5):
            section = {}
            for name, tags in GENRES[vocabulary].items():
                columns = [scored.tags.index(tag) for tag in tags]
                section[name] = resampling.mean(np.isin(order[:, :top], columns).any(axis=1), gtzan & (genre == name))
            section["macro"] = macro(list(section.values()))
            found[f"genre among the best {top} tags, {vocabulary}"] = section
    singing = np.array([label.singing is True for label in labels])
    known = np.array([label.singing is not None for label in labels])
    margins = {name: scored.margins(VOICES[name]).max(axis=1) for name, scored in scores.items()}
    highest = {name: scored.of(VOICES[name]).max(axis=1) for name, scored in scores.items()}
    means = {name: logit(scored.of(VOICES[name])).mean(axis=1) for name, scored in scores.items()}
    for kind, columns_of in (("margin", margins), ("score", highest), ("mean", means)):
        both = dict(columns_of)
        if len(columns_of) > 1 and kind != "score":
            both["both"] = np.max(list(columns_of.values()), axis=0)
        for name, column in both.items():
            section = found.setdefault(f"singing or instrumental, {name}", {})
            what = {"margin": "largest margin", "score": "largest score", "mean": "mean logit"}[kind]
            section[f"ROC-AUC, {what}"] = resampling.auc(singing, column, known)
            section[f"recall at 5 % false alarms, {what}"] = resampling.recall(singing, column, known)
            if kind == "margin":
                section["recall, published thresholds"] = resampling.mean(column >= 0, known & singing)
                section["false alarms, published thresholds"] = resampling.mean(column >= 0, known & ~singing)
    voice = np.array([str(label.voice) for label in labels])
    sung = np.isin(voice, ["female", "male"])
    for vocabulary, scored in scores.items():
        female, male = (logit(scored.of(names[vocabulary])).mean(axis=1) for names in (FEMALE, MALE))
        section = found.setdefault(f"female or male, {vocabulary}", {})
        for name, among in (("all", sung), ("GTZAN", sung & gtzan), ("others", sung & ~gtzan)):
            section[f"{name}, female less male"] = resampling.auc(voice == "female", female - male, among)
            section[f"{name}, female"] = resampling.auc(voice == "female", female, among)
    a_cappella = np.array([label.a_cappella for label in labels])
    for vocabulary, scored in scores.items():
        best = np.array(scored.tags)[scored.scores.argmax(axis=1)]
        hits = np.isin(best, [*VOICES[vocabulary], *CHOIRS])
        section = found.setdefault("a cappella", {})
        section[f"best tag is a voice, {vocabulary}"] = resampling.mean(hits, a_cappella)
        top = np.argsort(-scored.scores, axis=1)[:, :5]
        for wrong in ("guitar", "electronic"):
            hit = (top == scored.tags.index(wrong)).any(axis=1)
            section[f"{wrong} among the best five, {vocabulary}"] = resampling.mean(hit, a_cappella)
    named = np.array([bool(label.instruments) or label.indian for label in labels])
    for kind, among in (("all", named), ("single sounds", named & sounds), ("music", named & ~sounds)):
        section = {}
        for name in INSTRUMENTS:
            has = np.array([label.indian if name == "indian" else name in label.instruments for label in labels])
            if (has & among).sum() >= 3 and MTAT in scores:
                section[name] = resampling.auc(has, scores[MTAT].of([name])[:, 0], among)
        if section:
            section["macro"] = macro(list(section.values()))
            found[f"instruments, {kind}"] = section
    return found


def overlap(clips: Sequence[Clip], scores: Scores, teacher: Mapping[str, np.ndarray], top: int = 5) -> dict[str, float]:
    """Return how many of the best five tags a model shares with the teacher, a mean over clips of music."""
    found = {}
    music = np.array([not clip.labels.single_sound for clip in clips])
    for vocabulary, scored in scores.items():
        ours, theirs = (np.argsort(-s, axis=1)[:, :top] for s in (scored.scores, teacher[vocabulary]))
        shared = np.array([len(set(a) & set(b)) for a, b in zip(ours, theirs, strict=True)])
        found[f"{vocabulary}, music"] = float(shared[music].mean())
        found[f"{vocabulary}, single sounds"] = float(shared[~music].mean()) if (~music).any() else float("nan")
    return found
