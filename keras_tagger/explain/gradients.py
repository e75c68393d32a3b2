"""Methods that need gradients of a tag's logit: with respect to the input, the feature maps, or the attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_tagger.explain import inputs
from keras_tagger.explain.inputs import connected, pick, scale, spec, traced
from keras_tagger.explain.maps import Maps, of_input, of_tokens
from keras_tagger.models.music_tagger import MusicTagger


def gradient_input(model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], *, baseline: str) -> Maps:
    """Multiply the gradient of a tag's logit by the input's difference to a baseline (Shrikumar et al. 2016).

    This is the first-order estimate of what the logit would lose if a cell took the baseline's value.
    """
    seen = inputs.front_end_input(model, waveforms)
    difference = seen - inputs.filling(model, seen, baseline)
    return of_input(model, np.stack([inputs.gradients(model, seen, row) * difference for row in rows], axis=1))


def integrated_gradients(
    model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int], *, baseline: str, steps: int
) -> Maps:
    """Integrate gradients from a baseline to the input (Sundararajan, Taly, Yan 2017, equation 1).

    The integral along the straight line is computed by Gauss-Legendre quadrature with `steps` points. A map sums to the
    difference between the tag's logits at input and baseline, up to the quadrature's error; see `completeness`.
    """
    seen = inputs.front_end_input(model, waveforms)
    begin = inputs.filling(model, seen, baseline)
    difference = seen - begin
    places, weights = np.polynomial.legendre.leggauss(steps)
    # From -1..1 to 0..1.
    shares, weights = ((places + 1) / 2).astype(np.float32), (weights / 2).astype(np.float32)
    together = max(inputs.BATCH // len(seen), 1)
    maps = []
    for row in rows:
        total = np.zeros_like(seen)
        for first in range(0, steps, together):
            part = slice(first, first + together)
            points = begin + np.multiply.outer(shares[part], difference)
            found = inputs.gradients(model, points.reshape(-1, *seen.shape[1:]), row).reshape(points.shape)
            total += np.tensordot(weights[part], found, axes=1)
        maps.append(total * difference)
    return of_input(model, np.stack(maps, axis=1))


def completeness(
    model: MusicTagger, waveforms: npt.NDArray[Any], row: int, *, baseline: str = "silence"
) -> npt.NDArray[Any]:
    """Return what integrated gradients should sum to: the logit of each window minus its baseline's, float32 `[B]`."""
    seen = inputs.front_end_input(model, waveforms)
    begin = inputs.filling(model, seen, baseline)
    return (inputs.logits(model, seen) - inputs.logits(model, begin))[:, row]


def smooth_grad(
    model: MusicTagger,
    waveforms: npt.NDArray[Any],
    rows: list[int],
    *,
    samples: int,
    noise: float,
    times_input: bool,
    seed: int,
) -> Maps:
    """Average the gradient over noisy copies of the input (Smilkov et al. 2017).

    Args:
        model: The model.
        waveforms: float32 `[B, samples]`.
        rows: Indices of the tags.
        samples: Number of noisy copies.
        noise: Standard deviation as a share of the window's range (largest minus smallest value).
        times_input: Whether to multiply the mean by the input's difference to silence.
        seed: Seed of the noise, which is the same for every window and tag.
    """
    seen = inputs.front_end_input(model, waveforms)
    axes = tuple(range(1, seen.ndim))
    spread = noise * (seen.max(axis=axes, keepdims=True) - seen.min(axis=axes, keepdims=True))
    factor = seen - inputs.silence(model, seen) if times_input else np.ones_like(seen)
    maps = []
    for row in rows:
        # A map must not depend on which other tags and windows are explained.
        rng = np.random.default_rng(seed)
        total = np.zeros_like(seen)
        for _ in range(samples):
            noisy = seen + spread * rng.standard_normal(seen.shape[1:], np.float32)
            total += inputs.gradients(model, noisy, row)
        maps.append(total / samples * factor)
    return of_input(model, np.stack(maps, axis=1))


def grad_cam(model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int]) -> Maps:
    """Weight the front-end's last feature maps by their gradients (Selvaraju et al. 2017, equations 1 and 2).

    The weight of a channel is the mean of the tag's gradient over time and frequency; only the positive part of the
    weighted sum is kept. The map is as coarse as the feature maps: a column per token, and some bands if the maps have
    a frequency axis.
    """
    values = _by_row(model, _grad_cam, waveforms, rows)
    if values.shape[3] == 1:
        return of_tokens(model, values[..., 0])
    # Each band of the feature maps covers equally many mel bands.
    bands = [part.mean() for part in np.array_split(model.spectrogram.mel_frequencies(), values.shape[3])]
    return Maps(np.swapaxes(values, 2, 3), model.windowing.token_times(values.shape[2]), np.array(bands))


def _grad_cam(model: MusicTagger, seen: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """Return the map [B, T, F]."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(seen)
        values, maps = model.logits_and_feature_maps(seen)
        target = pick(values, row) * scale(model)
    slope = tf.cast(connected(tape.gradient(target, maps), "feature maps"), tf.float32) / scale(model)
    weights = tf.reduce_mean(slope, axis=[1, 2], keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * tf.cast(maps, tf.float32), axis=-1))


def relevance(model: MusicTagger, waveforms: npt.NDArray[Any], rows: list[int]) -> Maps:
    """Propagate gradient x attention through the layers (Chefer, Gur, Wolf 2021, ICCV, equations 5 and 6).

    In each layer, A is the mean over heads of the positive part of (gradient of the tag's logit x attention). R starts
    as the identity and becomes R + A R; the map is the row of [CLS] in R.
    """
    return of_tokens(model, _by_row(model, _relevance, waveforms, rows))


def _relevance(model: MusicTagger, seen: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """Return the map [B, T]."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        # The attention weights are on the tape only if something that they depend on is watched.
        tape.watch(seen)
        values, weights = model.logits_of(seen, return_attention_scores=True)
        target = pick(values, row) * scale(model)
    size = tf.shape(weights[0])
    joint = tf.eye(size[-1], batch_shape=[size[0]])
    for gradient, weight in zip(tape.gradient(target, weights), weights, strict=True):
        slope = tf.cast(connected(gradient, "attention weights"), tf.float32) / scale(model)
        step = tf.reduce_mean(tf.nn.relu(slope * tf.cast(weight, tf.float32)), axis=1)
        joint += step @ joint
    return joint[:, 0, 1:]


def _by_row(model: MusicTagger, function: Any, waveforms: npt.NDArray[Any], rows: list[int]) -> npt.NDArray[Any]:
    """Run a function of (model, input, row) for each row and stack the results, [B, n_rows, ...]."""
    seen = tf.constant(inputs.front_end_input(model, waveforms))
    call = traced(model, function, spec(model), tf.TensorSpec([], tf.int32))
    return np.stack([call(seen, tf.constant(row, tf.int32)).numpy() for row in rows], axis=1)
