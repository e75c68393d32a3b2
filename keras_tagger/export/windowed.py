"""Clips longer than the model's window, cut into windows and joined again in the graph.

The cut is that of `keras_tagger.audio.windows`: windows follow each other, and the last one is moved back so that it
has full length and ends on the last sample; only its new tokens count. Every second of audio therefore counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_tagger.models.music_tagger import MusicTagger, heard_in

WINDOWS_AT_A_TIME = 16


def analyze_windows(model: MusicTagger, waveform: tf.Tensor, outputs: Sequence[str]) -> dict[str, tf.Tensor]:
    """Run `MusicTagger.analyze` on clips of any length; clips of up to one window get exactly its outputs.

    The tags and contributions of a silent window are 0.

    Args:
        model: The model.
        waveform: float32 `[B, samples]`.
        outputs: Any of "tags" and "embedding" (means over the windows, weighted by the new audio in each),
            "contributions" `[B, n_tags, T]` (stitched), and "attention" `[B, layers, heads, 1+T, 1+T]`. A token
            attends to its own window only; the [CLS] row is the weighted mean of the windows' rows. Each row sums to
            one.

    Returns:
        The outputs. With "contributions" or "attention" there is also "times", float32 `[B, T]`: the centres of the
        tokens in seconds. With "attention" there is also "heatmap", float32 `[B, T]`: the [CLS] row of the last layer,
        summed over heads, each token's value from its window.
    """
    windowing = model.windowing
    token, limit = windowing.token_samples, windowing.window_samples // windowing.token_samples
    batch, n_samples = tf.shape(waveform)[0], tf.shape(waveform)[1]
    # A clip of up to one window is passed on unchanged; the model completes a partial token at its end.
    one = n_samples <= limit * token
    n_tokens = tf.where(one, model.n_tokens(n_samples), -(-n_samples // token))
    size = tf.minimum(n_tokens, limit)
    n_windows = -(-n_tokens // size)
    length = tf.where(one, n_samples, size * token)
    first_samples = tf.minimum(tf.range(n_windows) * length, n_samples - length)
    places = first_samples[:, tf.newaxis] + tf.range(length)
    windows = tf.reshape(tf.gather(waveform, places, axis=1), [batch * n_windows, length])
    found = _analyze_few(model.analyzer(outputs), windows)
    if "contributions" in found:
        # As `Tagger` has it: nothing in a silent window speaks for a tag.
        found["contributions"] *= heard_in(windows)[..., tf.newaxis]
    by_window = {
        name: tf.reshape(value, tf.concat([[batch, n_windows], tf.shape(value)[1:]], axis=0))
        for name, value in found.items()
    }
    new = tf.clip_by_value(n_samples - tf.range(n_windows) * size * token, 1, size * token)
    share = tf.cast(new, tf.float32) / tf.cast(tf.reduce_sum(new), tf.float32)
    # Tokens of the whole; those of the last window lie up to a token earlier than their number says.
    starts = tf.minimum(tf.range(n_windows) * size, n_tokens - size)
    owner = tf.minimum(tf.range(n_tokens) // size, n_windows - 1)
    local = tf.range(n_tokens) - tf.gather(starts, owner)
    joined = {}
    if "contributions" in by_window or "attention" in by_window:
        centres = tf.cast(tf.gather(first_samples, owner), tf.float32) + (tf.cast(local, tf.float32) + 0.5) * token
        joined["times"] = tf.tile(centres[tf.newaxis] / windowing.sample_rate, [batch, 1])
    for name, value in by_window.items():
        if name == "contributions":
            # [B, windows, tags, W] -> each token's column in the window that owns it.
            rows = tf.gather_nd(tf.transpose(value, [1, 3, 0, 2]), tf.stack([owner, local], axis=1))
            joined[name] = tf.transpose(rows, [1, 2, 0])
        elif name == "attention":
            joined[name] = _join_attention(value, share, starts, owner, local)
            cls = tf.reduce_sum(value[:, :, -1, :, 0, 1:], axis=2)
            joined["heatmap"] = tf.gather(tf.reshape(cls, [batch, n_windows * size]), owner * size + local, axis=1)
        else:
            joined[name] = tf.einsum("bwd,w->bd", value, share)
    return joined


def _analyze_few(analyze: Any, windows: tf.Tensor) -> dict[str, tf.Tensor]:
    """Run the model on up to `WINDOWS_AT_A_TIME` windows at a time; the memory of the rest is free meanwhile."""
    shapes = {name: value.shape for name, value in analyze.get_concrete_function().structured_outputs.items()}
    n_windows = tf.shape(windows)[0]

    def many() -> dict[str, tf.Tensor]:
        n_parts = -(-n_windows // WINDOWS_AT_A_TIME)
        parts = {name: tf.TensorArray(tf.float32, n_parts, infer_shape=False) for name in shapes}

        def listen(index: tf.Tensor, parts: dict[str, tf.TensorArray]) -> tuple[tf.Tensor, dict[str, tf.TensorArray]]:
            # Equal parts: 17 windows are 8 and 9.
            part = windows[index * n_windows // n_parts : (index + 1) * n_windows // n_parts]
            found = analyze(part)
            return index + 1, {name: array.write(index, found[name]) for name, array in parts.items()}

        _, parts = tf.while_loop(lambda index, _: index < n_parts, listen, (0, parts), parallel_iterations=1)
        return {name: array.concat() for name, array in parts.items()}

    found = tf.cond(n_windows <= WINDOWS_AT_A_TIME, lambda: analyze(windows), many)
    return {name: tf.ensure_shape(value, shapes[name]) for name, value in found.items()}


def _join_attention(
    value: tf.Tensor, share: tf.Tensor, starts: tf.Tensor, owner: tf.Tensor, local: tf.Tensor
) -> tf.Tensor:
    """Join attention [B, windows, layers, heads, 1+W, 1+W] to [B, layers, heads, 1+T, 1+T]."""
    n_tokens, size = tf.shape(owner)[0], tf.shape(value)[-1] - 1
    # Each token's row in the window that owns it: [T, B, layers, heads, 1+W].
    rows = tf.gather_nd(tf.transpose(value, [1, 4, 0, 2, 3, 5]), tf.stack([owner, local + 1], axis=1))
    # Column c of the whole is column c - s of a window that starts at s; [CLS] stays at 0.
    offsets = tf.range(n_tokens)[tf.newaxis] - starts[:, tf.newaxis]
    inside = (offsets >= 0) & (offsets < size)
    lookup = tf.pad(tf.where(inside, offsets + 1, size + 1), [[0, 0], [1, 0]])
    rows = tf.pad(rows, [[0, 0]] * 4 + [[0, 1]])
    spread = tf.transpose(rows, [0, 4, 1, 2, 3])
    spread = tf.gather(spread, tf.gather(lookup, owner), batch_dims=1)
    tokens = tf.transpose(spread, [2, 3, 4, 0, 1])
    # The [CLS] row of every window, placed in the whole and weighted.
    first = tf.pad(tf.transpose(value[:, :, :, :, 0], [1, 4, 0, 2, 3]), [[0, 0], [0, 1]] + [[0, 0]] * 3)
    first = tf.gather(first, lookup, batch_dims=1)
    cls = tf.einsum("wtblh,w->blht", first, share)
    return tf.concat([cls[..., tf.newaxis, :], tokens], axis=-2)
