"""Export to the formats of other runtimes. Every file is run in its runtime before it is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.audio import load
from keras_tagger.errors import ModelError
from keras_tagger.export.layout import PRECISIONS
from keras_tagger.files import replacing

if TYPE_CHECKING:
    from keras_tagger.models.trained import TrainedModel
    from keras_tagger.runtimes.portable import PortableModel

SUFFIXES = {"onnx": ".onnx", "litert": ".tflite"}

COMPARED = ("tags", "attention", "contributions")
TOLERANCES = {"float32": 1e-4, "float16": 1e-2, "int8": 5e-2}
"""The largest difference from Keras' tags with which a file is kept."""
MAPS = 4
"""How many times larger the differences of single cells of attention and contributions may be."""


@dataclass(frozen=True)
class Exported:
    """A file that was exported, run and kept.

    Attributes:
        path: The file.
        differences: The largest difference from Keras of each output, on the packaged clips.
    """

    path: Path
    differences: Mapping[str, float]

    def __str__(self) -> str:
        found = ", ".join(f"{name} {value:.1e}" for name, value in self.differences.items())
        return f"{self.path}\n  {self.path.stat().st_size / 1e6:.1f} MB; largest differences from Keras: {found}"


def export_format(
    trained: TrainedModel, directory: str | os.PathLike[str], kind: str, precision: str = "float32"
) -> Exported:
    """Write `directory/NAME.onnx` or `directory/NAME.tflite`; NAME is the configuration's, with the precision.

    The file is run in its own runtime on the packaged clips. If it differs from Keras by more than `TOLERANCES`, or
    does not run, it is removed.

    Args:
        trained: A `Tagger` or any other `TrainedModel`.
        directory: The folder; it is created if it does not exist. A file of that name is replaced.
        kind: "onnx" or "litert".
        precision: How weights are stored: "float32", "float16" or "int8".

    Raises:
        ModelError: If the format or the precision is unknown, what the format needs is not installed, the model cannot
            be converted, the file differs from Keras, or the directory cannot be written.

    Example:
        >>> print(export_format(keras_tagger.load("compact"), "exported", "onnx", "float16").path)
        exported/compact-float16.onnx
    """
    if kind not in SUFFIXES:
        raise ModelError(f"format: expected one of {', '.join(SUFFIXES)}. Received: {kind!r}.")
    if precision not in PRECISIONS:
        raise ModelError(f"precision: expected one of {', '.join(PRECISIONS)}. Received: {precision!r}.")
    write, read = _writer(kind), _reader(kind)
    name = trained.config.name + ("" if precision == "float32" else f"-{precision}")
    path = Path(directory) / f"{name}{SUFFIXES[kind]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(write(trained, precision))
            found = differences(trained, read(temporary)[0], packaged_windows(trained))
            check(found, precision, kind)
    except OSError as error:
        raise ModelError(f"expected a directory to export to. Received: {directory} ({error.strerror}).") from None
    return Exported(path, found)


def differences(
    trained: TrainedModel, portable: PortableModel, windows: Iterable[npt.NDArray[Any]]
) -> dict[str, float]:
    """Return the largest difference of each output in `COMPARED` on waveforms float32 `[B, samples]`."""
    worst = dict.fromkeys(COMPARED, 0.0)
    for waveforms in windows:
        expected, found = trained.model.analyze(waveforms, COMPARED), portable.analyze(waveforms, COMPARED)
        for name in COMPARED:
            one, other = np.asarray(expected[name]), found[name]
            apart = float(np.abs(one - other).max()) if one.shape == other.shape else float("inf")
            worst[name] = float(np.maximum(worst[name], apart))
    return worst


def check(found: Mapping[str, float], precision: str, kind: str) -> None:
    """Raise `ModelError` if the `differences` are larger than a precision allows.

    Args:
        found: The differences.
        precision: One of `TOLERANCES`.
        kind: Name of the format, for the error.
    """
    for output, value in found.items():
        most = TOLERANCES[precision] * (1 if output == "tags" else MAPS)
        # A difference that is not a number is not below the tolerance either.
        if not value <= most:
            raise ModelError(
                f"expected {output} that differ from Keras' by at most {most:g}. "
                f"Received: {value:.2g} from {kind} in {precision}; nothing is kept."
            )


def packaged_windows(trained: TrainedModel) -> list[npt.NDArray[Any]]:
    """Return the first window of each packaged clip, the last of them as a batch and in parts of a window."""
    size, rate = trained.model.window_samples, trained.model.audio_config.sample_rate
    clips = sorted((Path(str(resources.files("keras_tagger"))) / "clips").glob("*.ogg"))
    found = [load(clip, rate, end_seconds=size / rate)[np.newaxis, :size] for clip in clips]
    both = np.concatenate([wave[:, : min(map(len, (found[-1][0], found[-2][0])))] for wave in found[-2:]])
    return [*found[:-2], both, found[-1][:, : size * 2 // 3 + 1], found[-1][:, :1]]


def _writer(kind: str) -> Callable[[TrainedModel, str], bytes]:
    if kind == "onnx":
        from keras_tagger.export.to_onnx import onnx_bytes

        return onnx_bytes
    from keras_tagger.export.to_litert import litert_bytes

    return litert_bytes


def _reader(kind: str) -> Callable[[Path], tuple[PortableModel, Any]]:
    if kind == "onnx":
        from keras_tagger.runtimes import onnx_file

        return onnx_file.read
    from keras_tagger.runtimes import litert_file

    return litert_file.read
