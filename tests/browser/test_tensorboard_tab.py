"""The tab in a real TensorBoard, on a run that `fit` made and one that `log_explanation` wrote."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest
import tensorflow as tf
from tensorboard import default, program
from tensorboard.assets import get_default_assets_zip_provider

import tiny
from keras_tagger.data.prepared import open_prepared
from keras_tagger.train.board import preview_clips
from keras_tagger.views import log_explanation

HOSTILE = '<img src=x onerror="parent.hacked=true;window.hacked=true">'
SLOW = 60_000


def start(logdir: Path) -> str:
    """Start TensorBoard as its command does, in this process, and return its address."""
    board = program.TensorBoard(default.get_plugins(), get_default_assets_zip_provider())
    assert any(getattr(loader, "plugin_name", "") == "keras_tagger" for loader in board.plugin_loaders) or any(
        getattr(getattr(loader, "plugin_class", None), "plugin_name", "") == "keras_tagger"
        for loader in board.plugin_loaders
    ), "the entry point tensorboard_plugins of keras_tagger is not installed: run pip install -e ."
    board.configure(argv=["tensorboard", "--logdir", str(logdir), "--port", "0", "--reload_interval", "1"])
    return board.launch()


@pytest.fixture(scope="module")
def preview(tiny_run: Any) -> tuple[str, Any]:
    """The name and the waveform of the clip that `fit` has explained."""
    (folder,) = (tiny_run.dir.parent / "prepared").iterdir()
    ((name, waveform, _),) = preview_clips(open_prepared(folder), tiny_run.tagger.config)
    return name, waveform


@pytest.fixture(scope="module")
def clip(preview: tuple[str, Any]) -> str:
    return preview[0]


@pytest.fixture(scope="module")
def logdir(tiny_run: Any, preview: tuple[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    shutil.copytree(tiny_run.dir / "logs", folder / "fitted")
    name, waveform = preview
    tagger = tiny.random_tagger(tags=("high", "low", HOSTILE))
    writer = tf.summary.create_file_writer(str(folder / "random"))
    for step in (10, 20):
        log_explanation(writer, tagger, (waveform, tiny.RATE), step, name=name)
    log_explanation(writer, tagger, (waveform, tiny.RATE), 10, name=HOSTILE)
    writer.close()
    return folder


@pytest.fixture(scope="module")
def address(logdir: Path) -> str:
    found = start(logdir)
    for _ in range(200):
        with urlopen(f"{found}data/plugin/keras_tagger/runs") as answer:
            steps = {run["name"]: sum(len(clip["steps"]) for clip in run["clips"]) for run in json.load(answer)["runs"]}
        if steps == {"fitted": 8, "random": 3}:
            return found
        time.sleep(0.3)
    raise AssertionError(f"expected 8 and 3 steps to be read. Received: {steps}.")


@pytest.fixture
def open_tab(address: str, clip: str, open_page: Callable[..., Any]) -> Iterator[Callable[..., tuple[Any, Any]]]:
    """Open the tab in TensorBoard: `page, frame = open_tab()`."""

    def open_(fragment: str = "", **options: Any) -> tuple[Any, Any]:
        page = open_page("about:blank", **{"width": 1600, "height": 1000, **options})
        # TensorBoard's own front end is large; its "load" takes long on a busy machine.
        page.goto(f"{address}#keras_tagger&p.keras_tagger.clip={quote(clip, safe='')}{fragment}", wait_until="commit")
        frame = page.frame_locator("iframe")
        frame.locator(".side[data-step]").first.wait_for(timeout=SLOW)
        return page, frame

    return open_


def pixels(side: Any) -> list[int]:
    """Return a checksum of each canvas of a player, when it has drawn."""
    side.page.wait_for_timeout(200)
    return side.locator(".player").first.evaluate(
        """(host) => [...host.shadowRoot.querySelectorAll("canvas")].map((one) => {
            if (!one.width || !one.height) return 0;
            const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
            return data.reduce((sum, value) => (31 * sum + value) | 0, 7);
        })"""
    )


def test_the_slider_changes_the_picture(open_tab: Callable[..., Any], logdir: Path) -> None:
    page, frame = open_tab("&p.keras_tagger.run=fitted")
    assert frame.locator(".run-name").all_text_contents() == ["fitted", "random"]
    side = frame.locator(".side")
    frame.locator(".side[data-step='8']").wait_for(timeout=SLOW)
    slider = frame.get_by_role("slider", name="Step of side A")
    last = pixels(side)
    slider.focus()
    page.keyboard.press("Home")
    frame.locator(".side[data-step='1']").wait_for(timeout=SLOW)
    first = pixels(side)
    assert len(first) == len(last)
    # The maps differ, the waveform and the spectrogram do not.
    changed = sum(a != b for a, b in zip(first, last, strict=True))
    assert 2 <= changed <= len(first) - 3
    assert "step 1 (1 of 8)" in frame.locator(".steps output").text_content()
    page.keyboard.press("End")
    frame.locator(".side[data-step='8']").wait_for(timeout=SLOW)
    assert pixels(side) == last
    # A line per tag; a click goes to the step.
    assert frame.locator("polyline").count() == 3
    frame.locator(".chart svg").click(position={"x": 45, "y": 60})
    frame.locator(".side[data-step='1']").wait_for(timeout=SLOW)
    assert page.errors == []
    foreign = [url for url in page.requests if "localhost" not in url and "127.0.0.1" not in url]
    assert not [url for url in foreign if "keras_tagger" in url]


def test_two_runs_on_one_playhead(open_tab: Callable[..., Any]) -> None:
    page, frame = open_tab("&p.keras_tagger.run=fitted")
    frame.locator(".side[data-step='8']").wait_for(timeout=SLOW)
    frame.get_by_role("button", name="Compare").click()
    frame.locator(".side[data-step='20']").wait_for(timeout=SLOW)
    assert frame.locator(".side h2").all_text_contents() == ["fitted", "random"]
    boxes = [frame.locator(".side").nth(index).bounding_box() for index in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[1]["x"] >= boxes[0]["x"] + boxes[0]["width"] - 1
    # The second follows the first, in position and while it plays.
    clocks = frame.locator(".side .clock")
    frame.get_by_role("slider", name="Position").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    texts = clocks.all_text_contents()
    assert texts[0] == texts[1]
    assert texts[0].startswith("0:01.0")
    # One run at two steps.
    frame.get_by_role("radio", name="fitted on side B").check()
    frame.get_by_role("slider", name="Step of side B").focus()
    page.keyboard.press("Home")
    frame.locator(".side[data-step='1']").wait_for(timeout=SLOW)
    assert frame.locator(".side h2").all_text_contents() == ["fitted", "fitted"]
    assert [frame.locator(".side").nth(index).get_attribute("data-step") for index in (0, 1)] == ["8", "1"]
    assert page.errors == []


def test_new_steps_appear_when_tensorboard_reloads(open_tab: Callable[..., Any], logdir: Path) -> None:
    page, frame = open_tab("&p.keras_tagger.run=random")
    output = frame.locator(".steps output")
    output.filter(has_text="20 (2 of 2)").wait_for(timeout=SLOW)
    writer = tf.summary.create_file_writer(str(logdir / "random"), filename_suffix=".more")
    name = frame.locator(".toolbar select").input_value()
    log_explanation(writer, tiny.random_tagger(seed=1), (tiny.noise(32000), tiny.RATE), 30, name=name)
    writer.close()
    for _ in range(20):
        page.wait_for_timeout(1000)
        page.locator("app-header-reload button").click()
        if "30 (3 of 3)" in output.text_content():
            break
    # Who looks at the newest step is shown the new one.
    assert "30 (3 of 3)" in output.text_content()


def test_hostile_names_are_text(open_tab: Callable[..., Any]) -> None:
    page, frame = open_tab("&p.keras_tagger.run=random")
    frame.locator(".toolbar select").select_option(HOSTILE)
    frame.locator(".side[data-step='10']").wait_for(timeout=SLOW)
    assert frame.locator(".chips li", has_text=HOSTILE).count() == 1
    assert frame.locator("img").count() == 0
    assert not page.evaluate("() => window.hacked")


def test_dark_as_tensorboard_and_narrow(open_tab: Callable[..., Any]) -> None:
    page, frame = open_tab(width=400, height=900)
    html = frame.locator("html")
    assert html.get_attribute("data-theme") == "light"
    page.evaluate("() => document.body.classList.add('dark-mode')")
    page.wait_for_timeout(300)
    assert html.get_attribute("data-theme") == "dark"
    assert frame.locator("section.player").get_attribute("data-theme") == "dark"
    assert html.evaluate("(one) => one.scrollWidth <= one.clientWidth")


def test_nothing_serious_for_axe(address: str, open_page: Callable[..., Any]) -> None:
    pytest.importorskip("axe_playwright_python")
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(f"{address}data/plugin_entry.html?name=keras_tagger", width=1200)
    page.locator(".side[data-step]").wait_for(timeout=SLOW)
    page.get_by_role("button", name="Compare").click()
    page.locator(".side[data-step]").nth(1).wait_for(timeout=SLOW)
    found = Axe().run(page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []


def test_without_clips_the_tab_says_how_to_log(tmp_path: Path, open_page: Callable[..., Any]) -> None:
    page = open_page(f"{start(tmp_path)}data/plugin_entry.html?name=keras_tagger")
    page.get_by_text("No run here has clips to listen to yet.").wait_for(timeout=SLOW)
    assert "log_explanation(writer" in page.locator("pre").text_content()
    # The page alone, without TensorBoard's, has no icon.
    assert [text for text in page.errors if "404" not in text] == []
