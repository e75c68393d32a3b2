"""Build the wheel of `keras-tagger-lite`: the part of the package that tags without TensorFlow.

    python tools/build_lite.py dist/

The modules are those of `keras_tagger`, taken from the same folder; only the metadata differ. What is left out are the
rooms that only work with TensorFlow and the demo clips. It has the same import name, so an environment has one of the
two distributions. Not part of the package.
"""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("clips", "evaluation", "layers", "teachers", "train", "views/board")
REQUIRES = (
    "numpy>=1.26",
    "soundfile>=0.12.1",
    "soxr>=0.3.7",
    "onnxruntime>=1.17",
    "absl-py>=2.1",
    "PyYAML>=6.0",
    "tqdm>=4.66",
)
EXTRAS = {"litert": "ai-edge-litert>=1.2", "av": "av>=14", "write": "mutagen>=1.47", "pages": "jinja2>=3.1"}


def lite_setup(whole: str) -> str:
    """Return the `setup.cfg` of the small distribution, made of that of the whole one.

    Args:
        whole: The text of the whole one's `setup.cfg`.
    """
    parser = configparser.ConfigParser(delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(whole)
    for section in parser.sections():
        if section not in (
            "metadata",
            "options",
            "options.packages.find",
            "options.package_data",
            "options.entry_points",
        ):
            parser.remove_section(section)
    parser["metadata"]["name"] = "keras-tagger-lite"
    parser["metadata"]["description"] = "Tag music with keras_tagger's models, without TensorFlow"
    parser["metadata"]["license_files"] = "\nLICENSE\nkeras_tagger/weights/ATTRIBUTION.md"
    parser.remove_option("options", "py_modules")
    parser["options"]["install_requires"] = "\n" + "\n".join(REQUIRES)
    parser["options.extras_require"] = {name: f"\n{what}" for name, what in EXTRAS.items()}
    parser.remove_option("options.entry_points", "tensorboard_plugins")
    parser["options"]["python_requires"] = ">=3.10"
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        parser.write(file)
        file.seek(0)
        return file.read()


def copy_package(target: Path) -> None:
    """Copy the part of the package that the small distribution has to a new folder."""
    package = ROOT / "keras_tagger"
    left_out = {package / room for room in LEFT_OUT}

    def ignored(parent: str, names: list[str]) -> set[str]:
        return {name for name in names if name in ("__pycache__", "node_modules") or Path(parent) / name in left_out}

    shutil.copytree(package, target, ignore=ignored)


def build(target: Path) -> Path:
    """Build the wheel.

    Args:
        target: The folder to write it to.

    Returns:
        Its path.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_package(folder / "keras_tagger")
        for file in ("README.md", "LICENSE", "pyproject.toml"):
            shutil.copy(ROOT / file, folder)
        (folder / "setup.cfg").write_text(lite_setup((ROOT / "setup.cfg").read_text("utf-8")), "utf-8")

        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*command, "--wheel-dir", str(target), str(folder)], check=True)
        return max(target.glob("keras_tagger_lite-*.whl"), key=lambda path: path.stat().st_mtime)


def main() -> None:
    """Build into the folder that the command line names."""
    wheel = build(Path(sys.argv[1] if len(sys.argv) > 1 else "dist"))
    print(f"{wheel} {wheel.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
