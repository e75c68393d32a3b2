"""musicnn without its dead filters, for labelling while training; imports TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

PATCH_FRAMES = 187
N_BANKS = 5
# Variance after batch normalisation, below which a filter never changed on the music that it was trained on.
DEAD = 1e-4


class QuickTeacher:
    """One set of musicnn's weights as a function of patches; four times as fast, as most of its filters are dead.

    Call: float32 `[patches, 187, 96]` (`pretrain.teacher.log_mel`) -> (the values before the last layer, of mean 0 and
        variance 1 on musicnn's training music, `[patches, 200]`; logits `[patches, 50]`).
    """

    def __init__(self, model: keras.Model) -> None:
        self.layers = {layer.name: layer for layer in model.layers}
        self.banks, constants, live = [], [], []
        for index in range(N_BANKS):
            kernel, bias = self.layers["conv2d" if index == 0 else f"conv2d_{index}"].get_weights()
            scale, offset, beta, moved = self._norm(index + 1)
            kept = moved > DEAD
            self.banks.append([tf.constant(part[..., kept]) for part in (kernel, bias, scale, offset)])
            constants.append(beta)
            live.append(kept)
        self.kept = [np.flatnonzero(kept) for kept in live]
        kept, constant = np.concatenate(live), np.concatenate(constants)
        self.live = np.flatnonzero(kept).astype(np.int32)
        kernel, bias = self.layers["conv2d_5"].get_weights()
        kernel = kernel.reshape(7, -1, kernel.shape[-1])
        self.first_mid = tf.constant(kernel[:, kept])
        self.first_bias = tf.constant(bias + kernel[:, ~kept].sum(axis=0).T @ constant[~kept])
        gamma, beta, mean, variance = self.layers["batch_normalization_9"].get_weights()
        scale = gamma / np.sqrt(variance + self.layers["batch_normalization_9"].epsilon)
        dense, bias = self.layers["dense"].get_weights()
        matrix, bias = dense * scale[:, np.newaxis], bias + (beta - mean * scale) @ dense
        gone = np.flatnonzero(~kept)
        bias = bias + constant[gone] @ (matrix[2 * gone] + matrix[2 * gone + 1])
        rows = np.concatenate([self.live, len(kept) + np.arange(3 * 64)])
        self.of_highest, self.of_mean = tf.constant(matrix[2 * rows]), tf.constant(matrix[2 * rows + 1])
        self.dense_bias = tf.constant(bias.astype(np.float32))
        gamma, beta, mean, variance = self.layers["batch_normalization_10"].get_weights()
        self.mean, self.deviation = mean, np.sqrt(variance + self.layers["batch_normalization_10"].epsilon)
        last, bias = self.layers["dense_1"].get_weights()
        self.last, self.last_bias = gamma[:, np.newaxis] * last, bias + beta @ last

    def _norm(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        layer = self.layers[f"batch_normalization_{index}"]
        gamma, beta, mean, variance = layer.get_weights()
        scale = gamma / np.sqrt(variance + layer.epsilon)
        return scale, beta - mean * scale, beta, gamma * scale * variance / np.sqrt(variance + layer.epsilon)

    def __call__(self, patches: tf.Tensor, vertical: Sequence[tf.Tensor] | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the values before the last layer, and the logits.

        `vertical` may give what the live vertical filters find, as `PonsFrontEnd.response`, `[patches, 187, filters]`.
        """
        x = self.layers["batch_normalization"](patches[..., tf.newaxis], training=False)
        found = []
        for index, (kernel, bias, scale, offset) in enumerate(self.banks):
            if vertical is not None and index < 2:
                found.append(vertical[index] * tf.abs(scale) + offset)
                continue
            padded = tf.pad(x, [[0, 0], [3, 3], [0, 0], [0, 0]]) if index < 2 else x
            # A scale below 0 turns the maximum over frequency into a minimum, so the filter is negated instead.
            sign = tf.where(scale < 0, -1.0, 1.0)
            y = tf.reduce_max(tf.nn.conv2d(padded, kernel * sign, 1, "VALID" if index < 2 else "SAME"), axis=2)
            y = tf.where(sign > 0, tf.nn.relu(y + bias), -tf.nn.relu(bias - y))
            found.append(y * tf.abs(scale) + offset)
        features = [tf.concat(found, axis=-1)]
        for index in (5, 6, 7):
            norm = self.layers[f"batch_normalization_{index + 1}"]
            if index == 5:
                y = tf.nn.relu(tf.nn.conv1d(features[0], self.first_mid, 1, "SAME") + self.first_bias)
                features.append(norm(y, training=False))
            else:
                y = self.layers[f"conv2d_{index}"](features[-1])
                features.append(features[-1] + norm(y, training=False))
        joined = tf.concat(features, axis=-1)
        highest, mean = tf.reduce_max(joined, axis=1), tf.reduce_mean(joined, axis=1)
        hidden = tf.nn.relu(tf.matmul(highest, self.of_highest) + tf.matmul(mean, self.of_mean) + self.dense_bias)
        values = (hidden - self.mean) / self.deviation
        return values, tf.matmul(values, self.last) + self.last_bias
