"""Leave out the filters of a model of the preset `pons` that the others can stand in for, and give it a second ear.

    export PYTHONPATH=tools
    python -m pretrain.thin --init runs/attentive/last.keras --music data/clips/manifest.jsonl \
        --filters 48,48,13,16,48 --ear compact --out runs/thin.keras

What follows the filters, the first convolution over time, the dense layer of the context, and the projection of a
token's own features, is linear in what they find. So if a filter is left out, least squares say how the weights of the
others must change, and what error remains (the optimal brain surgeon, Hassibi and Stork 1992, with a filter's taps as
one block). Filters are left out one after the other, always the one with the smallest error, until each bank has as
many as --filters says; processors compute 16 at a time. Covariances are measured on crops of --music.

--ear names a model of the preset `compact`, whose body becomes the second ear (`keras_tagger.layers.SecondEar`). Its
tokens are projected so that the logits of instruments begin as a mean of those of both models, in which the second ear
counts --ear_weight; those of other tags stay as they are. `attend.py` teaches both to agree.

Imports TensorFlow. Not part of the package.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from absl import app, flags, logging

from keras_tagger.config import SecondEarConfig
from keras_tagger.errors import KerasTaggerError
from keras_tagger.layers import PonsFrontEnd
from keras_tagger.models.music_tagger import MusicTagger
from keras_tagger.tagger import Tagger, load
from pretrain.learn import INSTRUMENTS, Source

CROPS_AT_ONCE = 8
# Of the mean variance, added to the variance of every feature.
RIDGE = 1e-3
Array = npt.NDArray[Any]

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("init", None, "The .keras file or run to begin with.", required=True)
    flags.DEFINE_string("out", None, "The .keras file to write.", required=True)
    flags.DEFINE_multi_string("music", [], "Manifest of music; may be followed by =WEIGHT.", required=True)
    flags.DEFINE_integer("crops", 320, "Crops of music to measure covariances on.", lower_bound=8)
    flags.DEFINE_list("filters", ["48", "48", "13", "16", "48"], "The number of filters of each bank that stay.")
    flags.DEFINE_string("ear", None, "The model of the preset compact whose body becomes the second ear.")
    flags.DEFINE_float("ear_weight", 0.5, "How much the second ear counts in the logits of instruments.", 0.0, 1.0)
    flags.DEFINE_integer("seed", 0, "Seed of the crops.")


def main(argv: Sequence[str]) -> None:
    """Write the thinner model."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        tagger = load(FLAGS.init)
        source = Source(FLAGS.music, tagger.model.window_samples, tuple(tagger.tags), FLAGS.seed)
        linear = linear_parts(tagger.model, source.batches(FLAGS.crops))
        kept = thin(linear, tagger.model.front_end.filters, [int(number) for number in FLAGS.filters])
        thinner = rebuilt(tagger, linear, kept, load(FLAGS.ear) if FLAGS.ear else None)
        if FLAGS.ear:
            waveforms = np.concatenate([*source.batches(8 * CROPS_AT_ONCE)])
            give_ear(thinner.model, load(FLAGS.ear).model, waveforms, FLAGS.ear_weight)
        thinner.save(FLAGS.out)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{FLAGS.out}: {thinner.model.count_params() / 1e6:.2f} million parameters")


@dataclass
class Linear:
    """A linear map of features, with what is known of them.

    Attributes:
        weights: float `[inputs, outputs]`; `without` changes them.
        covariance: Of the inputs, float `[inputs, inputs]`.
        mean: Of the inputs, float `[inputs]`.
        rows: Which inputs come from a filter, int `[filters, n]`.
        importance: Of the outputs, float `[outputs]`.
    """

    weights: Array
    covariance: Array
    mean: Array
    rows: Array
    importance: Array

    def __post_init__(self) -> None:
        self.before = self.weights.copy()
        ridge = RIDGE * np.diag(self.covariance).mean()
        self.inverse = np.linalg.inv(self.covariance + ridge * np.eye(len(self.covariance)))
        explained = np.einsum("ij,ik,kj->j", self.weights, self.covariance, self.weights)
        self.scale = self.importance / np.sqrt(explained @ self.importance**2)

    def error(self, index: int) -> float:
        """Return the share of the outputs' variance that is lost without a filter."""
        rows = self.rows[index]
        weights = self.weights[rows] * self.scale
        return float((weights * np.linalg.solve(self.inverse[np.ix_(rows, rows)], weights)).sum())

    def remove(self, index: int) -> None:
        """Leave a filter out, and let the other inputs stand in for it."""
        rows = self.rows[index]
        columns = self.inverse[:, rows]
        solved = np.linalg.solve(self.inverse[np.ix_(rows, rows)], np.hstack([self.weights[rows], columns.T]))
        n_outputs = self.weights.shape[1]
        self.weights -= columns @ solved[:, :n_outputs]
        self.inverse -= columns @ solved[:, n_outputs:]
        self.weights[rows] = 0.0

    @property
    def offset(self) -> Array:
        """What the bias must gain so that the mean of the outputs stays."""
        return np.asarray(self.mean @ (self.before - self.weights))


def linear_parts(model: keras.Model, crops: Iterator[Array]) -> list[Linear]:
    """Return the linear maps of what the filters find: the first convolution over time, context, and own features."""
    front_end: PonsFrontEnd = model.front_end
    n_filters, taps, n_pool = sum(front_end.filters), front_end.mid_taps, front_end.pool_tokens

    @tf.function(autograph=False)
    def inputs_of(waveforms: tf.Tensor) -> list[tf.Tensor]:
        x = front_end.padded(model.see(waveforms))
        banks = zip(front_end.convolutions, front_end.norms, strict=True)
        found = front_end.normed([front_end.response(x, convolution, norm) for convolution, norm in banks])
        n_frames = found.shape[1]
        padded = tf.pad(found, [[0, 0], [taps // 2, taps // 2], [0, 0]])
        own = front_end.maps_after(found, False)[:, :, 0]
        highest, mean = tf.split(own, 2, axis=-1)
        around = [tf.nn.max_pool1d(highest, n_pool, 1, "SAME"), tf.nn.avg_pool1d(mean, n_pool, 1, "SAME")]
        inputs = [tf.concat([padded[:, tap : tap + n_frames] for tap in range(taps)], -1)[:, ::2]]
        inputs += [tf.concat(around, -1), own]
        return [tf.reshape(values, [-1, values.shape[-1]]) for values in inputs]

    squares, means, count = [0.0] * 3, [0.0] * 3, 0
    for waveforms in crops:
        for part, inputs in enumerate(inputs_of(tf.constant(waveforms, tf.float32))):
            rows = inputs.numpy().astype(np.float64)
            squares[part] += rows.T @ rows / len(rows)
            means[part] += rows.mean(axis=0)
        count += 1
    kernels = [
        front_end.mid[0].kernel.numpy().reshape(taps * n_filters, -1),
        front_end.context.kernel.numpy(),
        front_end.project_own.kernel.numpy(),
    ]
    head = model.head.logits.kernel.numpy().astype(np.float64)
    importances = [
        np.ones(kernels[0].shape[1]),
        np.linalg.norm(front_end.project_context.kernel.numpy() @ head, axis=1),
        np.linalg.norm(head, axis=1),
    ]
    each = np.arange(n_filters)[:, np.newaxis]
    pooled = each + front_end.n_features // 2 * np.arange(2)
    places = [each + n_filters * np.arange(taps), pooled, pooled]
    found = []
    for part, (kernel, importance) in enumerate(zip(kernels, importances, strict=True)):
        mean = means[part] / count
        covariance = squares[part] / count - np.outer(mean, mean)
        kernel = kernel.astype(np.float64)
        if not found:
            # Each channel counts alike, and those that never change do not count.
            variance = np.einsum("ij,ik,kj->j", kernel, covariance, kernel)
            importance = np.where(variance > 1e-6 * variance.max(), 1 / np.sqrt(np.maximum(variance, 1e-12)), 0.0)
        found.append(Linear(kernel, covariance, mean, places[part], importance))
    return found


def thin(linear: Sequence[Linear], filters: Sequence[int], wanted: Sequence[int]) -> Array:
    """Leave filters out until each bank has as many as wanted; return the places of those that are kept."""
    bank = np.repeat(np.arange(len(filters)), filters)
    kept = np.arange(len(bank))
    while (surplus := np.bincount(bank[kept], minlength=len(filters)) > wanted).any():
        candidates = kept[surplus[bank[kept]]]
        errors = [sum(part.error(index) for part in linear) for index in candidates]
        index = int(candidates[np.argmin(errors)])
        for part in linear:
            part.remove(index)
        kept = kept[kept != index]
        if len(kept) % 10 == 0:
            logging.info(
                "%d filters left; without the last one, %.5f of the variance was lost.", len(kept), min(errors)
            )
    return kept


def rebuilt(tagger: Tagger, linear: Sequence[Linear], kept: Array, ear: Tagger | None) -> Tagger:
    """Return the tagger with the kept filters only, and with a second ear as large as the body of another."""
    old: PonsFrontEnd = tagger.model.front_end
    starts = np.cumsum([0, *old.filters])
    banks = [kept[(kept >= low) & (kept < high)] - low for low, high in pairwise(starts)]
    channels = (*(len(bank) for bank in banks), *old.channels[len(banks) :])
    second_ear = _second_ear(ear) if ear else tagger.model.model_config.front_end.second_ear
    front = replace(tagger.model.model_config.front_end, channels=channels, second_ear=second_ear)
    model_config = replace(tagger.model.model_config, front_end=front)
    model = MusicTagger(tagger.model.tags, tagger.model.audio_config, model_config)
    model.build()
    for part in ("class_token", "encoder", "head"):
        getattr(model, part).set_weights(getattr(tagger.model, part).get_weights())
    new: PonsFrontEnd = model.front_end
    new.input_norm.set_weights(old.input_norm.get_weights())
    for index, bank in enumerate(banks):
        new.convolutions[index].set_weights([weight[..., bank] for weight in old.convolutions[index].get_weights()])
        new.norms[index].set_weights([weight[bank] for weight in old.norms[index].get_weights()])
    mid, context, own = linear
    half = old.n_features // 2
    features = np.concatenate([kept, np.arange(starts[-1], half)])
    features = np.concatenate([features, half + features])
    taps = mid.weights.reshape(old.mid_taps, starts[-1], -1)[:, kept]
    new.mid[0].set_weights([taps, old.mid[0].bias.numpy() + mid.offset])
    for index, (layer, norm) in enumerate(zip(old.mid, old.mid_norms, strict=True)):
        if index:
            new.mid[index].set_weights(layer.get_weights())
        new.mid_norms[index].set_weights(norm.get_weights())
    new.feature_norm.set_weights([weight[features] for weight in old.feature_norm.get_weights()])
    new.context.set_weights([context.weights[features], old.context.bias.numpy() + context.offset])
    kernel, bias = old.project_context.get_weights()
    new.project_context.set_weights([kernel, bias + own.offset])
    new.project_own.set_weights([own.weights[features]])
    if old.ear and not ear:
        new.ear.set_weights(old.ear.get_weights())
        new.project_ear.set_weights(old.project_ear.get_weights())
    config = replace(tagger.config, model=model_config)
    return Tagger(model, config, tagger.info)


def _second_ear(ear: Tagger) -> SecondEarConfig:
    config = ear.model.model_config
    sizes = {name: getattr(config.encoder, name) for name in ("n_layers", "n_heads", "width", "feed_forward")}
    return SecondEarConfig(channels=config.front_end.channels, **sizes)


def give_ear(model: keras.Model, ear: keras.Model, waveforms: Array, weight: float) -> None:
    """Set the second ear of a model to the body of another, and let it have its say in the tags of instruments.

    Args:
        model: The model, which has a second ear of that size.
        ear: A model of the preset `compact`.
        waveforms: Music to compare both spectrograms on, float32 `[n, samples]`.
        weight: Share of the second ear in the logits of instruments.
    """
    front_end, theirs = model.front_end, ear.front_end
    own, last = front_end.ear, ear.encoder.blocks[-1]
    pairs = [(getattr(own, name), getattr(theirs, name)) for name in ("input_norm", "project")]
    pairs += [*zip(own.stages, theirs.stages, strict=True), (own.class_token, ear.class_token)]
    pairs += [*zip(own.blocks, ear.encoder.blocks[:-1], strict=True), (own.final_norm, ear.encoder.final_norm)]
    pairs += [(own.value_norm, last.attention_norm), (own.feed_forward_norm, last.feed_forward_norm)]
    for mine, other in [*pairs, (own.expand, last.expand), (own.contract, last.contract)]:
        mine.set_weights(other.get_weights())
    own.value.set_weights(_value_passed_on(last.attention))
    front_end.ear.level.assign(levels(model, ear, waveforms))
    head = model.head.logits
    kernel, bias = (array.astype(np.float64) for array in head.get_weights())
    their_kernel, their_bias = ear.head.logits.get_weights()
    wanted = np.zeros((their_kernel.shape[0], kernel.shape[1]))
    for place, tag in enumerate(model.tags):
        if tag in INSTRUMENTS and tag in ear.tags:
            other = ear.tags.index(tag)
            kernel[:, place] *= 1.0 - weight
            bias[place] = (1.0 - weight) * bias[place] + weight * their_bias[other]
            wanted[:, place] = weight * their_kernel[:, other]
    head.set_weights([kernel, bias])
    front_end.project_ear.set_weights([wanted @ np.linalg.pinv(passed_on(model) @ kernel)])


def _value_passed_on(attention: keras.layers.Layer) -> list[Array]:
    """Return the kernel and the bias of an attention layer over one token: its value, projected back."""
    value, value_bias, output, output_bias = (
        weight.astype(np.float64)
        for dense in (attention.value_dense, attention.output_dense)
        for weight in dense.get_weights()
    )
    width = value.shape[0]
    back = output.reshape(width, width)
    return [value.reshape(width, width) @ back, value_bias.reshape(width) @ back + output_bias]


def passed_on(model: keras.Model) -> Array:
    """Return what the last layer's attention passes on of a token, a matrix `[width, width]`."""
    last, width = model.encoder.blocks[-1], model.model_config.encoder.width
    value = last.attention.value_dense.kernel.numpy().reshape(width, width).astype(np.float64)
    output = last.attention.output_dense.kernel.numpy().reshape(width, width)
    return np.asarray(value @ output * float(last.attention_factor))


def levels(model: keras.Model, ear: keras.Model, waveforms: Array) -> Array:
    """Return for each band how much larger magnitudes are in the other's spectrogram than roots of powers in ours."""
    powers, magnitudes = [], []
    for batch in np.split(waveforms, range(CROPS_AT_ONCE, len(waveforms), CROPS_AT_ONCE)):
        powers.append(np.expm1(model.see(batch).numpy().astype(np.float64)))
        magnitudes.append(np.expm1(ear.see(batch).numpy().astype(np.float64)))
    power, magnitude = (np.concatenate(values).reshape(-1, values[0].shape[-1]) for values in (powers, magnitudes))
    ratio = np.where(power > 1e-3, magnitude / np.sqrt(np.maximum(power, 1e-3)), np.nan)
    return np.nan_to_num(np.nanmedian(ratio, axis=0), nan=float(np.nanmedian(ratio)))


if __name__ == "__main__":
    define_flags()
    app.run(main)
