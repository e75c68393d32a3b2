"""Write a page that tags a file in the browser, with no server behind it: the model as ONNX, and onnxruntime-web.

    (cd tools/page && npm ci)
    python tools/browser_page.py compact build/page
    python -m http.server --directory build/page

The folder can be put on any web server that serves files. The page is not in the wheel, because the runtime alone takes
14 MB. Not part of the package.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app

from keras_tagger.export.formats import export_format
from keras_tagger.files import write_json
from keras_tagger.storage.loading import load_model
from keras_tagger.tags import NO_VOICES, VOICES

if TYPE_CHECKING:
    from keras_tagger.models.trained import TrainedModel

SOURCES = Path(__file__).parent / "page"


def write_page(trained: TrainedModel, folder: Path, precision: str = "float16") -> Path:
    """Write the page of a model.

    Args:
        trained: The model.
        folder: Where to write; it is created if it does not exist.
        precision: How the weights are stored.

    Returns:
        The page, `index.html`.
    """
    subprocess.run(["node", "build.mjs", str(folder.resolve())], cwd=SOURCES, check=True)
    shutil.move(export_format(trained, folder, "onnx", precision).path, folder / "model.onnx")
    write_json(folder / "model.json", facts(trained, precision))
    return folder / "index.html"


def facts(trained: TrainedModel, precision: str) -> dict[str, Any]:
    """Return what the page must know about a model.

    Args:
        trained: The model.
        precision: How its weights are stored.
    """
    model = trained.model
    families = {**dict.fromkeys(VOICES, "voices"), **dict.fromkeys(NO_VOICES, "no voices")}
    return {
        "name": trained.config.name,
        "precision": precision,
        "sample_rate": model.audio_config.sample_rate,
        "window_samples": model.window_samples,
        "token_samples": model.token_samples,
        "hop_length": model.spectrogram.hop_length,
        "layers": model.model_config.encoder.n_layers,
        "hz": [round(float(hz), 1) for hz in model.spectrogram.mel_frequencies()],
        "tags": [
            {
                "name": tag,
                "threshold": trained.info[tag].threshold,
                "heard": trained.info[tag].has_evidence,
                "family": families.get(tag),
            }
            for tag in trained.tags
        ],
    }


def main(argv: list[str]) -> None:
    """Write the page of the model that the command line names."""
    if len(argv) != 3:
        sys.exit("expected MODEL and a folder, such as: python tools/browser_page.py compact build/page")
    print(write_page(load_model(argv[1]), Path(argv[2])))


if __name__ == "__main__":
    app.run(main)
