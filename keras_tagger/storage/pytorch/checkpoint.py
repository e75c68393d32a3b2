"""Convert PyTorch checkpoints of the published models to this package's models."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.config import config_from_dict
from keras_tagger.data.datasets.vocabularies import CALS_50, JAMENDO_50, MSD_50, MTAT_50
from keras_tagger.errors import ConfigError, ModelError, ModelNotFoundError
from keras_tagger.files import hidden_folder, write_json, write_text
from keras_tagger.storage.loading import save_model
from keras_tagger.storage.pytorch.architectures import ARCHITECTURES, Architecture
from keras_tagger.storage.pytorch.pytorch_file import read_tensors, state_dict
from keras_tagger.storage.pytorch.tensors import Tensors
from keras_tagger.storage.run_dir import RunDir
from keras_tagger.tags import info_to_json

if TYPE_CHECKING:
    from keras_tagger.config.sections import EncoderConfig
    from keras_tagger.models.trained import TrainedModel

# Prefixes that wrappers put before every name: DataParallel, Lightning modules, torch.compile.
_PREFIXES = ("module.", "network.", "model.", "_orig_mod.")
# The checkpoint of a noisy student also contains its teacher.
_TEACHERS = ("teacher_network.", "teacher.")
# The constants of torchaudio's spectrogram, which old versions left empty.
_SPECTROGRAM = ("spec.spectrogram.window", "spec.mel_scale.fb")
_ROUNDING = 1e-3
# Up to this many weights, a model is built to report which tensors are missing, whatever the checkpoint holds.
_MOST_WEIGHTS = 100_000_000
_MOST_NAMES, _MOST_LETTERS = 4, 120


def read_checkpoint(
    path: str | os.PathLike[str],
    architecture: str,
    tags: str | os.PathLike[str] | Sequence[str],
    out: str | os.PathLike[str] | None = None,
) -> TrainedModel:
    """Read a PyTorch checkpoint of a published model. PyTorch is not needed, and nothing in the file is run.

    Sizes (channels, width, layers, outputs) come from the tensors, everything else from the preset. Every tensor must
    be used: a bias before batch norm is subtracted from its mean, counters of batches are ignored, and a spectrogram's
    window and filterbank are taken if they equal the preset's up to rounding.

    Args:
        path: A file of `torch.save` (.pth, .pt, .ckpt) with named tensors, at its top level or below "state_dict",
            "model_state_dict" or "model".
        architecture: "won2019", "won2019_raw", "won2020" or "won2021" (teacher or student).
        tags: The names of the outputs in order, a file with one name per line, or "mtat", "msd" (for won2021: the 50
            tags of CALS) or "jamendo".
        out: A new directory to write, which `keras_tagger.load` reads, or None.

    Raises:
        ModelNotFoundError: If the file does not exist.
        ModelError: If the file is damaged, unsafe or of another model, the number of tags differs from the number of
            outputs, or the directory is not empty. Nothing is written then.

    Example:
        >>> keras_tagger.import_checkpoint("won2020.pth", "won2020", "mtat", out="runs/won2020")
    """
    if architecture not in ARCHITECTURES:
        raise ModelError(f"architecture: expected one of {', '.join(ARCHITECTURES)}. Received: {architecture!r}.")
    if out is not None:
        _check_free(Path(out))
    names = _vocabulary(tags, architecture)
    values = _stripped(state_dict(read_tensors(path), path))
    kind = ARCHITECTURES[architecture]
    tagger, unused = _build(kind, values, names, path)
    if out is not None:
        _write(tagger, Path(out), path, kind, len(values), unused)
    return tagger


def _vocabulary(tags: str | os.PathLike[str] | Sequence[str], architecture: str) -> tuple[str, ...]:
    named = {"mtat": MTAT_50, "msd": CALS_50 if architecture == "won2021" else MSD_50, "jamendo": JAMENDO_50}
    if isinstance(tags, str) and tags in named:
        return named[tags]
    if not isinstance(tags, str | os.PathLike):
        names = tuple(tags)
    else:
        try:
            text = Path(tags).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise ModelNotFoundError(
                f"tags: expected {', '.join(named)} or a file with a tag per line. Received: {str(tags)!r} ({reason})."
            ) from None
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
    wrong = next(
        (name for name in names if not isinstance(name, str) or not name.strip() or _printable(name) != name), ""
    )
    if wrong or not all(names):
        raise ModelError(f"tags: expected names without line breaks. Received: {wrong!r}.")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated or not names:
        raise ModelError(
            "tags: expected at least one name and no duplicates. "
            f"Received: {f'{_some(repeated)} more than once' if repeated else 'none'}."
        )
    return names


def _stripped(values: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Remove the teacher's tensors and the prefixes of wrappers."""
    kept = {name: value for name, value in values.items() if not name.startswith(_TEACHERS)}
    while True:
        prefix = next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in kept)), None)
        if prefix is None or not kept:
            return kept
        kept = {name[len(prefix) :]: value for name, value in kept.items()}


def _build(
    kind: Architecture, values: dict[str, npt.NDArray[Any]], names: tuple[str, ...], path: str | os.PathLike[str]
) -> tuple[TrainedModel, list[str]]:
    """Build the model; also return the names of tensors that hold nothing learnt."""
    from keras_tagger.models.music_tagger import MusicTagger
    from keras_tagger.models.trained import TrainedModel

    if kind.mark not in values:
        other = next((other.preset for other in ARCHITECTURES.values() if other.mark in values), None)
        hint = f"with those of {other}" if other else f"without {kind.mark}, but with {_some(list(values))}"
        raise ModelError(f"expected the tensors of {kind.preset}. Received: {path}, {hint}.")
    output = values.get(kind.output)
    if output is not None and output.ndim and output.shape[0] != len(names):
        raise ModelError(
            f"tags: expected {output.shape[0]} names, one per output of {path}. Received: {len(names)} names."
        )
    try:
        model_changes = kind.configure(values)
        if all(values.get(name, np.empty(0)).size for name in _SPECTROGRAM):
            model_changes["spectrogram"] = {**model_changes.get("spectrogram", {}), "stored": True}
        config = config_from_dict({"name": kind.preset, "preset": kind.preset, "model": model_changes})
        _check_size(config.model.encoder, values)
        model = MusicTagger(names, config.audio, config.model)
        model.build()
    except (ConfigError, ValueError) as error:
        raise ModelError(f"expected the tensors of {kind.preset}. Received: {path} ({error})") from None
    tensors = Tensors(values)
    kind.fill(tensors, model)
    _fill_spectrogram(tensors, model.spectrogram, path)
    unused = tensors.ignore(lambda name: name.startswith("spec.") or name.endswith(".num_batches_tracked"))
    problems = [
        f"{len(found)} {what} ({_some(found)})"
        for found, what in (
            (tensors.missing, "missing"),
            (tensors.wrong, "with unexpected values or shapes"),
            (tensors.left_over, "left over"),
        )
        if found
    ]
    if problems:
        raise ModelError(
            f"expected exactly the tensors of {kind.preset}. Received: {path}, with {'; '.join(problems)}."
        )
    tensors.assign()
    return TrainedModel(model, config), unused


def _check_size(encoder: EncoderConfig, values: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise ValueError if a few tensors ask for a Transformer far larger than the file."""
    needed = encoder.n_layers * encoder.width * (4 * encoder.width + 2 * encoder.feed_forward)
    held = sum(value.size for value in values.values())
    if needed > max(_MOST_WEIGHTS, 10 * held):
        raise ValueError(
            f"{encoder.n_layers} layers of width {encoder.width} and {encoder.feed_forward} need {needed:,} weights, "
            f"but the file holds {held:,} numbers"
        )


def _fill_spectrogram(tensors: Tensors, spectrogram: Any, path: str | os.PathLike[str]) -> None:
    """Take the window and filterbank, which must equal the preset's up to rounding."""
    if not spectrogram.stored:
        return
    for name, variable in zip(_SPECTROGRAM, (spectrogram.window, spectrogram.bands), strict=True):
        given, expected = tensors.values[name], variable.numpy()
        if given.shape == expected.shape and np.abs(given - expected).max() > _ROUNDING:
            raise ModelError(
                f"expected {name} to equal that of the preset. Received: {path}, trained with another spectrogram."
            )
        tensors.vector(variable, name, expected.shape)


def _some(names: Sequence[str]) -> str:
    more = [f"and {len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    return ", ".join([*(_printable(name)[:_MOST_LETTERS] for name in names[:_MOST_NAMES]), *more])


def _printable(name: str) -> str:
    """Replace line breaks and other unprintable characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"out: expected a new or empty directory. Received: {out}, which is not empty.")


def _write(
    tagger: TrainedModel,
    out: Path,
    path: str | os.PathLike[str],
    kind: Architecture,
    n_tensors: int,
    unused: Sequence[str],
) -> None:
    """Write the directory under a hidden name, and rename it."""
    origin = {
        "architecture": kind.preset,
        "file": Path(path).name,
        "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        "tensors": n_tensors,
        "without_use": sorted(unused),
    }
    try:
        with hidden_folder(out.parent, "import") as temporary:
            run_dir = RunDir(temporary)
            save_model(tagger, run_dir.model)
            write_text(run_dir.config, tagger.config.to_yaml())
            write_text(run_dir.tags_text, "".join(f"{tag}\n" for tag in tagger.tags))
            write_text(run_dir.tags_json, info_to_json(tagger.tags, tagger.info))
            write_json(run_dir.imported, origin, indent=2)
            # An empty directory is replaced. One that was filled in the meantime makes this fail.
            os.rename(temporary, out)
    except OSError as error:
        raise ModelError(f"out: expected a directory to write. Received: {out} ({error.strerror}).") from None
