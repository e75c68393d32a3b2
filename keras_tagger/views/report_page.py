"""The results page of a report: one HTML file with numbers, bars, curves and the worst mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.views.pages import render
from keras_tagger.views.player import element, policy, scripts

Curve = tuple[npt.NDArray[Any], npt.NDArray[Any]]

# Most points of a drawn curve; more would be finer than its pixels.
_POINTS = 150
_GRID = np.linspace(0.0, 1.0, 101)


def report_page(
    report: Mapping[str, Any],
    headline: Sequence[tuple[str, str, str]],
    curves: Mapping[str, Curve],
    roc_curves: Mapping[str, Curve],
    confusions: Mapping[str, Sequence[int]],
    warning: str = "",
    examples: Sequence[Any] = (),
) -> str:
    """Render the page: headline, a row per tag (best PR-AUC first), curves, mistakes, confusions, training, failures.

    Args:
        report: The content of `report.json` (`Report.to_dict`).
        headline: Name, value and interval of the numbers over all tags.
        curves: Precision and recall by tag, the highest threshold first; may be empty.
        roc_curves: False and true positive rates by tag, the highest threshold first; may be empty.
        confusions: Counts of the best scored tags, in the same order, by the clips' own tag; may be empty.
        warning: A sentence below the headline; may be empty.
        examples: Clips that the model tags wrongly, with `tag`, `kind`, `clip`, `score`, `threshold` and `document`.
    """
    intervals = report.get("intervals", {})
    nothing = {"roc_auc": None, "pr_auc": None}
    rows = [
        {
            **row,
            "share": row["n_positive"] / max(row["n_positive"] + row["n_negative"], 1),
            "intervals": intervals.get("per_tag", {}).get(row["tag"], nothing),
        }
        for row in sorted(report["per_tag"], key=lambda row: 2.0 if row["pr_auc"] is None else -row["pr_auc"])
    ]
    by_tag: dict[str, list[Any]] = {row["tag"]: [] for row in rows}
    for example in examples:
        by_tag[example.tag].append({"of": example, "player": element(example.document)})
    points = {tag: _precision_points(*curve) for tag, curve in curves.items()}
    roc_points = {tag: _roc_points(*curve) for tag, curve in roc_curves.items()}
    return render(
        "report.html.j2",
        title=report.get("model") or "Evaluation",
        report=report,
        headline=headline,
        warning=warning,
        intervals=intervals,
        rows=rows,
        curves=points,
        roc_curves=roc_points,
        lines=[*((line, "pr_auc thin") for line in points.values()), (_mean_precision(curves), "pr_auc mean")],
        roc_lines=[*((line, "roc_auc thin") for line in roc_points.values()), (_mean_roc(roc_curves), "roc_auc mean")],
        examples={tag: found for tag, found in by_tag.items() if found},
        confusions=confusions,
        policy=policy() if examples else "",
        scripts=scripts() if examples else "",
    )


def _precision_points(precision: npt.NDArray[Any], recall: npt.NDArray[Any]) -> list[tuple[float, float]]:
    """Recall and precision of the points to draw: for each recall the best precision, at most `_POINTS`."""
    first = np.flatnonzero(np.diff(recall, prepend=0.0) > 0)
    if len(first) > _POINTS - 2:
        first = first[np.unique(np.linspace(0, len(first) - 1, _POINTS - 2).round().astype(int))]
    # The curve is level before its first threshold and goes on to its last.
    chosen = np.append(first, len(recall) - 1)
    return [(0.0, float(precision[first[0]])), *zip(recall[chosen].tolist(), precision[chosen].tolist(), strict=True)]


def _roc_points(false_rate: npt.NDArray[Any], true_rate: npt.NDArray[Any]) -> list[tuple[float, float]]:
    """Return the false and true positive rates of the points to draw, at most `_POINTS`, from (0, 0) to (1, 1)."""
    chosen = np.unique(np.linspace(0, len(true_rate) - 1, min(len(true_rate), _POINTS - 1)).round().astype(int))
    return [(0.0, 0.0), *zip(false_rate[chosen].tolist(), true_rate[chosen].tolist(), strict=True)]


def _mean_precision(curves: Mapping[str, Curve]) -> list[tuple[float, float]]:
    """Return the mean precision over the tags at 101 recalls; nothing without curves."""
    found = [precision[np.searchsorted(recall, _GRID - 1e-12)] for precision, recall in curves.values()]
    return list(zip(_GRID.tolist(), np.mean(found, axis=0).tolist(), strict=True)) if found else []


def _mean_roc(curves: Mapping[str, Curve]) -> list[tuple[float, float]]:
    """Return the mean true positive rate over the tags at 101 false positive rates; nothing without curves."""
    found = [np.interp(_GRID, [0.0, *false_rate], [0.0, *true_rate]) for false_rate, true_rate in curves.values()]
    return list(zip(_GRID.tolist(), np.mean(found, axis=0).tolist(), strict=True)) if found else []
