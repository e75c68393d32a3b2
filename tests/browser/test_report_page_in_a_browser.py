"""The report of `evaluate` in a browser, opened from disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from made_clip import document

from keras_tagger.evaluation.bootstrap import bootstrap_intervals
from keras_tagger.evaluation.clip_scores import ClipScores
from keras_tagger.evaluation.examples import FALSE_NEGATIVE, FALSE_POSITIVE, Example
from keras_tagger.evaluation.report import Report, counted_tags, macro, score

KINDS = (FALSE_POSITIVE, FALSE_NEGATIVE)
HOSTILE = "<img src=x onerror=document.title=1>"
TAGS = ("rock", HOSTILE, "a tag with a name that is much longer than the others")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(0)
    labels = (rng.uniform(size=(60, 3)) < 0.4).astype(np.float32)
    scores = 0.3 * labels + 0.7 * rng.uniform(size=labels.shape)
    table = score(labels, scores, TAGS)
    found = ClipScores(tuple(map(str, range(60))), TAGS, labels, scores, 0.5, counted_tags(table))
    examples = tuple(Example(tag, kind, HOSTILE, 0.5, 0.4, document()) for tag in TAGS[:2] for kind in KINDS)
    made = Report(
        *(macro(table, name) for name in ("roc_auc", "pr_auc")),
        table,
        60,
        "test",
        ({"path": HOSTILE, "reason": HOSTILE},),
        {"epochs": 3},
        accuracy=0.5,
        intervals=bootstrap_intervals(found, 50),
        clip_scores=found,
        model=f"runs/{HOSTILE}",
        data="music.csv",
        examples=examples,
    )
    folder = tmp_path_factory.mktemp("report")
    made.save(folder)
    return (folder / "report.html").as_uri()


def test_mistakes_are_opened_and_mounted(report: str, open_page: Callable[..., Any]) -> None:
    page = open_page(report, bypass_csp=True)
    assert page.title() == f"runs/{HOSTILE}: 60 clips of split test"
    assert page.locator("img").count() == 0
    players = page.locator(".keras-tagger-player")
    assert (players.count(), page.locator("details.mistakes").count()) == (4, 2)
    mounted = "[...document.querySelectorAll('.keras-tagger-player')].map((one) => Boolean(one.player))"
    # A player is made when its tag is opened and it comes near.
    page.locator("details.mistakes").nth(0).scroll_into_view_if_needed()
    page.wait_for_function(f"{mounted}.join() === 'true,true,false,false'")
    page.locator("details.mistakes").nth(1).locator("summary").press("Enter")
    page.locator("details.mistakes").nth(1).scroll_into_view_if_needed()
    page.wait_for_function(f"{mounted}.every(Boolean)")
    assert page.errors == []
    assert page.requests == [report]


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1600, "light")])
def test_the_report_is_accessible_and_fits(report: str, open_page: Callable[..., Any], width: int, scheme: str) -> None:
    page = open_page(report, width=width, color_scheme=scheme, bypass_csp=True)
    page.locator("summary").first.click()
    found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in serious] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
