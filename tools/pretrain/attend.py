"""Let the attention of a model of the preset `pons` learn where to look.

    export PYTHONPATH=tools
    python -m pretrain.attend --init runs/learnt/last.keras --out runs/attentive \
        --music data/clips/manifest.jsonl --notes data/scores_train/manifest.jsonl

A model that imitates a teacher which averages over time has no reason to look at one moment more than at another
(`learn.py`). Here it hears crops that give it one: music with gaps of silence or noise, whose labels are those of the
music without them. Between them are music as it is, two pieces one after the other, and crops of --notes, so that what
was learnt stays. In a gap the contributions of all tags shall be small.

The front-end does not change. What it finds in a crop, and what the teacher says of it, is computed once and kept in
OUT/features. Queries and keys learn at --attention_learning_rate; the rest of the encoder, [CLS] and the tokens' own
features at --new_learning_rate; what musicnn has, the values of the last layer and the head, at --learning_rate.

OUT/last.keras and OUT/optimizer.npz are written every --save_steps; the program continues from them. Imports
TensorFlow. Not part of the package.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from absl import app, flags, logging

from keras_tagger.errors import KerasTaggerError
from keras_tagger.files import replacing
from keras_tagger.models.losses import contribution_loss, tag_loss
from keras_tagger.tagger import Tagger, load
from keras_tagger.teachers.musicnn import HOP_LENGTH, PATCH_FRAMES
from pretrain.learn import STARTS, Listener, Source, corrected, define_common_flags, optimizers_of
from pretrain.produce import produce

KINDS = ("music", "gaps", "joined", "notes")
CROPS_AT_ONCE = 8
Array = npt.NDArray[Any]

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    define_common_flags()
    flags.DEFINE_list("crops", ["2400", "1200", "400", "2000"], f"Numbers of crops of {', '.join(KINDS)}.")
    flags.DEFINE_list("batch", ["17", "8", "4", "3"], "How many of each a batch has.")
    flags.DEFINE_integer("steps", 1000, "Number of steps.", lower_bound=1)
    flags.DEFINE_float("attention_learning_rate", 8e-4, "Highest learning rate of queries and keys.")
    flags.DEFINE_float("new_learning_rate", 1.5e-4, "The same of the rest of the encoder and the tokens' own features.")
    flags.DEFINE_float("learning_rate", 2e-5, "The same of the last layer's values and the head.")
    flags.DEFINE_float("notes_weight", 0.5, "Weight of a crop of notes in the loss of tags.", lower_bound=0)


def main(argv: Sequence[str]) -> None:
    """Train, or go on training."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        attend(Path(FLAGS.out))
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")


def with_gaps(waveform: Array, n_tokens: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Replace stretches of the waveform by silence, hiss or rumble.

    Args:
        waveform: float32 `[samples]`.
        n_tokens: Tokens of the crop.
        rng: Source of chance.

    Returns:
        The waveform, and which tokens still sound, bool `[n_tokens]`, at least a quarter.
    """
    sounding = np.ones(n_tokens, bool)
    for _ in range(int(rng.integers(1, 4))):
        start = int(rng.integers(0, int(0.9 * n_tokens)))
        end = start + int(rng.integers(n_tokens // 10, int(0.45 * n_tokens)))
        if sounding.sum() - sounding[start:end].sum() >= n_tokens // 4:
            sounding[start:end] = False
    # 20 ms of fade.
    ramp = np.hanning(321) / np.hanning(321).sum()
    gain = np.convolve(np.repeat(sounding, len(waveform) // n_tokens).astype(np.float32), ramp, "same")
    gain = np.resize(gain, len(waveform))
    level = float(np.sqrt(np.mean(waveform**2))) * 10.0 ** (rng.uniform(-70.0, -25.0) / 20.0)
    kind = rng.random()
    noise = np.zeros(len(waveform)) if kind < 0.35 else rng.standard_normal(len(waveform))
    if kind >= 0.7:
        noise = np.cumsum(noise)
        noise -= np.convolve(noise, np.ones(401) / 401, "same")
    noise *= level / (noise.std() + 1e-9)
    # Noise is heard in the gaps only, or everywhere.
    audible = 1.0 - gain if rng.random() < 0.6 else 1.0
    return (waveform * gain + noise * audible).astype(np.float32), sounding


def make_crop(kind: str, music: Source, notes: Source, n_tokens: int, rng: np.random.Generator) -> dict[str, Array]:
    """Return a crop: what is heard, what the teacher shall label, what notes say, and which tokens sound."""
    sounding = np.ones(n_tokens, bool)
    if kind == "notes":
        wave, known = notes.crop_or_two(rng)
        labelled = heard = produce(wave, rng, None)
    else:
        wave, known = music.crop()
        known = np.full_like(known, np.nan)
        if kind == "joined":
            cut = int(rng.uniform(0.25, 0.75) * len(wave))
            wave = np.concatenate([wave[:cut], music.crop()[0][cut:]])
        if kind != "gaps" or rng.random() < 0.5:
            wave = produce(wave, rng, None if kind == "joined" else lambda: music.crop()[0])
        labelled = heard = wave
        if kind == "gaps":
            heard, sounding = with_gaps(wave, n_tokens, rng)
    return {"heard": heard, "labelled": labelled, "known": known, "sounding": sounding}


def write_features(path: Path, kind: str, n_crops: int, model: keras.Model, listener: Listener, seed: int) -> None:
    """Write what the front-end finds in crops, and what the teacher says: maps, soft, known and sounding."""
    front_end, tags = model.front_end, tuple(model.tags)
    music = Source(FLAGS.music, model.window_samples, tags, seed)
    notes = Source(FLAGS.notes, model.window_samples, tags, seed + 1) if kind == "notes" else music
    rng = np.random.default_rng(seed + 2)
    n_tokens = model.window_samples // model.token_samples

    @tf.function(autograph=False)
    def hear(heard: tf.Tensor, labelled: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        maps = front_end.maps_of(listener.listen(heard)[1], False)[:, :, 0]
        return tf.cast(maps, tf.float16), listener.told(*listener.listen(labelled))[1]

    parts: dict[str, list[Array]] = {name: [] for name in ("maps", "soft", "known", "sounding")}
    for begin in range(0, n_crops, CROPS_AT_ONCE):
        count = min(CROPS_AT_ONCE, n_crops - begin)
        crops = [make_crop(kind, music, notes, n_tokens, rng) for _ in range(count)]
        heard, labelled = (
            np.stack([crop[name] for crop in crops]).astype(np.float32) for name in ("heard", "labelled")
        )
        maps, soft = hear(heard, labelled)
        parts["maps"].append(maps.numpy())
        parts["soft"].append(soft.numpy())
        for name in ("known", "sounding"):
            parts[name].append(np.stack([crop[name] for crop in crops]))
        if begin // CROPS_AT_ONCE % 25 == 24:
            logging.info("%s: %d of %d crops.", kind, begin + count, n_crops)
    with replacing(path) as temporary:
        np.savez(temporary, **{name: np.concatenate(arrays) for name, arrays in parts.items()})


def targets(kind: str, crops: Mapping[str, Array], chosen: Array) -> tuple[Array, Array]:
    """Return the labels of the patches, NaN if unknown, and of the crops."""
    soft = crops["soft"][chosen].astype(np.float32)
    if kind == "notes":
        stretches, labels = corrected(soft, crops["known"][chosen].astype(np.float32), FLAGS.present, FLAGS.absent)
        return np.asarray(stretches), np.asarray(labels)
    if kind != "gaps":
        return soft, soft.mean(axis=1)
    # Eight frames are a token.
    sounding = crops["sounding"][chosen]
    share = np.stack(
        [sounding[:, start // 8 : (start + PATCH_FRAMES) // 8 + 1].mean(axis=1) for start in STARTS], axis=1
    )
    counted = share >= np.minimum(0.5, share.max(axis=1, keepdims=True))
    labels = (soft * counted[..., np.newaxis]).sum(axis=1) / counted.sum(axis=1)[:, np.newaxis]
    # Between gap and music nobody knows what the patch's labels are.
    known = np.where((share >= 0.75)[..., np.newaxis], soft, np.nan)
    stretches = np.where((share < 0.08)[..., np.newaxis], np.minimum(soft, FLAGS.absent), known)
    return stretches.astype(np.float32), labels.astype(np.float32)


def attend(out: Path) -> Tagger:
    """Compute the features that are missing, train, and write the checkpoints; return the tagger."""
    (out / "features").mkdir(parents=True, exist_ok=True)
    last, state = out / "last.keras", out / "optimizer.npz"
    tagger = load(str(last) if last.exists() else FLAGS.init)
    model = tagger.model
    model.freeze("statistics")
    listener: Listener | None = None
    features, sizes = [], []
    for index, (kind, n_crops, size) in enumerate(zip(KINDS, FLAGS.crops, FLAGS.batch, strict=True)):
        if not int(size) or (kind == "notes" and not FLAGS.notes):
            continue
        path = out / "features" / f"{kind}.npz"
        if not path.exists():
            listener = listener or Listener(model, FLAGS.work_dir)
            write_features(path, kind, int(n_crops), model, listener, FLAGS.seed + 10 * index)
        with np.load(path) as saved:
            features.append((kind, dict(saved)))
        sizes.append(int(size))
    front_end, encoder = model.front_end, model.encoder
    attention = encoder.blocks[-1].attention
    looking = [
        weight
        for block in encoder.blocks
        for dense in (block.attention.query_dense, block.attention.key_dense)
        for weight in dense.trainable_weights
    ]
    musicnns = [
        weight
        for layer in (model.head, front_end.project_context, attention.value_dense, attention.output_dense)
        for weight in layer.trainable_weights
    ]
    taken = {id(weight) for weight in (*looking, *musicnns)}
    new = [
        weight
        for layer in (encoder, model.class_token, front_end.project_own)
        for weight in layer.trainable_weights
        if id(weight) not in taken
    ]
    groups = [musicnns, new, looking]
    rates = (FLAGS.learning_rate, FLAGS.new_learning_rate, FLAGS.attention_learning_rate)
    optimizers = optimizers_of(zip(groups, rates, strict=True), FLAGS.steps, 50)
    variables = [variable for optimizer in optimizers for variable in optimizer.variables]
    if state.exists():
        with np.load(state) as saved:
            for variable, key in zip(variables, sorted(saved.files), strict=True):
                variable.assign(saved[key])
    bounds = np.array([[[start * HOP_LENGTH, (start + PATCH_FRAMES) * HOP_LENGTH] for start in STARTS]], np.int32)

    @tf.function(autograph=False)
    def step(maps: tf.Tensor, stretches: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([weight.value for group in groups for weight in group])
            tokens = front_end.tokens_of(maps[:, :, tf.newaxis], False)
            context, _ = encoder.encode_context(model.place(tokens), training=True)
            logits = model.head(encoder.finish(context, training=True), training=True)
            single = model.head(encoder.attend_single(context, True)[:, 1:], training=True)
            tag = tag_loss(labels, logits, 2.0, weights)
            everywhere = tf.repeat(bounds, tf.shape(maps)[0], axis=0)
            where = contribution_loss(single, stretches, everywhere, model.token_samples)
            loss = tag + where
        for optimizer, group, gradient in zip(optimizers, groups, tape.gradient(loss, groups), strict=True):
            optimizer.apply_gradients(zip(gradient, group, strict=True))
        return tag, where

    began, losses = time.monotonic(), []
    for index in range(int(optimizers[0].iterations.numpy()), FLAGS.steps):
        rng = np.random.default_rng((FLAGS.seed, index))
        columns: list[list[Array]] = [[], [], [], []]
        for (kind, crops), size in zip(features, sizes, strict=True):
            chosen = rng.integers(0, len(crops["maps"]), size)
            weight = FLAGS.notes_weight if kind == "notes" else 1.0
            stretches, labels = targets(kind, crops, chosen)
            parts = (crops["maps"][chosen].astype(np.float32), stretches, labels, np.full(size, weight, np.float32))
            for column, part in zip(columns, parts, strict=True):
                column.append(part)
        losses.append([float(value) for value in step(*(tf.constant(np.concatenate(parts)) for parts in columns))])
        if (index + 1) % 25 == 0:
            tag, where = np.mean(losses, axis=0)
            seconds = time.monotonic() - began
            print(
                f"step {index + 1}/{FLAGS.steps}, {seconds:.0f} s: tags {tag:.4f}, contributions {where:.4f}",
                flush=True,
            )
            losses = []
        if (index + 1) % FLAGS.save_steps == 0 or index + 1 == FLAGS.steps:
            tagger.save(last)
            with replacing(state) as temporary:
                np.savez(temporary, **{f"{i:04d}": v.numpy() for i, v in enumerate(variables)})
    return tagger


if __name__ == "__main__":
    define_flags()
    app.run(main)
