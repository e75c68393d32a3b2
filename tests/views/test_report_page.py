"""The results page: well-formed, alone, and drawn from the report's numbers."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from keras_tagger.evaluation.bootstrap import bootstrap_intervals
from keras_tagger.evaluation.clip_scores import ClipScores
from keras_tagger.evaluation.report import Report, TagTable, counted_tags, macro, score

TAGS = ("rock & roll", "<b>", "never")


@pytest.fixture(scope="module")
def report() -> Report:
    rng = np.random.default_rng(0)
    labels = (rng.uniform(size=(300, 3)) < (0.4, 0.1, 0.0)).astype(np.float32)
    scores = np.clip(0.5 * labels + 0.5 * rng.uniform(size=labels.shape), 0, 1)
    table = score(labels, scores, TAGS)
    found = ClipScores(tuple(map(str, range(300))), TAGS, labels, scores, 0.5, counted_tags(table))
    return Report(
        macro(table, "roc_auc"),
        macro(table, "pr_auc"),
        table,
        300,
        "test",
        ({"path": "a<i>.mp3", "reason": "broken"},),
        {"epochs": 3, "train_seconds": 12.345678},
        accuracy=0.625,
        n_chunks=16,
        intervals=bootstrap_intervals(found, 100),
        clip_scores=found,
    )


def parsed(page: str) -> ElementTree.Element:
    """Return the body, which is well-formed XML."""
    return ElementTree.fromstring(page[page.index("<body>") : page.index("</body>") + len("</body>")])


def test_the_page_needs_nothing_else(report: Report) -> None:
    page = report.to_html()
    assert page.startswith("<!doctype html>")
    assert not re.search(r"https?://|src=|href=|@import|url\(|<script", page)
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'\"" in page
    assert "&lt;b&gt;" in page
    assert "<b></b>" not in page
    assert "a&lt;i&gt;.mp3" in page


def test_numbers_and_bars(report: Report) -> None:
    body = parsed(report.to_html())
    text = " ".join(body.itertext())
    low, high = report.intervals["roc_auc"]
    for shown in (f"{report.roc_auc:.4f}", f"{report.pr_auc:.4f}", "0.6250", f"{low:.4f} to {high:.4f}", "2 of 3"):
        assert shown in text
    assert "16 evenly spaced chunks" in text
    assert "Intervals: 95%, percentiles of 100 bootstrap resamples of the clips (seed 0)." in " ".join(text.split())
    training = [
        [cell.text for cell in row.findall("td")] for row in body.find(".//table[@class='training']").findall("tr")
    ]
    assert training == [["epochs", "3"], ["train seconds", "12.35"]]
    rows = [row for row in body.findall(".//table[@class='tags']/tr") if row.find("td") is not None]
    values = {row["tag"]: row for row in report.per_tag}
    names = [row.find("td").text for row in rows]
    assert names == [*sorted(TAGS[:2], key=lambda tag: -values[tag]["pr_auc"]), "never"]
    for row in rows:
        of = values[row.find("td").text]
        scores = [f"{of[name]:.3f}" if np.isfinite(of[name]) else "-" for name in ("roc_auc", "pr_auc")]
        found = [cell.text for cell in row.findall("td") if cell.text and cell.text.strip()]
        assert found == [of["tag"], str(of["n_positive"]), str(of["n_negative"]), *scores]
    for row in rows[:2]:
        of = values[row.find("td").text]
        for svg, column in zip(row.iter("svg"), ("roc_auc", "pr_auc"), strict=True):
            ground, bar = (float(rect.get("width")) for rect in svg.iter("rect"))
            assert bar / ground == pytest.approx(of[column], abs=1e-3)
            whisker, chance = (path.get("d") for path in svg.iter("path"))
            left, right = (float(re.search(pattern, whisker)[1]) for pattern in (r"M([\d.]+)", r"H([\d.]+)"))
            bounds = report.intervals["per_tag"][of["tag"]][column]
            np.testing.assert_allclose([left / ground, right / ground], bounds, atol=1e-3)
            share = 0.5 if column == "roc_auc" else of["n_positive"] / 300
            assert float(re.search(r"M([\d.]+)", chance)[1]) / ground == pytest.approx(share, abs=1e-3)


def test_curves_are_scikit_learns(report: Report) -> None:
    found = report.clip_scores
    figures = list(parsed(report.to_html()).iter("figure"))
    assert len(figures) == 2
    best = max(report.per_tag, key=lambda row: row["pr_auc"] if np.isfinite(row["pr_auc"]) else -1)
    caption = f"{best['tag']} PR-AUC {best['pr_auc']:.3f}, ROC-AUC {best['roc_auc']:.3f}"
    assert "".join(figures[0].find("figcaption").itertext()) == caption
    for figure in figures:
        box = figure.find(".//rect")
        left, top, size = (float(box.get(name)) for name in ("x", "y", "width"))
        points = [tuple(map(float, point.split(","))) for point in figure.find(".//polyline").get("points").split()]
        assert len(points) <= 200
        assert points[0][0] == left
        assert points[-1][0] == left + size
        tag = figure.find("figcaption").text.strip()
        column = TAGS.index(tag)
        precision, recall, _ = precision_recall_curve(found.labels[:, column] > 0.5, found.scores[:, column])
        for x, y in points[1:-1]:
            # Of each recall the best precision; the pixels have one decimal.
            best_here = precision[np.abs(recall - (x - left) / size) < 0.002].max()
            assert 1 - (y - top) / size == pytest.approx(best_here, abs=1e-3)
        share = np.mean(found.labels[:, column] > 0.5)
        assert 1 - (points[-1][1] - top) / size == pytest.approx(share, abs=1e-3)
        assert len(points) > 20
        rates = np.stack(roc_curve(found.labels[:, column] > 0.5, found.scores[:, column], drop_intermediate=False)[:2])
        drawn = np.array([point.split(",") for point in figure.findall(".//polyline")[1].get("points").split()], float)
        drawn = np.stack([(drawn[:, 0] - left) / size, 1 - (drawn[:, 1] - top) / size])
        assert drawn[:, 0].tolist() == [0, 0]
        assert drawn[:, -1].tolist() == [1, 1]
        # Every point that is drawn is one of the curve.
        assert np.abs(drawn[:, :, np.newaxis] - rates[:, np.newaxis]).max(axis=0).min(axis=1).max() < 1e-3


def test_the_overview_shows_the_mean_curve(report: Report) -> None:
    scores = 0.3 * report.clip_scores.labels + np.random.default_rng(1).uniform(size=(300, 3))
    found = dataclasses.replace(report.clip_scores, scores=scores)
    roc, precisions = parsed(dataclasses.replace(report, clip_scores=found).to_html()).findall(
        ".//div[@class='overview']/svg"
    )
    for svg, name in ((roc, "ROC"), (precisions, "precision-recall")):
        *_, mean = svg.findall("polyline")
        assert "mean" in mean.get("class"), name
        assert len(mean.get("points").split()) == 101
    left, size = (float(roc.find("rect").get(name)) for name in ("x", "width"))
    points = [tuple(map(float, point.split(","))) for point in roc.findall("polyline")[-1].get("points").split()]
    half = next(y for x, y in points if x == pytest.approx(left + size / 2))
    rates = [roc_curve(found.labels[:, column] > 0.5, found.scores[:, column])[:2] for column in (0, 1)]
    expected = np.mean([np.interp(0.5, false, true) for false, true in rates])
    assert 1 - (half - float(roc.find("rect").get("y"))) / size == pytest.approx(expected, abs=0.01)


def test_confusions() -> None:
    labels = np.eye(3)[[0, 0, 1, 2, 2, 2, 0, 0]].astype(np.float32)
    labels[6:] = [[1.0, 1.0, 0.0], [0.5, 0.0, 0.0]]  # two tags, and none: neither is in a row
    scores = np.eye(3)[[0, 1, 1, 0, 2, 2, 0, 0]] * 0.5 + 0.1
    found = ClipScores(tuple("abcdefgh"), TAGS, labels, scores, 0.5, np.ones(3, bool), np.ones(8, np.float32))
    np.testing.assert_array_equal(found.confusions(), [[1, 1, 0], [0, 1, 0], [1, 0, 2]])
    table = score(labels, scores, TAGS)
    page = Report(0.5, 0.5, table, 8, "test", accuracy=4 / 6, clip_scores=found).to_html()
    rows = parsed(page).findall(".//table[@class='confusions']/tr")
    assert [cell.text for cell in rows[3].findall("td")] == ["never", "1", "·", "2"]
    # The darker, the larger the share of the row: a third, nothing and two thirds.
    shades = [re.search(r"([\d.]+)\)$", cell.get("style"))[1] for cell in rows[3].findall("td")[1:]]
    assert shades == ["0.20", "0.00", "0.40"]


def test_without_scores_and_intervals(report: Report) -> None:
    bare = dataclasses.replace(report, clip_scores=None, intervals={}, failed=(), training={})
    text = " ".join(parsed(bare.to_html()).itertext())
    assert "No intervals were computed." in text
    assert "mean over 16 evenly spaced chunks." in text
    text = " ".join(parsed(dataclasses.replace(bare, n_chunks=0).to_html()).itertext())
    assert "mean over consecutive windows." in text
    assert "Precision and recall" not in text


def test_hostile_names_stay_text(report: Report) -> None:
    hostile = '"><script>alert(1)</script>{{ 7 * 7 }}'
    rows = [{**row, "tag": hostile} for row in report.per_tag][:1]
    entry = {"path": hostile, "reason": hostile}
    found = dataclasses.replace(
        report,
        per_tag=TagTable(rows),
        clip_scores=None,
        split=hostile,
        failed=(entry,),
        training={hostile: hostile},
        unknown_tags=(hostile,),
    )
    page = found.to_html()
    assert "<script" not in page
    # In the title (twice), the tag, the warning, the file and its reason, and the training (twice).
    assert page.count("{{ 7 * 7 }}") == page.count("alert(1)") == 8
    assert parsed(page) is not None
