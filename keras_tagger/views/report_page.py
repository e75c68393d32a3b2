"""The results page of a report: one HTML file with numbers, bars and precision-recall curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.views.pages import render

# Most points of a drawn curve; more would be finer than its pixels.
_POINTS = 200


def report_page(
    report: Mapping[str, Any],
    headline: Sequence[tuple[str, str, str]],
    curves: Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]],
    confusions: Mapping[str, Sequence[int]],
    warning: str = "",
) -> str:
    """Render the page: headline, a row per tag (best PR-AUC first), curves, confusions, training, unread files.

    Args:
        report: The content of `report.json` (`Report.to_dict`).
        headline: Name, value and interval of the numbers over all tags.
        curves: Precision and recall by tag, the highest threshold first; may be empty.
        confusions: Counts of the best scored tags, in the same order, by the clips' own tag; may be empty.
        warning: A sentence below the headline; may be empty.
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
    return render(
        "report.html.j2",
        title=f"{report['n_clips']} clips of split {report['split']}",
        report=report,
        headline=headline,
        warning=warning,
        intervals=intervals,
        rows=rows,
        curves={tag: _points(*curve) for tag, curve in curves.items()},
        confusions=confusions,
    )


def _points(precision: npt.NDArray[Any], recall: npt.NDArray[Any]) -> list[tuple[float, float]]:
    """Recall and precision of the points to draw: for each recall the best precision, at most `_POINTS`."""
    first = np.flatnonzero(np.diff(recall, prepend=0.0) > 0)
    if len(first) > _POINTS - 2:
        first = first[np.unique(np.linspace(0, len(first) - 1, _POINTS - 2).round().astype(int))]
    # The curve is level before its first threshold and goes on to its last.
    chosen = np.append(first, len(recall) - 1)
    return [(0.0, float(precision[first[0]])), *zip(recall[chosen].tolist(), precision[chosen].tolist(), strict=True)]
