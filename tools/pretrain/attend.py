"""Let a model of the preset `pons` learn where to look, and what its second ear tells.

    export PYTHONPATH=tools
    python -m pretrain.attend --init runs/learnt/last.keras --out runs/attentive \
        --music data/clips/manifest.jsonl --notes data/scores_train/manifest.jsonl
    python -m pretrain.attend --init runs/thin.keras --out runs/hearing --second compact \
        --music data/clips/manifest.jsonl --notes data/scores_train/manifest.jsonl

A model that imitates a teacher which averages over time has no reason to look at one moment more than at another
(`learn.py`). Here it hears crops that give it one: music with gaps of silence or noise, whose labels are those of the
music without them. Between them are music as it is, two pieces one after the other, and crops of --notes, so that what
was learnt stays. In a gap the contributions of all tags shall be small.

The filters and the second ear do not change. What they find in a crop, and what the teacher says of it, is computed
once and kept in OUT/features. Queries and keys learn at --attention_learning_rate; the rest of the encoder, [CLS], the
projection of the second ear and the tokens' own features at --new_learning_rate; what musicnn has, from the
convolutions over time to the head, at --learning_rate.

--second names another teacher, which knows instruments better than musicnn. The logits of their tags are then a mean of
those of both teachers, in which the second counts --second_weight. In crops of --notes, each second has labels as well.

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
from pretrain.learn import (
    INSTRUMENTS,
    PATCHES,
    RATE,
    STARTS,
    Listener,
    Source,
    corrected,
    define_common_flags,
    optimizers_of,
)
from pretrain.produce import produce

KINDS = ("music", "gaps", "joined", "notes")
CROPS_AT_ONCE = 8
# First frame and number of frames of the stretches with labels: patches of the teacher, and seconds of notes.
FOUND = ("filters", "ear", "soft", "second")
SECOND = RATE // HOP_LENGTH
STRETCHES = (*PATCHES, *((start, SECOND) for start in range(0, 640 - SECOND + 1, SECOND)))
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
    flags.DEFINE_string("second", None, "The second teacher: a packaged name, a run or a .keras file.")
    flags.DEFINE_float("second_weight", 0.7, "How much it counts in the logits of instruments in --notes.", 0.0, 1.0)
    flags.DEFINE_float("second_weight_of_music", 0.3, "The same in --music.", 0.0, 1.0)
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


class Features:
    """What the filters and the second ear of a model find in crops, and what the teachers say of their patches.

    Args:
        model: A model of the preset `pons`.
        second: The second teacher; None for musicnn alone.
    """

    def __init__(self, model: keras.Model, second: Tagger | None) -> None:
        self.model = model
        self.listener = Listener(model, FLAGS.work_dir)
        self.second = second.model if second else None
        self.hear = tf.function(self._hear, autograph=False)

    def _hear(self, heard: tf.Tensor, labelled: tf.Tensor) -> tuple[tf.Tensor, ...]:
        front_end = self.model.front_end
        seen, responses = self.listener.listen(heard)
        ear = front_end.ear(seen) if front_end.ear else tf.zeros([tf.shape(heard)[0], 1, 0])
        soft = self.listener.told(self.model.see(labelled))[1]
        if self.second:
            patches = tf.stack(
                [labelled[:, start * HOP_LENGTH : (start + n_frames) * HOP_LENGTH] for start, n_frames in PATCHES],
                axis=1,
            )
            theirs = self.second(tf.reshape(patches, [-1, PATCH_FRAMES * HOP_LENGTH]), training=False)
            theirs = tf.reshape(theirs, [-1, len(STARTS), theirs.shape[-1]])
        else:
            theirs = tf.zeros([tf.shape(heard)[0], len(STARTS), 0])
        return tf.cast(front_end.normed(responses), tf.float16), tf.cast(ear, tf.float16), soft, theirs

    def write(self, path: Path, kind: str, n_crops: int, seed: int) -> None:
        """Write what is `FOUND` in `n_crops` crops of a kind, what notes say, and which tokens sound."""
        model, tags = self.model, tuple(self.model.tags)
        music = Source(FLAGS.music, model.window_samples, tags, seed, STRETCHES)
        notes = Source(FLAGS.notes, model.window_samples, tags, seed + 1, STRETCHES) if kind == "notes" else music
        rng = np.random.default_rng(seed + 2)
        n_tokens = model.window_samples // model.token_samples
        parts: dict[str, list[Array]] = {name: [] for name in (*FOUND, "known", "sounding")}
        for begin in range(0, n_crops, CROPS_AT_ONCE):
            count = min(CROPS_AT_ONCE, n_crops - begin)
            crops = [make_crop(kind, music, notes, n_tokens, rng) for _ in range(count)]
            waves = (np.stack([crop[name] for crop in crops]).astype(np.float32) for name in ("heard", "labelled"))
            for name, value in zip(FOUND, self.hear(*waves), strict=True):
                parts[name].append(value.numpy())
            for name in ("known", "sounding"):
                parts[name].append(np.stack([crop[name] for crop in crops]))
            if begin // CROPS_AT_ONCE % 25 == 24:
                logging.info("%s: %d of %d crops.", kind, begin + count, n_crops)
        with replacing(path) as temporary:
            np.savez(temporary, **{name: np.concatenate(arrays) for name, arrays in parts.items()})


def mixed(soft: Array, theirs: Array, tags: Sequence[str], other_tags: Sequence[str], weight: float) -> Array:
    """Give a second teacher a say in the tags of instruments that both have.

    Args:
        soft: Scores of musicnn, float `[..., len(tags)]`.
        theirs: Logits of the second teacher, float `[..., len(other_tags)]`.
        tags: The tags of the model.
        other_tags: The tags of the second teacher.
        weight: Its share in the logits.
    """
    found = np.array(soft, np.float32)
    for place, tag in enumerate(tags):
        if tag in INSTRUMENTS and tag in other_tags:
            inside = np.clip(found[..., place], 1e-6, 1.0 - 1e-6)
            logits = (1.0 - weight) * np.log(inside / (1.0 - inside)) + weight * theirs[..., other_tags.index(tag)]
            found[..., place] = 1.0 / (1.0 + np.exp(-logits))
    return found


def targets(
    kind: str, crops: Mapping[str, Array], chosen: Array, tags: Sequence[str], second_tags: Sequence[str]
) -> tuple[Array, Array]:
    """Return the labels of the stretches, NaN if unknown, and of the crops."""
    weight = FLAGS.second_weight if kind == "notes" else FLAGS.second_weight_of_music
    soft = mixed(crops["soft"][chosen], crops["second"][chosen], tags, second_tags, weight)
    patches, labels = _patches_and_crops(kind, crops, chosen, soft)
    known = crops["known"][chosen, len(PATCHES) :].astype(np.float32)
    seconds = np.where(known == 1, FLAGS.present, np.where(known == 0, FLAGS.absent, np.nan))
    return np.concatenate([patches, seconds], axis=1).astype(np.float32), labels


def _patches_and_crops(kind: str, crops: Mapping[str, Array], chosen: Array, soft: Array) -> tuple[Array, Array]:
    if kind == "notes":
        known = crops["known"][chosen, : len(PATCHES)].astype(np.float32)
        stretches, labels = corrected(soft, known, FLAGS.present, FLAGS.absent)
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
    second = load(FLAGS.second) if FLAGS.second else None
    made: Features | None = None
    features, sizes = [], []
    for index, (kind, n_crops, size) in enumerate(zip(KINDS, FLAGS.crops, FLAGS.batch, strict=True)):
        if not int(size) or (kind == "notes" and not FLAGS.notes):
            continue
        path = out / "features" / f"{kind}.npz"
        if not path.exists():
            made = made or Features(model, second)
            made.write(path, kind, int(n_crops), FLAGS.seed + 10 * index)
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
    over_time = [*front_end.mid, *front_end.mid_norms, front_end.context, front_end.project_context]
    musicnns = [
        weight
        for layer in (model.head, *over_time, attention.value_dense, attention.output_dense)
        for weight in layer.trainable_weights
    ]
    taken = {id(weight) for weight in (*looking, *musicnns)}
    new = [
        weight
        for layer in (encoder, model.class_token, front_end.project_own, front_end.project_ear)
        if layer is not None
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
    bounds = HOP_LENGTH * np.array([[(start, start + n_frames) for start, n_frames in STRETCHES]], np.int32)

    @tf.function(autograph=False)
    def step(
        filters: tf.Tensor, ear: tf.Tensor, stretches: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([weight.value for group in groups for weight in group])
            tokens = front_end.filter_tokens(front_end.maps_after(filters, False)[:, :, 0])
            if front_end.project_ear:
                tokens += front_end.project_ear(ear)
            context, _ = encoder.encode_context(model.place(tokens), training=True)
            logits = model.head(encoder.finish(context, training=True), training=True)
            single = model.head(encoder.attend_single(context, True)[:, 1:], training=True)
            tag = tag_loss(labels, logits, 2.0, weights)
            everywhere = tf.repeat(bounds, tf.shape(filters)[0], axis=0)
            where = contribution_loss(single, stretches, everywhere, model.token_samples)
            loss = tag + where
        for optimizer, group, gradient in zip(optimizers, groups, tape.gradient(loss, groups), strict=True):
            optimizer.apply_gradients(zip(gradient, group, strict=True))
        return tag, where

    began, losses = time.monotonic(), []
    for index in range(int(optimizers[0].iterations.numpy()), FLAGS.steps):
        rng = np.random.default_rng((FLAGS.seed, index))
        columns: list[list[Array]] = [[], [], [], [], []]
        for (kind, crops), size in zip(features, sizes, strict=True):
            chosen = rng.integers(0, len(crops["filters"]), size)
            weight = FLAGS.notes_weight if kind == "notes" else 1.0
            stretches, labels = targets(kind, crops, chosen, model.tags, second.tags if second else ())
            found = (crops[name][chosen].astype(np.float32) for name in ("filters", "ear"))
            parts = (*found, stretches, labels, np.full(size, weight, np.float32))
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
