"""Clips longer than the model's window, cut into windows and joined again in the graph.

The cut is that of `keras_tagger.audio.windows`: windows follow each other, and the last one is moved back so that it
has full length; only its new tokens count. Every second of audio therefore counts once.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from keras_tagger.models.music_tagger import MusicTagger, heard_in


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
        The outputs. With "attention" there is also "heatmap", float32 `[B, T]`: the [CLS] row of the last layer, summed
        over heads, each token's value from its window.
    """
    windowing = model.windowing
    token, limit = windowing.token_samples, windowing.window_samples // windowing.token_samples
    batch, n_samples = tf.shape(waveform)[0], tf.shape(waveform)[1]
    # A clip of up to one window is passed on unchanged; the model pads a partial token at its end.
    one = n_samples <= limit * token
    n_tokens = tf.where(one, model.n_tokens(n_samples), -(-n_samples // token))
    size = tf.minimum(n_tokens, limit)
    n_windows = -(-n_tokens // size)
    starts = tf.minimum(tf.range(n_windows) * size, n_tokens - size)
    length = tf.where(one, n_samples, size * token)
    padded = tf.pad(waveform, [[0, 0], [0, tf.maximum(n_tokens * token - n_samples, 0)]])
    places = starts[:, tf.newaxis] * token + tf.range(length)
    windows = tf.reshape(tf.gather(padded, places, axis=1), [batch * n_windows, length])
    found = model.analyzer(outputs)(windows)
    if "contributions" in found:
        # As `Tagger` has it: nothing in a silent window speaks for a tag.
        found["contributions"] *= heard_in(windows)[..., tf.newaxis]
    by_window = {
        name: tf.reshape(value, tf.concat([[batch, n_windows], tf.shape(value)[1:]], axis=0))
        for name, value in found.items()
    }
    new = tf.clip_by_value(n_samples - tf.range(n_windows) * size * token, 1, size * token)
    share = tf.cast(new, tf.float32) / tf.cast(tf.reduce_sum(new), tf.float32)
    owner = tf.minimum(tf.range(n_tokens) // size, n_windows - 1)
    local = tf.range(n_tokens) - tf.gather(starts, owner)
    joined = {}
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
