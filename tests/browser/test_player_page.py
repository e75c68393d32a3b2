"""The player in a browser, opened from disk as a reader would."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_clip import FIRST_HZ, HOSTILE, HZ_PER_SECOND, KEPT, SECONDS, TOKEN, document

from keras_tagger.views.player import element, fragment, index_page, page, scripts

PLAYER = "document.querySelector('.keras-tagger-player').player"
# Hears what reaches the loudspeakers: the pitch of the tone, its level, what else there is, and how many sources play.
EAR = """
window.sources = new Set(); window.most = 0; window.starts = 0;
const {start, stop} = AudioBufferSourceNode.prototype;
AudioBufferSourceNode.prototype.start = function (...rest) {
  window.starts++; sources.add(this); window.most = Math.max(window.most, sources.size); return start.apply(this, rest);
};
AudioBufferSourceNode.prototype.stop = function (...rest) { sources.delete(this); return stop.apply(this, rest); };
const {connect} = AudioNode.prototype;
AudioNode.prototype.connect = function (to, ...rest) {
  if (to instanceof AudioDestinationNode) {
    window.ear ??= Object.assign(new AnalyserNode(this.context, {fftSize: 2048, smoothingTimeConstant: 0}), {});
    connect.call(this, window.ear);
  }
  return connect.call(this, to, ...rest);
};
window.listen = () => {
  const ear = window.ear, context = ear.context, bins = new Float32Array(ear.frequencyBinCount);
  ear.getFloatFrequencyData(bins);
  let best = 1;
  for (let i = 1; i < bins.length - 1; i++) if (bins[i] > bins[best]) best = i;
  let other = -200;
  for (let i = 1; i < bins.length - 1; i++) if (Math.abs(i - best) > 12 && bins[i] > other) other = bins[i];
  const [a, b, c] = [bins[best - 1], bins[best], bins[best + 1]];
  const place = best + (0.5 * (a - c)) / (a - 2 * b + c);
  const latency = context.outputLatency || context.baseLatency || 0;
  return {hz: (place * context.sampleRate) / ear.fftSize, level: b, other,
          delay: ear.fftSize / context.sampleRate / 2 - latency, time: PLAYER.time};
};
window.hear = async (seconds) => {
  const found = [];
  const end = performance.now() + 1000 * seconds;
  while (performance.now() < end || !found.length) {
    await new Promise((done) => setTimeout(done, 30));
    const before = performance.now(), one = listen();
    if (performance.now() - before < 10) found.push(one);  // else the machine was busy with something else
  }
  return found;
};
window.hearFrom = async (place, seconds) => {
  PLAYER.seek(place);
  await new Promise((done) => setTimeout(done, 80));
  return hear(seconds);
};
""".replace("PLAYER", PLAYER)
LOUD = -60.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page on disk with one player."""
    path = tmp_path_factory.mktemp("player") / "why <&>.html"
    path.write_text(page([document()], "tone"), "utf-8")
    return path.as_uri()


@pytest.fixture
def opened(open_page: Callable[..., Any], made: str) -> Any:
    """The page in a browser."""
    found = open_page(made, init_script=EAR)
    until(found, f"{PLAYER} !== undefined")
    yield found
    assert [url for url in found.requests if url != made] == []
    assert found.errors == []


def value(shown: Any, expression: str) -> Any:
    """A value of the player."""
    return shown.evaluate(f"{PLAYER}.{expression}")


def until(shown: Any, condition: str) -> None:
    """Wait for a condition; Playwright's own way evaluates text in the page, which its policy forbids."""
    for _ in range(250):
        if shown.evaluate(condition):
            return
        shown.wait_for_timeout(20)
    pytest.fail(f"never: {condition}")


def row(shown: Any, name: str) -> Any:
    """The row of a tag in the first lane."""
    return shown.get_by_role("listbox", name="contributions").get_by_role("option", name=name)


def late_by_ear(heard: list[dict[str, float]]) -> float:
    """How far the time that the tone tells is from the player's, in seconds; the median, as the machine may be busy."""
    told = [(one["hz"] - FIRST_HZ) / HZ_PER_SECOND + one["delay"] - one["time"] for one in heard]
    return statistics.median(map(abs, told))


def playhead(shown: Any) -> float:
    """The time at which the playhead stands, measured on the screen, with the whole clip in view."""
    return shown.evaluate(
        """(seconds) => {
        const root = document.querySelector('.keras-tagger-player').shadowRoot;
        const plot = root.querySelector('[aria-label^=Waveform]').getBoundingClientRect();
        const head = root.querySelector('.head').getBoundingClientRect();
        return seconds * ((head.left + head.right) / 2 - plot.left) / plot.width; }""",
        SECONDS,
    )


def test_it_plays_and_the_playhead_agrees_with_the_sound(opened: Any) -> None:
    opened.get_by_role("button", name="Play").click()
    until(opened, f"{PLAYER}.time > 0.3")
    heard = opened.evaluate("hear(1.0)")
    assert all(one["level"] > LOUD for one in heard)
    assert late_by_ear(heard) < 0.03
    # The line is drawn once a frame.
    late = opened.evaluate(
        """(async () => { const root = document.querySelector('.keras-tagger-player').shadowRoot; const found = [];
        for (let i = 0; i < 10; i++) { await new Promise(requestAnimationFrame);
          const plot = root.querySelector('[aria-label^=Waveform]').getBoundingClientRect();
          const head = root.querySelector('.head').getBoundingClientRect();
          found.push(SECONDS * ((head.left + head.right) / 2 - plot.left) / plot.width - PLAYER.time); }
        return found; })()""".replace("PLAYER", PLAYER).replace("SECONDS", str(SECONDS))
    )
    assert statistics.median(map(abs, late)) < 0.03
    opened.get_by_role("button", name="Pause").click()
    assert value(opened, "playing") is False
    stopped = value(opened, "time")
    assert abs(playhead(opened) - stopped) < 0.03
    opened.wait_for_timeout(100)
    assert value(opened, "time") == stopped
    assert opened.evaluate("[most, sources.size]") == [1, 0]


def test_a_click_and_a_drag_seek(opened: Any) -> None:
    canvas = opened.get_by_role("img", name="Waveform")
    box = canvas.bounding_box()
    for share in (0.25, 0.8):
        canvas.click(position={"x": share * box["width"], "y": 20})
        assert abs(value(opened, "time") - share * SECONDS) < 0.05
        opened.wait_for_timeout(50)
        assert abs(playhead(opened) - share * SECONDS) < 0.05
    opened.mouse.down()
    opened.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20, steps=3)
    opened.mouse.up()
    assert abs(value(opened, "time") - 0.5 * SECONDS) < 0.05
    assert value(opened, "playing") is False


def test_solo_is_in_step_and_there_is_one_sound(opened: Any) -> None:
    row(opened, "guitar").focus()
    kept = opened.get_by_role("button", name="Kept")
    kept.click()
    assert kept.get_attribute("aria-pressed") == "true"
    value(opened, "play()")
    for name, inside in (("Kept", True), ("Removed", False)):
        opened.get_by_role("button", name=name).click()
        sides, clear = set(), []
        for _ in range(5):  # a busy machine hears little in a second
            for one in opened.evaluate(f"hearFrom({KEPT[0] - 0.8}, 1.2)"):
                place = one["time"] - one["delay"]
                # Half of what the ear hears at once, and 30 ms.
                if abs(place - KEPT[0]) < 0.055:
                    continue
                sides.add(place > KEPT[0])
                assert (one["level"] > LOUD) == ((place > KEPT[0]) == inside), (name, one)
                if one["level"] > LOUD:
                    clear.append(one)
                    assert one["other"] < one["level"] - 15  # a second sound would be as loud
            if len(sides) == 2:
                break
        assert sides == {False, True}
        assert late_by_ear(clear) < 0.03
    opened.keyboard.press("Escape")
    assert opened.get_by_role("button", name="Clip", exact=True).get_attribute("aria-pressed") == "true"
    assert opened.evaluate("[most, sources.size]") == [1, 1]
    value(opened, "pause()")


def test_solo_of_a_map_over_frequency_needs_its_audio(open_page: Callable[..., Any], tmp_path: Path) -> None:
    clip = document()
    tone = clip["audio"]["url"]
    for solo in ({}, {"solo": {"gradients": {"guitar": {"kept": tone, "removed": tone}}}}):
        path = tmp_path / "solo.html"
        path.write_text(page([clip | solo], "solo"), "utf-8")
        shown = open_page(path.as_uri(), init_script=EAR)
        shown.get_by_label("Map over the spectrogram").select_option(label="guitar")
        shown.get_by_label("Map over the spectrogram").dispatch_event("change")
        value(shown, "play()")
        shown.get_by_role("button", name="Removed").click()
        chosen = shown.get_by_role("button", name="Removed").get_attribute("aria-pressed")
        said = shown.get_by_role("status").text_content()
        assert (chosen, "when asked for" in said) == (("true", False) if solo else ("false", True))
        shown.wait_for_timeout(100)
        assert shown.evaluate("[most, sources.size]") == [1, 1]


def test_hostile_names_are_text(opened: Any) -> None:
    opened.wait_for_timeout(100)
    assert opened.evaluate("window.hacked") is None
    assert row(opened, HOSTILE).count() == 1
    assert opened.get_by_role("heading", name="tone <b>.wav").count() == 1
    assert (
        opened.evaluate("document.querySelector('.keras-tagger-player').shadowRoot.querySelectorAll('img, b').length")
        == 0
    )


def test_the_page_may_not_ask_the_network(open_page: Callable[..., Any], made: str) -> None:
    shown = open_page(made)
    failed = shown.evaluate("fetch('http://127.0.0.1:9/').then(() => 'asked', () => 'refused')")
    assert failed == "refused"
    assert any("Content Security Policy" in error for error in shown.errors)


def test_the_keyboard_reaches_everything(opened: Any) -> None:
    press, time = opened.keyboard.press, lambda: value(opened, "time")
    names = set()
    press("End")  # without a click into the player
    assert time() == pytest.approx(SECONDS)
    press("Home")
    for _ in range(40):
        press("Tab")
        name = opened.evaluate(
            """(() => { const one = document.querySelector('.keras-tagger-player').shadowRoot.activeElement;
            if (!one) return null;
            const style = getComputedStyle(one);
            const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
            return [one.getAttribute('aria-label') || one.textContent.trim(), seen]; })()"""
        )
        if name:
            names.add(name[0])
            assert name[1], f"the focus of {name[0]} cannot be seen"
    wanted = {"Play", "Zoom in", "Zoom out", "Clip", "Kept", "Removed", "Search tags and methods", "Position"}
    wanted |= {"Map over the spectrogram", "Opacity of the map", "contributions", "attention of [CLS]", "show all 15"}
    assert wanted <= names
    assert any(name.startswith("guitar, score 0.90, threshold 0.40, present") for name in names)

    opened.get_by_role("slider", name="Position").focus()
    press("ArrowRight")
    press("Shift+ArrowRight")
    press("Alt+ArrowLeft")
    assert time() == pytest.approx(6 - TOKEN)
    press("End")
    assert time() == pytest.approx(SECONDS)
    press("Home")
    assert time() == 0
    press("+")
    press("+")
    assert opened.evaluate(f"{PLAYER}.span") == pytest.approx(SECONDS / 4)
    press("-")
    press("0")
    assert opened.evaluate(f"{PLAYER}.span") == pytest.approx(SECONDS)
    row(opened, "guitar").focus()
    press("ArrowDown")
    assert row(opened, HOSTILE).get_attribute("aria-selected") == "true"
    press("ArrowUp")
    assert row(opened, "guitar").get_attribute("aria-selected") == "true"
    press("l")
    until(opened, f"{PLAYER}.playing")
    assert KEPT[0] - 0.1 < time() < KEPT[1]
    press("Space")
    assert value(opened, "playing") is False
    press("s")
    assert opened.get_by_role("button", name="Kept").get_attribute("aria-pressed") == "true"
    press("q")
    assert opened.get_by_role("listbox", name="where this moment looks").get_by_role("option").count() == 4
    press("/")
    opened.keyboard.type("tag 11")
    assert opened.get_by_role("listbox", name="contributions").get_by_role("option").count() == 1
    press("Escape")
    press("?")
    assert opened.get_by_role("dialog").is_visible()
    press("Escape")
    assert not opened.get_by_role("dialog").is_visible()


def test_a_name_loops_its_strongest_moments(opened: Any) -> None:
    row(opened, "guitar").click()
    until(opened, f"{PLAYER}.playing")
    assert KEPT[0] - 0.05 <= value(opened, "time") < KEPT[0] + 1
    value(opened, f"seek({KEPT[1] - 0.15})")
    opened.wait_for_timeout(400)
    assert KEPT[0] - 0.05 <= value(opened, "time") < KEPT[0] + 1
    opened.keyboard.press("l")
    value(opened, f"seek({KEPT[1] - 0.15})")
    opened.wait_for_timeout(400)
    assert value(opened, "time") > KEPT[1]


def test_hover_tells_seconds_hertz_value_and_meaning(opened: Any) -> None:
    tip = opened.locator(".tip")
    spectrogram = opened.get_by_role("img", name="Mel spectrogram")
    width = spectrogram.bounding_box()["width"]
    spectrogram.hover(position={"x": width / 2, "y": 5})
    assert "Hz" in tip.inner_text()
    assert f"{SECONDS / 2:.2f}"[:3] in tip.inner_text()
    rows = opened.get_by_role("img", name="contributions, 15 rows")
    rows.hover(position={"x": (5 / SECONDS) * width, "y": 8})
    assert "guitar 0.9" in tip.inner_text()
    assert "if only this moment counted" in tip.inner_text()
    opened.mouse.move(1, 1)
    assert not tip.is_visible()


def test_near_uniform_attention_looks_uniform(open_page: Callable[..., Any], tmp_path: Path) -> None:
    spreads = []
    for spread in (0.02, 1.0):
        path = tmp_path / "attention.html"
        path.write_text(page([document(attention=spread)], "attention"), "utf-8")
        shown = open_page(path.as_uri())
        canvas = shown.get_by_role("img", name="attention of [CLS]")
        canvas.scroll_into_view_if_needed()
        shown.wait_for_timeout(100)
        spreads.append(
            canvas.evaluate(
                """(canvas) => { const {data} = canvas.getContext('2d').getImageData(0, 8, canvas.width, 1);
                const reds = [...data].filter((_, i) => i % 4 === 0); return Math.max(...reds) - Math.min(...reds); }"""
            )
        )
        assert "uniform 0.01" in shown.get_by_role("group", name="attention of [CLS]").inner_text()
    assert spreads[0] < 6
    assert spreads[1] > 60


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (400, "dark")])
def test_axe_finds_nothing_serious(open_page: Callable[..., Any], made: str, width: int, scheme: str) -> None:
    pytest.importorskip("axe_playwright_python")
    from axe_playwright_python.sync_playwright import Axe

    # The checker is put into the page, which the page's policy forbids.
    shown = open_page(made, width=width, color_scheme=scheme, bypass_csp=True)
    row(shown, "guitar").focus()
    shown.keyboard.press("q")
    found = Axe().run(shown).response["violations"]
    assert [
        (one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")
    ] == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


def test_update_keeps_place_zoom_and_choices(open_page: Callable[..., Any], tmp_path: Path) -> None:
    """And a second player follows the first, and a moment's row may come from elsewhere."""
    first, second = document(), document(shift=2.0)
    bare = {"id": "query", "kind": "query", "layers": 2, "uniform": 0.01}
    asked = second | {"audio": first["audio"], "maps": [*second["maps"][:3], bare]}
    path = tmp_path / "two.html"
    path.write_text(
        f"<!doctype html><html lang=en><title>two</title><body>{element(first)}{scripts()}<p id=b>", "utf-8"
    )
    shown = open_page(path.as_uri(), init_script=EAR)
    until(shown, f"{PLAYER} !== undefined")
    shown.evaluate("(clip) => { window.second = clip }", asked)
    row(shown, "guitar").focus()
    value(shown, "seek(3)")
    shown.keyboard.press("+")
    value(shown, "play()")
    until(shown, f"{PLAYER}.playing && {PLAYER}.time > 3.1")
    moved, passed = shown.evaluate(
        f"""(() => {{ const [time, now] = [{PLAYER}.time, performance.now()]; {PLAYER}.update(second);
        return [{PLAYER}.time - time, (performance.now() - now) / 1000]; }})()"""
    )
    assert 0 <= moved < passed + 0.05
    assert value(shown, "playing") is True
    assert shown.evaluate("[starts, sources.size]") == [1, 1]  # the sound went on
    assert value(shown, "span") == pytest.approx(SECONDS / 2)
    assert row(shown, "guitar").get_attribute("aria-selected") == "true"
    value(shown, "pause()")
    shown.evaluate(
        f"""async () => {{
        const {{constructor}} = {PLAYER};
        window.events = [];
        window.follower = new constructor(document.getElementById('b'), second, {{clock: {PLAYER}, title: false,
          query: async (seconds) => [new Array(96).fill(0.02), new Array(96).fill(seconds / 1000)]}});
        follower.on('query', (one) => events.push(one));
        {PLAYER}.seek(7);
        }}"""
    )
    assert shown.evaluate("follower.time") == 7
    shown.evaluate("follower.seek(8)")
    assert value(shown, "time") == 8
    shown.evaluate("document.getElementById('b').shadowRoot.querySelector('.ruler').focus()")
    shown.keyboard.press("q")
    until(shown, "events.length > 0")
    assert shown.evaluate("events[0]") == {"seconds": 8, "token": 64}
    assert shown.evaluate("sources.size") == 0


def test_a_notebook_cell_plays(open_page: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "cell.html"
    path.write_text(f"<!doctype html><html lang=en><title>cell</title><body>{fragment(document())}", "utf-8")
    shown = open_page(path.as_uri())
    frame = shown.frame_locator("iframe")
    frame.get_by_role("button", name="Play").click()
    frame.get_by_role("button", name="Pause").wait_for()
    until(shown, "document.querySelector('iframe').clientHeight > 650")
    assert [url for url in shown.requests if url != path.as_uri() and not url.startswith("about:")] == []


def test_the_table_of_files_sorts_by_tag(open_page: Callable[..., Any], tmp_path: Path) -> None:
    rows = [
        {"name": "b.mp3", "href": "b/why.html", "seconds": 61.0, "scores": {"rock": 0.9, HOSTILE: 0.1}},
        {"name": "<i>a.mp3", "href": "a/why.html", "seconds": 30.0, "scores": {"rock": 0.2, HOSTILE: 0.8}},
    ]
    path = tmp_path / "index.html"
    path.write_text(index_page(rows, "Songs"), "utf-8")
    shown = open_page(path.as_uri(), width=400)
    files = shown.locator("tbody th")
    assert files.all_inner_texts() == ["b.mp3", "<i>a.mp3"]
    shown.get_by_label("Sort by tag").select_option(HOSTILE)
    assert files.all_inner_texts() == ["<i>a.mp3", "b.mp3"]
    shown.get_by_role("button", name="file").click()
    assert files.all_inner_texts() == ["<i>a.mp3", "b.mp3"]
    assert shown.get_by_role("link", name="b.mp3").get_attribute("href") == "b/why.html"
    assert shown.evaluate("window.hacked") is None
    assert shown.errors == []
