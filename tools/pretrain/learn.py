"""Let a model of the preset `pons` learn from musicnn, which labels what it hears while it hears it.

    export PYTHONPATH=tools
    python -m pretrain.learn --init runs/begun.keras --out runs/learnt --steps 2000 \
        --music data/clips/manifest.jsonl --music data/singing/manifest.jsonl --notes data/scores/manifest.jsonl

A batch has crops of --music, changed and mixed at random (`produce.py` says how), and crops of --notes, whose dense
labels say what sounds when (`keras_tagger/data/dense.py`). Both of musicnn's sets of weights label them as they are.
In crops of --notes, an instrument that sounds then has at least --present, and one that does not has at most --absent.
Nothing is labelled beforehand, so no crop is heard twice.

The loss is the cross-entropy of the tags of the crop, that of the contributions in each patch of 3 s, and the squared
difference between the tokens of a patch and the teacher's values before its last layer (FitNets, Romero et al. 2015,
arXiv 1412.6550). Batch normalisation keeps its statistics.

OUT/last.keras and OUT/optimizer.npz are written every --save_steps; the program continues from them. Imports
TensorFlow. Not part of the package.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from absl import app, flags, logging

from keras_tagger import audio
from keras_tagger.data.dense import read_dense
from keras_tagger.data.manifest import Clip, read_manifest
from keras_tagger.errors import AudioError, KerasTaggerError
from keras_tagger.files import replacing
from keras_tagger.models.losses import contribution_loss, tag_loss
from keras_tagger.tagger import Tagger, load
from keras_tagger.teachers.musicnn import HOP_LENGTH, PATCH_FRAMES, find_wheel, load_musicnn
from pretrain.begin import VOCABULARIES
from pretrain.produce import produce

RATE = 16000
# What notes and programs tell better than musicnn. Of the other tags they say too little.
INSTRUMENTS = (
    *("guitar", "strings", "drums", "piano", "violin", "synth", "harpsichord", "flute", "sitar"),
    *("choir", "choral", "harp", "cello"),
)
CORRECTED = (*INSTRUMENTS, "female", "woman", "female vocal", "female voice", "msd/female vocalists")
# First frames of the patches of a crop of 640 frames.
STARTS = (0, 226, 453)
PATCHES = tuple((start, PATCH_FRAMES) for start in STARTS)
Array = npt.NDArray[Any]

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    define_common_flags()
    flags.DEFINE_integer("steps", 2000, "Number of steps.", lower_bound=1)
    flags.DEFINE_integer("music_batch", 6, "Crops of music in a batch.", lower_bound=0)
    flags.DEFINE_integer("notes_batch", 2, "Crops with dense labels in a batch.", lower_bound=0)
    flags.DEFINE_float(
        "learning_rate", 1.5e-5, "Highest learning rate of what musicnn has; it falls to a fiftieth along a cosine."
    )
    flags.DEFINE_float("new_learning_rate", 6e-5, "The same for [CLS], the encoder and the tokens' own features.")
    flags.DEFINE_float("hint", 0.3, "Weight of the loss of the values before the teacher's last layer.", lower_bound=0)
    flags.DEFINE_float("contributions", 1.0, "Weight of the loss of contributions.", lower_bound=0)
    flags.DEFINE_float("temperature", 2.0, "Temperature of the loss of tags.", lower_bound=1)


def define_common_flags() -> None:
    """Define the flags that `attend.py` has as well."""
    flags.DEFINE_string("init", None, "The .keras file, run or pretrained name to begin with.", required=True)
    flags.DEFINE_string("out", None, "Folder of the checkpoints.", required=True)
    flags.DEFINE_multi_string("music", [], "Manifest of music for the teacher; may be followed by =WEIGHT.")
    flags.DEFINE_multi_string("notes", [], "Manifest of clips with dense labels; may be followed by =WEIGHT.")
    flags.DEFINE_float("present", 0.8, "Least label of a tag that sounds.", 0.0, 1.0)
    flags.DEFINE_float("absent", 0.02, "Highest label of a tag that does not sound.", 0.0, 1.0)
    flags.DEFINE_integer("save_steps", 200, "Steps between checkpoints.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the crops.")
    flags.DEFINE_string("work_dir", "data/teacher", "Folder of musicnn's wheel; pip downloads it if it is missing.")


def optimizers_of(groups: Iterable[tuple[Sequence[Any], float]], steps: int, warmup_steps: int) -> list[Any]:
    """Return an AdamW with a warm-up and a cosine for each group of weights and its highest learning rate."""
    optimizers = []
    for group, rate in groups:
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, max(steps - warmup_steps, 1), alpha=0.02, warmup_target=rate, warmup_steps=warmup_steps
        )
        optimizers.append(keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=1.0))
        optimizers[-1].build(group)
    return optimizers


def main(argv: Sequence[str]) -> None:
    """Train, or go on training."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        learn(Path(FLAGS.out))
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")


class Source:
    """Random crops of the training clips of manifests, each of which may have a weight: `PATH` or `PATH=WEIGHT`.

    Args:
        manifests: The manifests.
        samples: Length of a crop at 16 kHz.
        tags: The tags of the model.
        seed: Seed of the crops.
        stretches: Where the labels of a crop are wanted: first frame and number of frames of each stretch.
    """

    def __init__(
        self,
        manifests: Sequence[str],
        samples: int,
        tags: tuple[str, ...],
        seed: int,
        stretches: Sequence[tuple[int, int]] = PATCHES,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.samples, self.tags, self.stretches = samples, tags, stretches
        self.clips: list[Sequence[Clip]] = []
        weights = []
        for text in manifests:
            path, _, weight = text.partition("=")
            self.clips.append(read_manifest(path).select("train").clips)
            weights.append(float(weight or 1.0))
        self.shares = np.array(weights) / sum(weights)

    def crop(self) -> tuple[Array, Array]:
        """Return a crop, float32 [samples], and what its labels say of each stretch: 1, 0 or NaN, [stretches, tags]."""
        while True:
            clips = self.clips[int(self.rng.choice(len(self.shares), p=self.shares))]
            clip = clips[int(self.rng.integers(len(clips)))]
            try:
                return self._cut(clip)
            except AudioError as error:
                logging.warning("%s: left out: %s", clip.path, error)

    def batches(self, count: int, size: int = 8) -> Iterator[Array]:
        """Yield `count // size` batches of crops, float32 `[size, samples]`."""
        for _ in range(count // size):
            yield np.stack([self.crop()[0] for _ in range(size)]).astype(np.float32)

    def crop_or_two(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return a crop as `crop` does, or two at once in three cases of ten."""
        wave, known = self.crop()
        if rng.random() < 0.3:
            other, also = self.crop()
            wave = wave + other * 10.0 ** (rng.uniform(-6.0, 3.0) / 20.0)
            # What sounds in either sounds in both.
            known = np.where((known == 1) | (also == 1), 1.0, np.where(known + also == 0, 0.0, np.nan))
        return wave, known

    def _cut(self, clip: Clip) -> tuple[Array, Array]:
        waveform = audio.load(clip.path, RATE, clip.start_seconds, clip.end_seconds)
        first = int(self.rng.integers(max(1, len(waveform) - self.samples + 1)))
        cut = waveform[first : first + self.samples]
        known = np.full((len(self.stretches), len(self.tags)), np.nan, np.float32)
        if clip.labels:
            dense = read_dense(clip.labels)
            values = dense.columns(self.tags)
            values[:, [tag not in CORRECTED for tag in self.tags]] = np.nan
            begins = np.arange(len(values)) * dense.hop_seconds
            for index, (start, n_frames) in enumerate(self.stretches):
                begin, end = ((first + frame * HOP_LENGTH) / RATE for frame in (start, start + n_frames))
                inside = (begins + dense.length_seconds > begin + 0.2) & (begins < end - 0.2)
                heard = values[inside]
                # A tag sounds in a stretch if it sounds in any part of it, and does not if it sounds in none.
                known[index] = np.where(
                    (heard >= 0.5).any(axis=0), 1.0, np.where((heard < 0.5).all(axis=0), 0.0, np.nan)
                )
            if len(cut) < self.samples:
                # The crop is repeated.
                known[1:] = known[0]
        return np.resize(cut, self.samples), known


class Listener:
    """What a model's filters find, and what musicnn says of the patches of the same crop.

    Args:
        model: A model of the preset `pons`.
        work_dir: Folder of musicnn's wheel.
    """

    def __init__(self, model: keras.Model, work_dir: str) -> None:
        wheel = find_wheel(work_dir)
        self.model = model
        self.teachers = [load_musicnn(wheel, vocabulary) for vocabulary in VOCABULARIES]

    def listen(self, waveform: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Return the spectrogram and the responses of each filter bank."""
        front_end = self.model.front_end
        seen = self.model.see(waveform)
        x = front_end.padded(seen)
        banks = zip(front_end.convolutions, front_end.norms, strict=True)
        return seen, [tf.stop_gradient(front_end.response(x, convolution, norm)) for convolution, norm in banks]

    def told(self, seen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the values before the teachers' last layers and their scores, `[batch, patches, hidden or tags]`."""
        # The teacher's logarithms are decadic.
        patches = _patches(seen) / np.log(10.0)
        hidden, scores = [], []
        for teacher in self.teachers:
            values, logits = teacher.hidden_and_logits(patches)
            hidden.append(values)
            scores.append(tf.sigmoid(logits))
        return tuple(
            tf.reshape(joined := tf.concat(parts, -1), [-1, len(STARTS), joined.shape[-1]])
            for parts in (hidden, scores)
        )


def _patches(values: tf.Tensor) -> tf.Tensor:
    """Cut `[batch, frames, n]` into the patches of a crop, `[batch * patches, PATCH_FRAMES, n]`."""
    cut = tf.stack([values[:, start : start + PATCH_FRAMES] for start in STARTS], axis=1)
    return tf.reshape(cut, [-1, PATCH_FRAMES, values.shape[-1]])


def corrected(soft: Array, known: Array, present: float, absent: float) -> tuple[Array, Array]:
    """Correct the teacher's scores where the notes know better.

    Args:
        soft: The teacher's scores, float `[batch, patches, tags]`.
        known: 1 for what sounds, 0 for what does not, NaN for what is not known, of the same shape.
        present: Least label of a tag that sounds.
        absent: Highest label of a tag that does not.

    Returns:
        Labels of the patches, of the same shape, and of the crops, `[batch, tags]`.
    """
    stretches = tf.where(known == 1, tf.maximum(soft, present), soft)
    stretches = tf.where(known == 0, tf.minimum(stretches, absent), stretches)
    # A tag that sounds in any patch sounds in the crop.
    return stretches, tf.where(
        tf.reduce_any(known == 1, axis=1), tf.reduce_max(stretches, axis=1), tf.reduce_mean(stretches, axis=1)
    )


def batches(model: keras.Model, tags: tuple[str, ...], first_step: int) -> Iterator[tuple[Array, Array]]:
    """Yield waveforms [batch, samples] and known labels [batch, patches, tags], from a thread of its own."""
    samples = model.window_samples
    music = Source(FLAGS.music, samples, tags, FLAGS.seed + 2 * first_step)
    notes = Source(FLAGS.notes, samples, tags, FLAGS.seed + 2 * first_step + 1) if FLAGS.notes else None
    rng = np.random.default_rng(FLAGS.seed + first_step)
    ready: queue.Queue[Any] = queue.Queue(4)

    def fill() -> None:
        while True:
            waves, known = [], []
            for _ in range(FLAGS.music_batch):
                wave, labels = music.crop()
                waves.append(produce(wave, rng, lambda: music.crop()[0]))
                known.append(np.full_like(labels, np.nan))
            for _ in range(FLAGS.notes_batch if notes else 0):
                wave, labels = notes.crop_or_two(rng)
                waves.append(produce(wave, rng, None))
                known.append(labels)
            ready.put((np.stack(waves).astype(np.float32), np.stack(known).astype(np.float32)))

    threading.Thread(target=fill, daemon=True).start()
    while True:
        yield ready.get()


def learn(out: Path) -> Tagger:
    """Train and write the checkpoints; return the tagger."""
    out.mkdir(parents=True, exist_ok=True)
    last, state = out / "last.keras", out / "optimizer.npz"
    tagger = load(str(last) if last.exists() else FLAGS.init)
    model = tagger.model
    model.freeze("statistics")
    front_end = model.front_end
    # The filters have heard far more music than there is here. Their scales and offsets are trained.
    for layer in (front_end.input_norm, *front_end.convolutions):
        layer.trainable = False
    listener = Listener(model, FLAGS.work_dir)
    weights = model.trainable_weights
    fresh = [weight for weight in weights if any(part in weight.path for part in ("encoder", "class_token", "own"))]
    known_already = [weight for weight in weights if not any(weight is other for other in fresh)]
    groups = ((known_already, FLAGS.learning_rate), (fresh, FLAGS.new_learning_rate))
    optimizers = optimizers_of(groups, FLAGS.steps, 150)
    variables = [variable for optimizer in optimizers for variable in optimizer.variables]
    if state.exists():
        with np.load(state) as saved:
            for variable, key in zip(variables, sorted(saved.files), strict=True):
                variable.assign(saved[key])
    first_step = int(optimizers[0].iterations.numpy())
    bounds = tf.constant([[[start * HOP_LENGTH, (start + PATCH_FRAMES) * HOP_LENGTH] for start in STARTS]], tf.int32)
    tokens_of_patch = np.zeros((len(STARTS), model.window_samples // model.token_samples), np.float32)
    for row, start in zip(tokens_of_patch, STARTS, strict=True):
        row[-(-start // 8) : (start + PATCH_FRAMES) // 8] = 1.0
    tokens_of_patch /= tokens_of_patch.sum(axis=1, keepdims=True)

    @tf.function(autograph=False)
    def step(waveform: tf.Tensor, known: tf.Tensor) -> tuple[tf.Tensor, ...]:
        seen, responses = listener.listen(waveform)
        hints, soft = listener.told(seen)
        stretches, labels = corrected(soft, known, FLAGS.present, FLAGS.absent)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([weight.value for weight in weights])
            tokens = front_end.tokens_of(front_end.maps_after(front_end.normed(responses), False), False)
            context, _ = model.encoder.encode_context(model.place(tokens), training=True)
            logits = model.head(model.encoder.finish(context, training=True), training=True)
            single = model.head(model.encoder.attend_single(context, True)[:, 1:], training=True)
            tag = tag_loss(labels, logits, FLAGS.temperature)
            batch_bounds = tf.repeat(bounds, tf.shape(waveform)[0], axis=0)
            where = contribution_loss(single, stretches, batch_bounds, model.token_samples)
            near = tf.einsum("pt,btc->bpc", tokens_of_patch, tokens[..., : hints.shape[-1]])
            hint = tf.reduce_mean(tf.square(near - hints))
            loss = tag + FLAGS.contributions * where + FLAGS.hint * hint
        gradients = tape.gradient(loss, [known_already, fresh])
        for optimizer, group, gradient in zip(optimizers, (known_already, fresh), gradients, strict=True):
            optimizer.apply_gradients(zip(gradient, group, strict=True))
        entropy = tag_loss(labels, tf.math.log(labels) - tf.math.log1p(-labels), FLAGS.temperature)
        return tag - entropy, where, hint

    began, seen_losses = time.monotonic(), []
    stream = batches(model, tuple(model.tags), first_step)
    for index in range(first_step, FLAGS.steps):
        seen_losses.append([float(value) for value in step(*(tf.constant(array) for array in next(stream)))])
        if (index + 1) % 25 == 0:
            tag, where, hint = np.mean(seen_losses, axis=0)
            seconds = time.monotonic() - began
            print(
                f"step {index + 1}/{FLAGS.steps}, {seconds:.0f} s: above the labels' entropy {tag:.4f}, "
                f"contributions {where:.4f}, hint {hint:.3f}",
                flush=True,
            )
            seen_losses = []
        if (index + 1) % FLAGS.save_steps == 0 or index + 1 == FLAGS.steps:
            tagger.save(last)
            with replacing(state) as temporary:
                np.savez(temporary, **{f"{i:04d}": v.numpy() for i, v in enumerate(variables)})
    (out / "settings.json").write_text(json.dumps(FLAGS.flag_values_dict(), indent=1, default=str), "utf-8")
    return tagger


if __name__ == "__main__":
    define_flags()
    app.run(main)
