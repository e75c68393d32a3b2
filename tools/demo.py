"""Run every step in about a minute: tag, fit, look, export, serve, request. `make demo` runs it.

It tags the seven clips in the package with the shipped weights, fine-tunes the weights on the clips' own tags
(the configuration `finetune`), and writes the results to --out_dir.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from absl import app, flags

import keras_tagger as kt
from keras_tagger.cli.app import log_plainly
from keras_tagger.cli.flags import DEFAULT_MODEL

FLAGS = flags.FLAGS

CLIP = "flute_solo.ogg"
PRETRAINED = DEFAULT_MODEL


def define_flags() -> None:
    """Define the program's flags, except when a test imports this module."""
    flags.DEFINE_string("out_dir", "demo", "Directory for the results; replaces those of an earlier demo.")
    flags.DEFINE_string("config", "finetune", "Configuration to train.")


def main(argv: Sequence[str]) -> None:
    """Run the steps in order and print their results."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    log_plainly()
    started = time.monotonic()
    out = Path(FLAGS.out_dir)
    run_dir, exported, heatmap = out / "run", out / "exported", out / "heatmap.png"
    for old in (run_dir, exported, out / "prepared"):
        shutil.rmtree(old, ignore_errors=True)
    clip = Path(str(resources.files("keras_tagger") / "clips" / CLIP))

    step("tag: seven clips, with the shipped weights")
    tagger = kt.load(PRETRAINED)
    for path in sorted(clip.parent.glob("*.ogg")):
        print(f"{path.stem:<20} {tagger.tag(path, top=5, merge_synonyms=True)}")

    step("fit: fine-tune the shipped weights on the tags of these clips")
    run = kt.fit(kt.load_config(FLAGS.config, {"data.prepared_dir": str(out / "prepared")}), run_dir=run_dir)
    print(run.report)
    print(
        "These are the training clips: the scores show that the model has learnt them, not how well it tags new music."
    )

    step(f"tag: {CLIP}, with the new model")
    tags = run.tagger.tag(clip, top=5)
    print(tags)

    step(f"look: {heatmap}")
    draw(run.tagger, clip, heatmap)

    step("export: a SavedModel")
    version = run.tagger.export(exported)

    step("serve and request: gRPC")
    served, answer = serve_and_ask(exported, clip, out)
    worst = max(abs(served[name] - score) for name, score in tags.to_dict().items())
    print("tags from the server:", ", ".join(f"{name} {score:.2f}" for name, score in served.items()))
    print(f"largest difference from the tags above: {worst:.1e}")
    times, heat = answer["times"], answer["heatmap"]
    peak = max(range(len(heat)), key=heat.__getitem__)
    print(f"attention from the server: {len(heat)} tokens, the highest at {times[peak]:.2f} s")

    step(f"done in {time.monotonic() - started:.0f} s")
    made = {
        run_dir / "model.keras": "the model; kt.load reads the run directory",
        run_dir / "report.json": "its scores",
        run_dir / "logs": "metrics, pictures and audio for TensorBoard",
        heatmap: "spectrogram, attention and contributions of a clip",
        version: "the SavedModel for TensorFlow Serving",
        out / "server.log": "the server's log",
    }
    missing = [path for path in made if not path.exists()]
    if missing:
        sys.exit(f"demo: expected {missing[0]}. Received: no such file.")
    width = max(len(str(path)) for path in made)
    for path, what in made.items():
        print(f"  {path!s:<{width}}  {what}")
    scripts = Path(sys.executable).parent
    print(f"\nTo look at the training: {shown(scripts / 'tensorboard')} --logdir {run_dir / 'logs'}")
    print(f"To tag your own music:   {shown(scripts / 'keras-tagger')} tag YOUR.mp3 --model {run_dir}")


def step(title: str) -> None:
    """Announce a step; flushed, so that it stays in order with stderr."""
    print(f"\n== {title}", flush=True)


def draw(tagger: kt.Tagger, clip: Path, path: Path) -> None:
    """Draw the spectrogram, attention and contributions of a clip."""
    from keras_tagger.files import replacing
    from keras_tagger.views.preview import figure_to_png, make_preview, preview_figure

    picture = figure_to_png(preview_figure(make_preview(tagger, clip, clip.stem, truth_of(clip))))
    with replacing(path) as temporary:
        temporary.write_bytes(picture)


def truth_of(clip: Path) -> list[str]:
    """Return the tags of a shipped clip."""
    from keras_tagger.data import read_manifest

    manifest = read_manifest(clip.parent / "manifest.csv")
    return next(list(entry.tags) for entry in manifest.clips if Path(entry.path).name == clip.name)


def serve_and_ask(exported: Path, clip: Path, out: Path) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Start `keras-tagger serve`, send requests with `keras-tagger request`, and stop the server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "keras_tagger"]
    with open(out / "server.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen([*command, "serve", str(exported), "--port", str(port)], stderr=log)
        try:
            wait_for(server, port)
            ask = [*command, "request", str(clip), "--server", f"127.0.0.1:{port}", "--json"]
            tags = json.loads(subprocess.run([*ask, "--top", "5"], check=True, stdout=subprocess.PIPE).stdout)
            attention = json.loads(
                subprocess.run([*ask, "--signature", "attention"], check=True, stdout=subprocess.PIPE).stdout
            )
        finally:
            server.terminate()
            server.wait(timeout=60)
    return tags["tags"], attention["attention"]


def wait_for(server: subprocess.Popen[bytes], port: int, seconds: float = 120.0) -> None:
    """Wait until the server accepts connections."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            sys.exit(f"demo: expected a running server. Received: exit status {server.returncode}.")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"demo: expected a server within {seconds:.0f} s. Received: none.")


def shown(path: Path) -> str:
    """Return a path as you would type it in the current directory."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


if __name__ == "__main__":
    define_flags()
    app.run(main)
