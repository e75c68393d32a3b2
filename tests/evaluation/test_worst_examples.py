"""The worst mistakes: which clips, which excerpt, and their page."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_tagger.data.manifest import read_manifest
from keras_tagger.data.prepare import prepare
from keras_tagger.errors import ModelError
from keras_tagger.evaluation.clip_scores import ClipScores
from keras_tagger.evaluation.evaluate import evaluate
from keras_tagger.evaluation.examples import EXCERPT_SECONDS, worst_clips
from tiny import write_tones


def test_worst_clips_by_hand() -> None:
    labels = np.array([[0.0], [0.0], [1.0], [1.0], [np.nan], [0.0], [1.0]], np.float32)
    scores = np.array([[0.9], [0.6], [0.1], [0.3], [1.0], [0.2], [0.8]])
    found = ClipScores(tuple("abcdefg"), ("x",), labels, scores, 0.5, np.ones(1, bool))
    assert worst_clips(found, {"x": 0.5}, 1) == [(0, "x", "false positive"), (2, "x", "false negative")]
    of_two = [(0, "x", "false positive"), (1, "x", "false positive"), *((row, "x", "false negative") for row in (2, 3))]
    assert worst_clips(found, {"x": 0.5}, 2) == of_two
    assert worst_clips(found, {"x": 0.05}, 5) == [(row, "x", "false positive") for row in (0, 1, 5)]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"), {"test": 2})


def all_wrong(tagger: Any) -> Any:
    """A copy of the tagger that calls nothing present, so that every clip with a tag is a mistake."""
    wrong = tagger.select(tagger.tags)
    wrong.info = {tag: dataclasses.replace(info, threshold=1.0) for tag, info in tagger.info.items()}
    return wrong


def test_examples_have_the_excerpt_that_speaks_most_for_the_tag(tagger: Any, manifest: Path, tmp_path: Path) -> None:
    tagger = all_wrong(tagger)
    report = evaluate(tagger, manifest, progress=False, resamples=0, examples=1, name="<b>mine")
    assert [(one.tag, one.kind) for one in report.examples] == [
        (tag, "false negative") for tag in report.clip_scores.tags
    ]
    for one in report.examples:
        row = report.clip_scores.clips.index(one.clip)
        assert one.score == report.clip_scores.scores[row, report.clip_scores.tags.index(one.tag)]
        assert one.document["seconds"] <= EXCERPT_SECONDS + 0.2
        assert one.document["maps"][0]["rows"] == [one.tag]
        assert "/" not in one.document["name"]
    page = report.to_html()
    assert page.count('class="keras-tagger-player"') == len(report.examples)
    assert "<h1>&lt;b&gt;mine</h1>" in page
    assert "data:audio/ogg" not in report._repr_html_()
    prepared = prepare(read_manifest(manifest), tmp_path / "prepared", 16000, 1.0)
    same = evaluate(tagger, prepared, progress=False, resamples=0, examples=1)
    assert [(one.tag, one.kind) for one in same.examples] == [(one.tag, one.kind) for one in report.examples]
    with pytest.raises(ModelError, match="examples: expected a whole number of 0 or more. Received: -1"):
        evaluate(tagger, manifest, examples=-1)
