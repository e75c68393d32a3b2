"""The results page of a report: one HTML file, needing no other, of numbers, bars and precision-recall curves."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from keras_tagger.evaluation.bootstrap import ClipScores
    from keras_tagger.evaluation.report import Report

# Points of a drawn curve at most: more than the pixels it is drawn on.
_POINTS = 200
_BAR_WIDTH, _BAR_HEIGHT = 240, 16
_CURVE, _LEFT, _TOP, _BOTTOM = 150, 30, 6, 30

_STYLE = """
body { font: 15px/1.45 system-ui, "DejaVu Sans", sans-serif; color: #1a1a1a; background: #fff; margin: 2em auto;
  max-width: 1060px; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; }
table { border-collapse: collapse; } th, td { padding: 2px 10px 2px 0; text-align: left; vertical-align: middle; }
th { border-bottom: 1px solid #888; font-weight: 600; } td.number, th.number { text-align: right;
  font-variant-numeric: tabular-nums; }
.headline td { font-size: 1.15em; } .note { color: #555; max-width: 60em; }
.curves { display: flex; flex-wrap: wrap; gap: 14px; } figure { margin: 0; width: 190px; }
figcaption { font-size: 13px; overflow-wrap: anywhere; }
svg { display: block; } svg text { font-size: 11px; fill: #333; }
code { overflow-wrap: anywhere; }
"""


def report_page(report: Report) -> str:
    """The page's text: headline, a row per tag with bars (best PR-AUC first), curves per tag, files left out."""
    title = f"{report.n_clips} clips of split {report.split}"
    how = f"{report.n_chunks} evenly spaced chunks" if report.n_chunks else "windows that follow each other"
    parts = [
        f"<h1>{_text(title)}</h1>",
        _headline(report),
        f'<p class="note">Each clip is scored as the mean over {how}. {_interval_note(report)}</p>',
        "<h2>Per tag</h2>",
        '<p class="note">Sorted by PR-AUC (average precision). Thin lines are the intervals; the dashed tick is what '
        "chance gives: 0.5 for ROC-AUC, the share of clips with the tag for PR-AUC.</p>",
        _tag_table(report),
    ]
    if report.clip_scores is not None:
        note = "Precision over recall; the dashed line is the share of clips with the tag."
        parts += ["<h2>Precision and recall</h2>", f'<p class="note">{note}</p>', _curves(report)]
        if report.accuracy is not None:
            note = "Rows are the tags of the clips, columns the model's largest scores."
            parts += ["<h2>Confusions</h2>", f'<p class="note">{note}</p>', _confusions(report.clip_scores)]
    if report.training:
        rows = "".join(
            f'<tr><td>{_text(name.replace("_", " "))}</td><td class="number">{_text(_shown(value))}</td></tr>'
            for name, value in report.training.items()
        )
        parts += ["<h2>Training</h2>", f"<table>{rows}</table>"]
    if report.failed:
        items = "".join(f"<li><code>{_text(e['path'])}</code>: {_text(e['reason'])}</li>" for e in report.failed)
        parts += [f"<h2>Left out: {len(report.failed)} files</h2>", f"<ul>{items}</ul>"]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{_text(title)}</title>'
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
    )


def precision_recall(present: npt.NDArray[Any], scores: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Recall and precision [k] at every threshold, from the strictest on; as scikit-learn's, in the other order.

    Args:
        present: bool [n], at least one True.
        scores: float [n].
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    hits = np.cumsum(present[order])[last]
    return hits / present.sum(), hits / (last + 1)


def confusions(found: ClipScores) -> npt.NDArray[Any]:
    """Clips by their one tag (rows) and the tag with the largest score (columns), int [n_tags, n_tags]."""
    present = found.labels > found.positive
    single = present.sum(axis=1) == 1
    counts = np.zeros((len(found.tags), len(found.tags)), int)
    np.add.at(counts, (present[single].argmax(axis=1), found.scores[single].argmax(axis=1)), 1)
    return counts


def _confusions(found: ClipScores) -> str:
    counts = confusions(found)
    head = "".join(f'<th class="number">{_text(tag)}</th>' for tag in found.tags)
    rows = []
    for index, tag in enumerate(found.tags):
        share = counts[index] / max(counts[index].sum(), 1)
        cells = "".join(
            f'<td class="number" style="background: rgba(59, 110, 165, {0.6 * part:.2f})">{count or "&#183;"}</td>'
            for count, part in zip(counts[index], share, strict=True)
        )
        rows.append(f"<tr><td>{_text(tag)}</td>{cells}</tr>")
    return f'<table class="confusions"><tr><th></th>{head}</tr>{"".join(rows)}</table>'


def _headline(report: Report) -> str:
    cells = []
    for name, value, bounds in report.headline():
        shown = f"{value:.4f}" if np.isfinite(value) else "-"
        cells.append(f'<tr><td>{_text(name)}</td><td class="number"><b>{shown}</b></td><td>{_text(bounds)}</td></tr>')
    scored = int(np.isfinite(report.per_tag["roc_auc"].astype(float)).sum()) if len(report.per_tag) else 0
    cells.append(f'<tr><td>tags scored</td><td class="number">{scored} of {len(report.per_tag)}</td><td></td></tr>')
    return f'<table class="headline">{"".join(cells)}</table>'


def _interval_note(report: Report) -> str:
    if not report.intervals:
        return "No intervals were computed."
    found = report.intervals
    return (
        f"Intervals: {found['level']:.0%}, percentiles of {found['resamples']} bootstrap resamples of the clips "
        f"(seed {found['seed']})."
    )


def _tag_table(report: Report) -> str:
    head = "".join(
        f'<th class="{kind}">{name}</th>'
        for name, kind in (
            ("tag", ""),
            ("with", "number"),
            ("without", "number"),
            ("ROC-AUC", "number"),
            ("", ""),
            ("PR-AUC", "number"),
            ("", ""),
        )
    )
    of_tags = report.intervals.get("per_tag", {})
    rows = sorted(report.per_tag, key=lambda row: -row["pr_auc"] if np.isfinite(row["pr_auc"]) else 2.0)
    lines = []
    for row in rows:
        cells = [
            f"<td>{_text(row['tag'])}</td>",
            f'<td class="number">{row["n_positive"]}</td><td class="number">{row["n_negative"]}</td>',
        ]
        share = row["n_positive"] / max(row["n_positive"] + row["n_negative"], 1)
        for column, chance, colour in (("roc_auc", 0.5, "#3b6ea5"), ("pr_auc", share, "#c06a2b")):
            value = row[column]
            shown = f"{value:.3f}" if np.isfinite(value) else "-"
            bounds = of_tags.get(row["tag"], {}).get(column)
            cells.append(f'<td class="number">{shown}</td><td>{_bar(value, bounds, chance, colour)}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _bar(value: float, bounds: tuple[float, float] | None, chance: float, colour: str) -> str:
    """A bar from 0 to 1 with its interval and what chance gives."""
    shapes = [f'<rect width="{_BAR_WIDTH}" height="{_BAR_HEIGHT}" fill="#f0f0f0"/>']
    middle = _BAR_HEIGHT / 2
    if np.isfinite(value):
        shapes.append(f'<rect width="{value * _BAR_WIDTH:.1f}" height="{_BAR_HEIGHT}" fill="{colour}"/>')
        if bounds and np.isfinite(bounds[0]):
            low, high = (f"{bound * _BAR_WIDTH:.1f}" for bound in bounds)
            path = f"M{low} {middle}H{high}M{low} {middle - 4}V{middle + 4}M{high} {middle - 4}V{middle + 4}"
            shapes.append(f'<path d="{path}" stroke="#111" stroke-width="1.5" fill="none"/>')
        at = f"{chance * _BAR_WIDTH:.1f}"
        shapes.append(f'<path d="M{at} 0V{_BAR_HEIGHT}" stroke="#555" stroke-width="2" stroke-dasharray="3 2"/>')
    label = f"{value:.3f}" if np.isfinite(value) else "not scored"
    return f'<svg width="{_BAR_WIDTH}" height="{_BAR_HEIGHT}" role="img" aria-label="{label}">{"".join(shapes)}</svg>'


def _curves(report: Report) -> str:
    found = report.clip_scores
    assert found is not None
    rows: dict[str, Mapping[str, Any]] = {row["tag"]: row for row in report.per_tag}
    figures = []
    for index in sorted(range(len(found.tags)), key=lambda i: -np.nan_to_num(rows[found.tags[i]]["pr_auc"], nan=-1.0)):
        row = rows[found.tags[index]]
        if not np.isfinite(row["pr_auc"]):
            continue
        known = ~np.isnan(found.labels[:, index])
        present = found.labels[known, index] > found.positive
        recall, precision = precision_recall(present, found.scores[known, index])
        caption = f"{_text(row['tag'])} <b>{row['pr_auc']:.3f}</b>"
        figures.append(
            f"<figure>{_curve(recall, precision, present.mean())}<figcaption>{caption}</figcaption></figure>"
        )
    return f'<div class="curves">{"".join(figures)}</div>'


def _curve(recall: npt.NDArray[Any], precision: npt.NDArray[Any], share: float) -> str:
    """Precision over recall in a square; before its first threshold the curve is level."""
    # The first threshold of each recall has its best precision; the last one goes on to the right end.
    first = np.flatnonzero(np.diff(recall, prepend=0.0) > 0)
    if len(first) > _POINTS - 2:
        first = first[np.unique(np.linspace(0, len(first) - 1, _POINTS - 2).round().astype(int))]
    chosen = np.append(first, len(recall) - 1)
    recall, precision = np.append(0.0, recall[chosen]), np.append(precision[first[0]], precision[chosen])
    x, y = _LEFT + recall * _CURVE, _TOP + (1 - precision) * _CURVE
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in zip(x, y, strict=True))
    level = f"{_TOP + (1 - share) * _CURVE:.1f}"
    right, bottom = _LEFT + _CURVE, _TOP + _CURVE
    labels = "".join(
        f'<text x="{px}" y="{py}" text-anchor="{anchor}">{text}</text>'
        for px, py, anchor, text in (
            (_LEFT - 4, bottom, "end", "0"),
            (_LEFT - 4, _TOP + 9, "end", "1"),
            (_LEFT, bottom + 13, "middle", "0"),
            (right, bottom + 13, "middle", "1"),
            (_LEFT + _CURVE / 2, bottom + 24, "middle", "recall"),
        )
    )
    turned = f'<text transform="translate(11 {_TOP + _CURVE / 2}) rotate(-90)" text-anchor="middle">precision</text>'
    return (
        f'<svg width="{right + 10}" height="{bottom + _BOTTOM}" role="img" aria-label="precision-recall curve">'
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_CURVE}" height="{_CURVE}" fill="#fafafa" stroke="#bbb"/>'
        f'<path d="M{_LEFT} {level}H{right}" stroke="#999" stroke-dasharray="4 3"/>'
        f'<polyline points="{line}" fill="none" stroke="#c06a2b" stroke-width="2"/>{labels}{turned}</svg>'
    )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _text(value: Any) -> str:
    return html.escape(str(value))
