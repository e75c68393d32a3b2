"""The page that tags a file on the client: its tags are Python's, and nothing but its own files is asked for."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import soundfile

import browser_page
from keras_tagger.audio import load

CLIP = Path(str(resources.files("keras_tagger"))) / "clips" / "rock_guitar_war.ogg"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def page_url(music: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not (browser_page.SOURCES / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip("npm has not installed onnxruntime-web: (cd tools/page && npm ci)")
    pytest.importorskip("tf2onnx", reason="the extra onnx")
    folder = browser_page.write_page(music, tmp_path_factory.mktemp("page"), "float32").parent
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("rate", [44100, 16000])
def test_a_dropped_file_gets_the_tags_of_python(
    rate: int, page_url: str, open_page: Callable[..., Any], music: Any, tmp_path: Path
) -> None:
    clip_path = tmp_path / "clip.wav"
    soundfile.write(clip_path, load(CLIP, rate, end_seconds=5.3), rate)
    page = open_page(page_url)
    page.wait_for_selector("html[data-ready]", timeout=240_000)
    page.set_input_files("#file", clip_path)
    page.wait_for_selector("html[data-tagged]", timeout=240_000)
    found = page.evaluate("window.kerasTagger.tags")
    expected = dict(zip(music.tags, music.scores(clip_path), strict=True))
    assert found == pytest.approx({name: float(score) for name, score in expected.items()}, abs=1e-3)
    clip = page.evaluate("window.kerasTagger.clip")
    assert clip["seconds"] == pytest.approx(5.3, abs=0.001)
    heat = music.contributions(clip_path)
    contributions, heads = clip["maps"]
    assert contributions["values"]["shape"] == list(heat.values.shape)
    assert contributions["values"]["range"][1] == pytest.approx(float(heat.values.max()), abs=5e-3)
    assert heads["values"]["shape"][0] == 4
    present = {tag["name"] for tag in clip["tags"] if tag["present"]}
    assert present == {entry.name for entry in music.tag(clip_path, top=None) if entry.present}
    assert page.locator("#player canvas").count() > 0
    assert all(url.startswith((page_url, "blob:")) for url in page.requests)
    assert page.errors == []


def test_what_is_not_audio_gets_one_sentence(page_url: str, open_page: Callable[..., Any], tmp_path: Path) -> None:
    page = open_page(page_url)
    (tmp_path / "notes.txt").write_text("no sound")
    page.set_input_files("#file", tmp_path / "notes.txt")
    told = page.locator("#status", has_text="Received: notes.txt")
    told.wait_for(timeout=240_000)
    assert told.text_content() == "expected audio that this browser can decode. Received: notes.txt."
