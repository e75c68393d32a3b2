"""Make a model of the preset `pons` that answers almost as musicnn does, before any training.

    export PYTHONPATH=tools
    python -m pretrain.begin --out runs/begun.keras

The filters of both published sets of weights, MagnaTagATune's and the Million Song Dataset's, become one front-end.
Most of their filters are dead: batch normalisation's statistics say that they never changed on the music that they
were trained on. Those are left out, and what they always gave becomes a bias. The dense layers of both sets become one
of 400 units, and the head has their 100 tags, those of the second set as msd/TAG.

The self-attention back-end begins as the mean over time: its first block is the identity, and in the second [CLS]
attends to all tokens alike. What remains different from musicnn: the dense layers see 1.9 s and not 3 s, and a window
has no padding between patches.

Imports TensorFlow. Not part of the package.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from absl import app, flags

import keras_tagger
from keras_tagger.errors import KerasTaggerError
from keras_tagger.layers import PonsFrontEnd
from keras_tagger.models.music_tagger import MusicTagger
from keras_tagger.tagger import Tagger
from keras_tagger.teachers.musicnn import TAGS, Musicnn, find_wheel, load_musicnn

VOCABULARIES = ("MTT", "MSD")
N_FILTERS = (204, 204, 51, 51, 51)
N_MID, N_HIDDEN = 64, 200

Array = npt.NDArray[Any]
FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("out", None, "The .keras file to write.", required=True)
    flags.DEFINE_string("work_dir", "data/teacher", "Folder of musicnn's wheel; pip downloads it if it is missing.")
    flags.DEFINE_integer("seed", 0, "Seed of the weights that musicnn does not have.")


def main(argv: Sequence[str]) -> None:
    """Write the model."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        tagger = begin(
            [load_musicnn(find_wheel(FLAGS.work_dir), vocabulary) for vocabulary in VOCABULARIES], FLAGS.seed
        )
        tagger.save(FLAGS.out)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{FLAGS.out}: {tagger.model.count_params() / 1e6:.2f} million parameters")


def begin(teachers: Sequence[Musicnn], seed: int = 0) -> Tagger:
    """Return a tagger that begins as musicnn, with the tags of both teachers."""
    keras.utils.set_random_seed(seed)
    bodies = [Body(teacher) for teacher in teachers]
    counts = [sum(len(body.kept[index]) for body in bodies) for index in range(len(N_FILTERS))]
    config = keras_tagger.load_config(
        {
            "preset": "pons",
            "model": {
                "front_end": {
                    "channels": [*counts, N_MID * len(bodies), N_HIDDEN * len(bodies)],
                    "second_ear": {"channels": []},
                }
            },
            "data": {"path": "unused"},
        }
    )
    tags = [*TAGS["MTT"], *(f"msd/{tag}" for tag in TAGS["MSD"])]
    model = MusicTagger(tags, config.audio, config.model)
    model.build()
    _set_front_end(model.front_end, bodies)
    _set_back_end(model, bodies)
    return Tagger(model, config)


class Body:
    """One set of musicnn's weights: which filters live, and batch normalisation as scales and offsets."""

    def __init__(self, teacher: Musicnn) -> None:
        self.layers = {layer.name: layer for layer in teacher.model.layers}
        self.kept = teacher.live
        starts = np.cumsum([0, *N_FILTERS])
        filters = np.concatenate([start + kept for start, kept in zip(starts[:-1], self.kept, strict=True)])
        self.features = np.concatenate([filters, starts[-1] + np.arange(3 * N_MID)])
        self.filters = filters
        self.dropped = np.setdiff1d(np.arange(starts[-1]), filters)
        # What a dead filter always gives.
        self.constants = np.concatenate(
            [self.layers[_numbered("batch_normalization", i + 1)].get_weights()[1] for i in range(len(N_FILTERS))]
        )

    def norm(self, index: int) -> tuple[Array, Array]:
        """Return scale and offset of a batch normalisation."""
        layer = self.layers[_numbered("batch_normalization", index)]
        gamma, beta, mean, variance = layer.get_weights()
        scale = gamma / np.sqrt(variance + layer.epsilon)
        return scale, beta - mean * scale

    def conv(self, index: int) -> tuple[Array, Array]:
        """Return kernel and bias of a convolution."""
        kernel, bias = self.layers[_numbered("conv2d", index)].get_weights()
        return kernel, bias


def _numbered(kind: str, index: int) -> str:
    return f"{kind}_{index}" if index else kind


def _set_front_end(front_end: PonsFrontEnd, bodies: Sequence[Body]) -> None:
    first, *_ = bodies
    # The spectrogram has natural logarithms, musicnn's decadic ones.
    scale, offset = (float(value[0]) for value in first.norm(0))
    _set_norm(front_end.input_norm, np.array([scale / np.log(10.0)]), np.array([offset]))
    for index, (convolution, norm) in enumerate(zip(front_end.convolutions, front_end.norms, strict=True)):
        kernels, biases, scales, offsets = [], [], [], []
        for body in bodies:
            kept = body.kept[index]
            kernel, bias = body.conv(index)
            own_scale, own_offset = (float(value[0]) for value in body.norm(0))
            # Its input is the first body's normalised spectrogram, not its own.
            ratio = own_scale / scale
            biases.append(bias[kept] + kernel[..., kept].sum((0, 1, 2)) * (own_offset - offset * ratio))
            kernels.append(kernel[..., kept] * ratio)
            norm_scale, norm_offset = body.norm(index + 1)
            scales.append(norm_scale[kept])
            offsets.append(norm_offset[kept])
        convolution.set_weights([np.concatenate(kernels, axis=-1), np.concatenate(biases)])
        _set_norm(norm, np.concatenate(scales), np.concatenate(offsets))
    _set_mid(front_end, bodies)
    _set_context(front_end, bodies)


def _set_mid(front_end: PonsFrontEnd, bodies: Sequence[Body]) -> None:
    for step, (layer, norm) in enumerate(zip(front_end.mid, front_end.mid_norms, strict=True)):
        kernel, bias = (np.zeros(weight.shape, np.float32) for weight in layer.weights)
        scales, offsets = [], []
        for index, body in enumerate(bodies):
            full, own_bias = body.conv(5 + step)
            taps = full.reshape(full.shape[0], full.shape[-2], full.shape[-1])
            outputs = slice(N_MID * index, N_MID * (index + 1))
            if step == 0:
                # Order of the joined filters: of each filter bank, the bodies one after the other.
                rows = joined_rows(bodies, index)
                kernel[:, rows, outputs] = taps[:, body.filters]
                own_bias = own_bias + taps[:, body.dropped].sum(0).T @ body.constants[body.dropped]
            else:
                kernel[:, outputs, outputs] = taps
            bias[outputs] = own_bias
            norm_scale, norm_offset = body.norm(6 + step)
            scales.append(norm_scale)
            offsets.append(norm_offset)
        layer.set_weights([kernel, bias])
        _set_norm(norm, np.concatenate(scales), np.concatenate(offsets))


def joined_rows(bodies: Sequence[Body], index: int) -> Array:
    """Return where a body's kept filters are among the joined ones, in its own order."""
    rows, start = [], 0
    for bank in range(len(N_FILTERS)):
        counts = [len(body.kept[bank]) for body in bodies]
        begin_at = start + sum(counts[:index])
        rows.append(np.arange(begin_at, begin_at + counts[index]))
        start += sum(counts)
    return np.concatenate(rows)


def _set_context(front_end: PonsFrontEnd, bodies: Sequence[Body]) -> None:
    """Set the norm of the features to unit variance, and the dense layer to those of the bodies."""
    n_features = front_end.n_features // 2
    n_filters = n_features - 3 * N_MID * len(bodies)
    means, deviations = np.zeros(2 * n_features), np.ones(2 * n_features)
    kernel = np.zeros((2 * n_features, N_HIDDEN * len(bodies)))
    bias = np.zeros(N_HIDDEN * len(bodies))
    for index, body in enumerate(bodies):
        layer = body.layers[_numbered("batch_normalization", 9)]
        gamma, beta, mean, variance = (weight.astype(np.float64) for weight in layer.get_weights())
        deviation = np.sqrt(variance + layer.epsilon)
        dense, dense_bias = (weight.astype(np.float64) for weight in body.layers["dense"].get_weights())
        outputs = slice(N_HIDDEN * index, N_HIDDEN * (index + 1))
        bias[outputs] = dense_bias + beta @ dense
        mids = [n_filters + N_MID * len(bodies) * step + N_MID * index + np.arange(N_MID) for step in range(3)]
        places = np.concatenate([joined_rows(bodies, index), *mids])
        for half in (0, 1):
            # musicnn's order is maximum and mean of the first feature, then of the second, ...
            theirs = 2 * body.features + half
            ours = half * n_features + places
            means[ours], deviations[ours] = mean[theirs], deviation[theirs]
            kernel[ours, outputs] = gamma[theirs, np.newaxis] * dense[theirs]
            gone = 2 * body.dropped + half
            constant = (body.constants[body.dropped] - mean[gone]) / deviation[gone] * gamma[gone]
            bias[outputs] += constant @ dense[gone]
    norm = front_end.feature_norm
    norm.set_weights(
        [np.ones(2 * n_features), np.zeros(2 * n_features), means, np.maximum(deviations**2 - norm.epsilon, 0.0)]
    )
    front_end.context.set_weights([kernel, bias])


def _set_back_end(model: MusicTagger, bodies: Sequence[Body]) -> None:
    width, hidden = model.model_config.encoder.width, N_HIDDEN * len(bodies)
    into, into_bias = np.zeros((hidden, width)), np.zeros(width)
    head, head_bias = np.zeros((width, 50 * len(bodies))), []
    for index, body in enumerate(bodies):
        layer = body.layers[_numbered("batch_normalization", 10)]
        gamma, beta, mean, variance = (weight.astype(np.float64) for weight in layer.get_weights())
        rows = np.arange(N_HIDDEN * index, N_HIDDEN * (index + 1))
        deviation = np.sqrt(variance + layer.epsilon)
        into[rows, rows], into_bias[rows] = 1.0 / deviation, -mean / deviation
        dense, dense_bias = (weight.astype(np.float64) for weight in body.layers["dense_1"].get_weights())
        head[rows, 50 * index : 50 * (index + 1)] = gamma[:, np.newaxis] * dense
        head_bias.append(dense_bias + beta @ dense)
    front_end = model.front_end
    front_end.project_context.set_weights([into, into_bias])
    own = front_end.project_own.get_weights()[0]
    own[:, :hidden] = 0.0
    front_end.project_own.set_weights([own])
    model.class_token.vector.assign(np.zeros(width))
    model.head.logits.set_weights([head, np.concatenate(head_bias)])
    last = model.encoder.blocks[-1]
    attention = last.attention
    heads = (width, attention.n_heads, width // attention.n_heads)
    attention.query_dense.set_weights([np.zeros(heads), np.zeros(heads[1:])])
    attention.value_dense.set_weights([np.eye(width).reshape(heads), np.zeros(heads[1:])])
    attention.output_dense.set_weights([np.eye(width).reshape(*heads[1:], width), np.zeros(width)])
    last.attention_factor.assign(1.0)


def _set_norm(norm: keras.layers.BatchNormalization, scale: Array, offset: Array) -> None:
    """Set a batch normalisation to an affine function, with statistics of mean 0 and variance 1."""
    variance = np.ones_like(scale)
    norm.set_weights([scale * np.sqrt(variance + norm.epsilon), offset, np.zeros_like(scale), variance])


if __name__ == "__main__":
    define_flags()
    app.run(main)
