"""Stretches of time with a name: where a row of a map is high, Audacity label tracks and WebVTT chapters."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_HIGHEST_SHARE = 0.1
_SHORTEST_CHAPTER_SECONDS = 2.0


@dataclass(frozen=True)
class Label:
    """A stretch of time with a name.

    Attributes:
        start: Start in seconds.
        end: End in seconds.
        name: Its name, such as a tag.
        value: A number about it, such as the score of the tag.
    """

    start: float
    end: float
    name: str
    value: float


def high_stretches(names: Sequence[str], curves: npt.NDArray[Any], edges: npt.NDArray[Any]) -> list[Label]:
    """Find the stretches in which each row is among the highest tenth of its values, in order of time.

    Args:
        names: The rows.
        curves: float `[n_rows, T]`.
        edges: Where the columns begin and the last one ends, in seconds, float `[T + 1]`.

    Returns:
        Labels with the mean of the row over the stretch as their value. A row of zeros has none.
    """
    found = []
    for name, curve in zip(names, curves, strict=True):
        high = (curve >= np.quantile(curve, 1 - _HIGHEST_SHARE)) & curve.any()
        # Where "is high" changes, a stretch begins or ends.
        changes = np.diff(np.concatenate([[False], high, [False]]).astype(int))
        for begin, end in zip(np.flatnonzero(changes == 1), np.flatnonzero(changes == -1), strict=True):
            found.append(Label(float(edges[begin]), float(edges[end]), name, float(curve[begin:end].mean())))
    return sorted(found, key=lambda label: (label.start, label.end))


def leading_stretches(names: Sequence[str], curves: npt.NDArray[Any], edges: npt.NDArray[Any]) -> list[Label]:
    """Divide the time by which row is highest; what is shorter than two seconds belongs to the stretch before it.

    Args:
        names: The rows.
        curves: float `[n_rows, T]`.
        edges: Where the columns begin and the last one ends, in seconds, float `[T + 1]`.

    Returns:
        Labels without gaps, with the mean of the highest row as their value.
    """
    leaders = curves.argmax(axis=0)
    begins = [0, *(np.flatnonzero(np.diff(leaders)) + 1).tolist(), len(leaders)]
    kept: list[tuple[int, int, int]] = []  # row, first column, last column + 1
    for begin, end in itertools.pairwise(begins):
        row = int(leaders[begin])
        if kept and (kept[-1][0] == row or edges[end] - edges[begin] < _SHORTEST_CHAPTER_SECONDS):
            kept[-1] = (kept[-1][0], kept[-1][1], end)
        else:
            kept.append((row, begin, end))
    return [
        Label(float(edges[begin]), float(edges[end]), names[row], float(curves[row, begin:end].mean()))
        for row, begin, end in kept
    ]


def audacity(labels: Iterable[Label]) -> str:
    r"""Return an Audacity label track: a line of start, end and name per label, separated by tabs.

    Example:
        >>> audacity([Label(0.0, 2.5, "guitar", 0.8)])
        '0.000000\t2.500000\tguitar\n'
    """
    return "".join(f"{label.start:.6f}\t{label.end:.6f}\t{_one_line(label.name)}\n" for label in labels)


def webvtt(labels: Iterable[Label]) -> str:
    """Return WebVTT with a cue per label, for `<track kind="chapters">`.

    Example:
        >>> print(webvtt([Label(0.0, 2.5, "guitar", 0.8)]))
        WEBVTT
        <BLANKLINE>
        00:00:00.000 --> 00:00:02.500
        guitar
        <BLANKLINE>
    """
    cues = []
    for label in labels:
        text = _one_line(label.name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        cues.append(f"\n{_clock(label.start)} --> {_clock(label.end)}\n{text}\n")
    return "".join(["WEBVTT\n", *cues])


def _one_line(name: str) -> str:
    return re.sub(r"\s+", " ", name).strip() or "-"


def _clock(seconds: float) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d}.{whole % 1000:03d}"
