"""The README's commands and code, run in order in one folder as a reader would."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from keras_tagger.cli import main

ROOT = Path(__file__).parents[1]
CLIPS = ROOT / "keras_tagger" / "clips"


def blocks(page: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(bash|python)\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.guides
@pytest.mark.timeout(600)
def test_the_readme_works(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    ran = run_page("README.md", tmp_path)
    assert ran == [
        *("tag", "tag", "tag", "python", "write", "playlist", "fit", "tag"),
        *("export", "serve", "request", "python", "explain"),
    ]
    assert_drawn(tmp_path / "served.png")


def run_page(page: str, tmp_path: Path, in_this_process: bool = False) -> list[str]:
    """Run a page's blocks of bash and Python in order, and return what ran.

    `fit` runs for two epochs only. Each block of Python and each command has a process of its own, as with a reader, or
    else all run in this process, which imports TensorFlow once; servers always have their own.
    """
    for tag, names in {"calm": ("ambient_strings", "flute_solo"), "loud": ("rock_guitar_war", "techno_dance")}.items():
        (tmp_path / "my_music" / tag).mkdir(parents=True)
        for name in names:
            shutil.copy(CLIPS / f"{name}.ogg", tmp_path / "my_music" / tag)
    shutil.copytree(tmp_path / "my_music", tmp_path / "test_music")
    for name in ("song.mp3", "one.mp3", "two.mp3"):
        shutil.copy(CLIPS / "jazz_vibes.ogg", tmp_path / name)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    background = []
    ran = []
    try:
        for language, text in blocks(page):
            text = text.replace("8500", str(port))
            if language == "python":
                ran.append(language)
                if in_this_process:
                    with pytest.MonkeyPatch.context() as patch:
                        patch.chdir(tmp_path)
                        exec(compile(text, page, "exec"), {"__name__": "__main__"})
                    continue
                subprocess.run([sys.executable, "-c", text], cwd=tmp_path, env=environment, check=True)
                continue
            for line in text.splitlines():
                words = shlex.split(line)
                ran.append(words[0] if words[0] != "keras-tagger" else words[1])
                if words[0] == "tensorboard":
                    background.append(tensorboard_shows(words, tmp_path, environment))
                elif words[-1] == "&":
                    command = [sys.executable, "-m", "keras_tagger", *words[1:-1]]
                    background.append(subprocess.Popen(command, cwd=tmp_path, env=environment))
                    wait_for(port)
                else:
                    assert words[0] == "keras-tagger"
                    if words[1] == "fit" and "--set" not in words:
                        words += ["--set", "training.epochs=2"]  # four clips would be heard 30 times
                    stdin = (tmp_path / words.pop()).open("rb") if words[-2] == "<" else None
                    words = [word for word in words[1:] if word != "<"]
                    if in_this_process:
                        with pytest.MonkeyPatch.context() as patch:
                            patch.chdir(tmp_path)
                            if stdin is not None:
                                patch.setattr(sys, "stdin", io.TextIOWrapper(stdin))
                            assert main(words) == 0
                        continue
                    command = [sys.executable, "-m", "keras_tagger", *words]
                    subprocess.run(command, cwd=tmp_path, env=environment, stdin=stdin, check=True)
    finally:
        for process in background:
            process.terminate()
            process.wait(timeout=60)
    return ran


def assert_drawn(picture: Path) -> None:
    """Assert that a file is a picture of the usual width with something in it."""
    from matplotlib.image import imread

    pixels = imread(picture)
    assert pixels.shape[1] == 1000
    assert np.std(pixels) > 0.05


def wait_for(port: int, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"nothing listens on port {port}")


def tensorboard_shows(words: list[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start TensorBoard as the guide does, and ask it for the pictures of the runs."""
    import json
    import urllib.request

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", *words[1:], "--port", str(port), "--load_fast", "false"]
    process = subprocess.Popen(command, cwd=folder, env=environment)
    wait_for(port)
    end = time.monotonic() + 60
    images: dict[str, dict[str, object]] = {}
    while time.monotonic() < end and not {"demo/logs", "mine/logs"} <= set(images):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/plugin/images/tags") as answer:
            images = json.load(answer)
        time.sleep(0.5)
    assert {"demo/logs", "mine/logs"} <= set(images) <= {"demo/logs", "mine/logs", "tuned/logs"}
    assert all(tag.startswith("preview/") for run in images.values() for tag in run)
    return process
