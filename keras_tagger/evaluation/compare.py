"""`compare`: a paired bootstrap that tells whether a difference between two models could be due to chance."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ModelError
from keras_tagger.evaluation.bootstrap import LEVEL, interval, resample
from keras_tagger.evaluation.clip_scores import ClipScores
from keras_tagger.evaluation.report import Report, load_report, score
from keras_tagger.metrics import macro_mean
from keras_tagger.tables import text_table

_TITLES = {"roc_auc": "macro ROC-AUC", "pr_auc": "macro PR-AUC", "accuracy": "accuracy"}
_HEAD = ["A", "B", "B - A", f"{LEVEL:.0%} interval", "p"]


@dataclass(frozen=True)
class Difference:
    """One number of two models, with a bootstrap interval of the difference.

    Attributes:
        a: The number of A.
        b: The number of B.
        difference: `b - a`.
        low: Lower bound of the difference's interval.
        high: Upper bound of the difference's interval.
        p_value: Two-sided: twice the smaller share of resamples in which the difference is at most, or at least, zero.
            Each share counts one more resample, so that it is never 0 (Davison and Hinkley 1997, section 4.2).
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two models on the same clips and tags; `keras_tagger.compare` makes it.

    Attributes:
        names: Names of A and B.
        n_clips: Number of clips that both reports have.
        left_out: Number of clips that only one of them has.
        tags: Tags that both have and that count in the macro means of both.
        numbers: `Difference` of "roc_auc" and "pr_auc" (macro means) and, if both have it, "accuracy".
        per_tag: `Difference` of "roc_auc" and "pr_auc" by tag.
        resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Example:
        >>> found = kt.compare("reports/compact", "reports/other")
        >>> found.numbers["pr_auc"].p_value
        0.012
    """

    names: tuple[str, str]
    n_clips: int
    left_out: int
    tags: tuple[str, ...]
    numbers: Mapping[str, Difference]
    per_tag: Mapping[str, Mapping[str, Difference]]
    resamples: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; undefined numbers are None."""

        def plain(difference: Difference) -> dict[str, Any]:
            values = dataclasses.asdict(difference)
            return {name: value if np.isfinite(value) else None for name, value in values.items()}

        return {
            "a": self.names[0],
            "b": self.names[1],
            "n_clips": self.n_clips,
            "left_out": self.left_out,
            "n_tags": len(self.tags),
            "level": LEVEL,
            "resamples": self.resamples,
            "seed": self.seed,
            **{name: plain(difference) for name, difference in self.numbers.items()},
            "per_tag": {tag: {name: plain(of) for name, of in both.items()} for tag, both in self.per_tag.items()},
        }

    def __repr__(self) -> str:
        changes = ", ".join(f"{_TITLES[name]} {of.difference:+.4f}" for name, of in self.numbers.items())
        return f"<Comparison: {self.names[1]} minus {self.names[0]}, {changes}>"

    def __str__(self) -> str:
        tag_rows = [_row(tag, both["pr_auc"]) for tag, both in self.per_tag.items()]
        return "\n\n".join(
            [
                f"A: {self.names[0]}\nB: {self.names[1]}\n{self._clips()}",
                text_table([["", *_HEAD], *self._rows()]),
                text_table([["tag (PR-AUC)", *_HEAD], *tag_rows]),
                f"{self._method()} The p-values of tags are not corrected for the number of tags.",
            ]
        )

    def _repr_html_(self) -> str:
        from keras_tagger.views.pages import table

        caption = f"A: {self.names[0]}, B: {self.names[1]}, {self._clips()}"
        return table(self._rows(), ["", *_HEAD], caption, self._method())

    def _rows(self) -> list[list[str]]:
        return [_row(_TITLES[name], of) for name, of in self.numbers.items()]

    def _clips(self) -> str:
        left = f" ({self.left_out} clips that only one report has are left out)" if self.left_out else ""
        return f"{self.n_clips} clips of both{left}, {len(self.tags)} tags"

    def _method(self) -> str:
        return f"Paired bootstrap over clips, {self.resamples} resamples, seed {self.seed}; p is two-sided."


def compare(
    report_a: Report | str | os.PathLike[str],
    report_b: Report | str | os.PathLike[str],
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two reports by a paired bootstrap: every resample draws clips and scores both models on them.

    Args:
        report_a: A `Report`, or a directory with `report.json` and `scores.npz`, such as a run directory.
        report_b: The other one.
        resamples: Number of resamples, at least 1.
        seed: Seed of the bootstrap, at least 0.

    Raises:
        ModelError: If a report has no clip scores, the reports share no clip or tag, or their labels differ.
        ModelNotFoundError: If there is no report.

    Example:
        >>> print(kt.compare("runs/small", "runs/large"))
    """
    if any(isinstance(value, bool) or not isinstance(value, int) for value in (resamples, seed)):
        raise ModelError(f"expected whole numbers of resamples and seed. Received: {resamples!r} and {seed!r}.")
    if resamples < 1 or seed < 0:
        raise ModelError(
            f"expected resamples of at least 1 and a seed of at least 0. Received: {resamples} and {seed}."
        )
    names, found = zip(*(_opened(report, side) for report, side in ((report_a, "A"), (report_b, "B"))), strict=True)
    a, b = _aligned(*found)
    drawn_a, drawn_b = (resample(side, resamples, seed) for side in (a, b))
    points_a, points_b = (score(side.labels, side.scores, side.tags, side.positive) for side in (a, b))
    numbers = {}
    for column in ("roc_auc", "pr_auc"):
        mean_a, mean_b = (float(macro_mean(points[column], a.counted)) for points in (points_a, points_b))
        differences = drawn_b.macro(column, a.counted) - drawn_a.macro(column, a.counted)
        numbers[column] = _difference(mean_a, mean_b, differences)
    share_a, share_b = a.accuracy, b.accuracy
    if share_a is not None and share_b is not None:
        numbers["accuracy"] = _difference(share_a, share_b, drawn_b.accuracy - drawn_a.accuracy)
    per_tag = {
        tag: {
            column: _difference(
                float(points_a[column][index]),
                float(points_b[column][index]),
                getattr(drawn_b, column)[:, index] - getattr(drawn_a, column)[:, index],
            )
            for column in ("roc_auc", "pr_auc")
        }
        for index, tag in enumerate(a.tags)
        if a.counted[index]
    }
    left_out = len(set(_keys(found[0].clips)) ^ set(_keys(found[1].clips)))
    return Comparison((names[0], names[1]), len(a.clips), left_out, tuple(per_tag), numbers, per_tag, resamples, seed)


def _opened(report: Report | str | os.PathLike[str], side: str) -> tuple[str, ClipScores]:
    name = side if isinstance(report, Report) else str(Path(report))
    opened = report if isinstance(report, Report) else load_report(report)
    if opened.clip_scores is None:
        raise ModelError(
            f"expected a report with the scores of every clip (scores.npz, which evaluate writes). Received: {name} "
            "without them."
        )
    return name, opened.clip_scores


def _keys(clips: tuple[str, ...]) -> list[tuple[str, int]]:
    """Give repeated names a number, so that clips with the same name are matched in order."""
    seen = Counter[str]()
    keys = []
    for clip in clips:
        keys.append((clip, seen[clip]))
        seen[clip] += 1
    return keys


def _aligned(a: ClipScores, b: ClipScores) -> tuple[ClipScores, ClipScores]:
    """Reduce both to their common clips and tags, in the order of A; a tag counts if it does in both."""
    place = {key: index for index, key in enumerate(_keys(b.clips))}
    rows = [(index, place[key]) for index, key in enumerate(_keys(a.clips)) if key in place]
    if not rows:
        raise ModelError(
            f"expected two reports on the same clips. Received: no common clip "
            f"({a.clips[0]!r} ... and {b.clips[0]!r} ...)."
        )
    pairs = [(a.tags.index(tag), b.tags.index(tag)) for tag in a.tags if tag in b.tags]
    counted = np.array([bool(a.counted[i] and b.counted[j]) for i, j in pairs])
    if not counted.any():
        raise ModelError(
            f"expected two reports with a common scored tag. Received: {', '.join(a.tags)[:80]} and "
            f"{', '.join(b.tags)[:80]}."
        )
    sides = []
    for which, side in enumerate((a, b)):
        chosen = np.ix_([pair[which] for pair in rows], [pair[which] for pair in pairs])
        sides.append(
            ClipScores(
                tuple(side.clips[pair[which]] for pair in rows),
                tuple(side.tags[pair[which]] for pair in pairs),
                side.labels[chosen],
                side.scores[chosen],
                side.positive,
                counted,
                None if side.correct is None else side.correct[[pair[which] for pair in rows]],
            )
        )
    first, second = sides
    unequal = ~np.isclose(first.labels, second.labels, atol=1e-6, equal_nan=True)
    if unequal.any():
        row, column = (int(index) for index in np.argwhere(unequal)[0])
        raise ModelError(
            f"expected the same labels in both reports. Received: {first.tags[column]} of {first.clips[row]!r} is "
            f"{first.labels[row, column]:g} in A and {second.labels[row, column]:g} in B."
        )
    if first.positive != second.positive:
        raise ModelError(
            f"expected the same label threshold in both reports. Received: {first.positive:g} and {second.positive:g}."
        )
    # A tag may have lost all clips with it, or without it.
    scored = np.isfinite(score(first.labels, first.scores, first.tags, first.positive)["roc_auc"]) & counted
    if not scored.any():
        raise ModelError("expected a tag that some of the common clips have and some do not. Received: none.")
    first, second = (dataclasses.replace(side, counted=scored) for side in (first, second))
    return first, second


def _difference(a: float, b: float, differences: npt.NDArray[Any]) -> Difference:
    known = differences[np.isfinite(differences)]
    low, high = interval(known, LEVEL)
    if not len(known):
        return Difference(a, b, b - a, low, high, float("nan"))
    # Equal sums may differ in the last bit.
    below, above = ((1 + np.count_nonzero(side <= 1e-12)) / (1 + len(known)) for side in (known, -known))
    return Difference(a, b, b - a, low, high, float(min(1.0, 2 * min(below, above))))


def _row(name: str, of: Difference) -> list[str]:
    defined = np.isfinite(of.low)
    return [
        *(name, f"{of.a:.4f}", f"{of.b:.4f}", f"{of.difference:+.4f}"),
        *((f"{of.low:+.4f} to {of.high:+.4f}", f"{of.p_value:.3f}") if defined else ("-", "-")),
    ]
