"""`read_checkpoint`: one of the authors' PyTorch checkpoints as a tagger, and as a directory that `load` reads."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_tagger.config import ExperimentConfig, config_from_dict
from keras_tagger.data.datasets.vocabularies import CALS_50, JAMENDO_50, MSD_50, MTAT_50
from keras_tagger.errors import ConfigError, ModelError, ModelNotFoundError
from keras_tagger.storage.loading import save_model
from keras_tagger.storage.pytorch.architectures import ARCHITECTURES, Architecture
from keras_tagger.storage.pytorch.pytorch_file import read_tensors, state_dict
from keras_tagger.storage.pytorch.tensors import Tensors
from keras_tagger.tags import info_to_json

if TYPE_CHECKING:
    from keras_tagger.config.sections import EncoderConfig
    from keras_tagger.models.trained import TrainedModel

# Wrappers put these before all names: DataParallel, Lightning modules of the authors and of others, torch.compile.
_PREFIXES = ("module.", "network.", "model.", "_orig_mod.")
# A student of noisy training has its teacher beside it.
_TEACHERS = ("teacher_network.", "teacher.")
# What torchaudio keeps of its spectrogram: constants, which its old versions left empty.
_SPECTROGRAM = ("spec.spectrogram.window", "spec.mel_scale.fb")
_ROUNDING = 1e-3
# So many weights are made to say which of them are missing, whatever a checkpoint holds.
_MOST_WEIGHTS = 100_000_000
_MOST_NAMES, _MOST_LETTERS = 4, 120


def read_checkpoint(
    path: str | os.PathLike[str],
    architecture: str,
    tags: str | os.PathLike[str] | Sequence[str],
    out: str | os.PathLike[str] | None = None,
) -> TrainedModel:
    """Read a PyTorch checkpoint of the authors' models. PyTorch is not needed, and nothing in the file is run.

    Sizes (channels, width, layers, outputs) are those of the tensors; all else is the preset's. Every tensor must have
    its place: biases before batch norm go into its mean, the numbers of batches seen are left out, and the window and
    filterbank of a spectrogram are taken where they are the preset's but for rounding.

    Args:
        path: a file of `torch.save` (.pth, .pt, .ckpt): the named tensors, or those below "state_dict",
            "model_state_dict" or "model".
        architecture: "won2019", "won2019_raw", "won2020" or "won2021" (teacher or student).
        tags: names of the outputs in order, a file with one per line, or "mtat", "msd" (for won2021 the 50 of CALS) or
            "jamendo".
        out: a directory to write, which `load` reads; None for none.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelError: the file is damaged, unsafe or of another model, the tags are not as many as its outputs, or the
            directory is there already; nothing is written then.
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
                f"tags: expected {', '.join(named)} or a file of one tag per line. Received: {str(tags)!r} ({reason})."
            ) from None
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
    wrong = next(
        (name for name in names if not isinstance(name, str) or not name.strip() or _printable(name) != name), ""
    )
    if wrong or not all(names):
        raise ModelError(f"tags: expected names, each in a line of its own. Received: {wrong!r}.")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated or not names:
        raise ModelError(
            "tags: expected at least one name, each once. "
            f"Received: {f'{_some(repeated)} more than once' if repeated else 'none'}."
        )
    return names


def _stripped(values: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Without a teacher beside the model, and without what wrappers put before all names."""
    kept = {name: value for name, value in values.items() if not name.startswith(_TEACHERS)}
    while True:
        prefix = next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in kept)), None)
        if prefix is None or not kept:
            return kept
        kept = {name[len(prefix) :]: value for name, value in kept.items()}


def _build(
    kind: Architecture, values: dict[str, npt.NDArray[Any]], names: tuple[str, ...], path: str | os.PathLike[str]
) -> tuple[TrainedModel, list[str]]:
    """The tagger, and the names of the tensors that hold nothing learnt."""
    from keras_tagger.models.music_tagger import MusicTagger
    from keras_tagger.models.trained import TrainedModel

    if kind.mark not in values:
        other = next((other.preset for other in ARCHITECTURES.values() if other.mark in values), None)
        hint = f"those of {other}" if other else f"no tensor {kind.mark}, but {_some(list(values))}"
        raise ModelError(f"expected the tensors of {kind.preset}. Received: {path}, with {hint}.")
    output = values.get(kind.output)
    if output is not None and output.ndim and output.shape[0] != len(names):
        raise ModelError(
            f"tags: expected {output.shape[0]} names, as {path} has outputs. Received: {len(names)} names."
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
            (tensors.wrong, "of other values or shapes"),
            (tensors.left_over, "left over"),
        )
        if found
    ]
    if problems:
        raise ModelError(
            f"expected every tensor of {kind.preset} and no other. Received: {path}, with {'; '.join(problems)}."
        )
    tensors.assign()
    return TrainedModel(model, config), unused


def _check_size(encoder: EncoderConfig, values: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise ValueError where a few tensors ask for a Transformer far larger than all: it is not worth the memory."""
    needed = encoder.n_layers * encoder.width * (4 * encoder.width + 2 * encoder.feed_forward)
    held = sum(value.size for value in values.values())
    if needed > max(_MOST_WEIGHTS, 10 * held):
        raise ValueError(
            f"{encoder.n_layers} layers of width {encoder.width} and {encoder.feed_forward} have {needed:,} weights, "
            f"and it holds {held:,} numbers"
        )


def _fill_spectrogram(tensors: Tensors, spectrogram: Any, path: str | os.PathLike[str]) -> None:
    """Window and filterbank, where the checkpoint has both; they must be the preset's but for rounding."""
    if not spectrogram.stored:
        return
    for name, variable in zip(_SPECTROGRAM, (spectrogram.window, spectrogram.bands), strict=True):
        given, expected = tensors.values[name], variable.numpy()
        if given.shape == expected.shape and np.abs(given - expected).max() > _ROUNDING:
            raise ModelError(
                f"expected {name} as the preset's spectrogram has it. Received: {path}, trained on another spectrogram."
            )
        tensors.vector(variable, name, expected.shape)


def _some(names: Sequence[str]) -> str:
    more = [f"and {len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    return ", ".join([*(_printable(name)[:_MOST_LETTERS] for name in names[:_MOST_NAMES]), *more])


def _printable(name: str) -> str:
    """Without line ends and the like, which a file's names may have."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"out: expected a new or empty directory. Received: {out}, which holds something.")


def _write(
    tagger: TrainedModel,
    out: Path,
    path: str | os.PathLike[str],
    kind: Architecture,
    n_tensors: int,
    unused: Sequence[str],
) -> None:
    """Write the directory under a hidden name, and rename it."""
    config: ExperimentConfig = tagger.config
    origin = {
        "architecture": kind.preset,
        "file": Path(path).name,
        "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        "tensors": n_tensors,
        "without_use": sorted(unused),
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".import-", dir=out.parent))
    except OSError as error:
        raise ModelError(f"out: expected a directory to write. Received: {out} ({error.strerror}).") from None
    try:
        save_model(tagger, temporary / "model.keras")
        (temporary / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
        (temporary / "tags.txt").write_text("".join(f"{tag}\n" for tag in tagger.tags), encoding="utf-8")
        (temporary / "tags.json").write_text(info_to_json(tagger.tags, tagger.info), encoding="utf-8")
        (temporary / "imported.json").write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
        temporary.chmod(0o755)
        # Onto an empty directory too; onto one that somebody filled meanwhile it fails.
        os.rename(temporary, out)
    except OSError as error:
        raise ModelError(f"out: expected a directory to write. Received: {out} ({error.strerror}).") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
