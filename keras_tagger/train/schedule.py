"""Optimisers and learning rates, phase by phase."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from keras_tagger.config import PhaseConfig, TrainingConfig

MOMENTUM = 0.9
# Biases, normalisation and embeddings are not decayed, as is common practice (Loshchilov and Hutter 2019).
NO_DECAY = ("bias", "gamma", "beta", "vector", "table")


class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then a cosine to zero (Loshchilov and Hutter 2017) or a constant.

    Args:
        peak: Learning rate at the end of the warm-up.
        steps: Steps of the whole phase.
        warmup_steps: Steps of the rise from zero.
        cosine: Whether the rate falls to zero after the warm-up.
    """

    def __init__(self, peak: float, steps: int, warmup_steps: int = 0, cosine: bool = True) -> None:
        self.peak = peak
        self.steps = steps
        self.warmup_steps = warmup_steps
        self.cosine = cosine

    def __call__(self, step: Any) -> tf.Tensor:
        """Return the learning rate of a step, counted from 0."""
        step = tf.cast(step, tf.float32)
        rise = tf.minimum((step + 1.0) / max(self.warmup_steps, 1), 1.0)
        if not self.cosine:
            return self.peak * rise
        done = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        return self.peak * rise * 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(done, 0.0, 1.0)))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            "peak": self.peak,
            "steps": self.steps,
            "warmup_steps": self.warmup_steps,
            "cosine": self.cosine,
        }


def phase_of(training: TrainingConfig, epoch: int) -> int:
    """Return the number of the phase that an epoch belongs to; 0 is the first."""
    return sum(phase.from_epoch <= epoch for phase in training.phases)


def first_epoch(training: TrainingConfig, phase: int) -> int:
    """Return the first epoch of a phase, counted from 0."""
    return 0 if phase == 0 else training.phases[phase - 1].from_epoch


def coupled_decay(training: TrainingConfig, phase: int) -> float:
    """Return the share of each trainable weight that is added to its gradient; 0 if the decay is decoupled."""
    settings = _settings(training, phase)
    return settings.weight_decay if settings.decay == "coupled" else 0.0


def phase_schedule(training: TrainingConfig, phase: int, steps_per_epoch: int) -> WarmupSchedule:
    """Return the learning rate of a phase over its steps."""
    settings = _settings(training, phase)
    start = first_epoch(training, phase)
    end = first_epoch(training, phase + 1) if phase < len(training.phases) else training.epochs
    return WarmupSchedule(
        settings.learning_rate,
        steps=max(min(end, training.epochs) - start, 1) * steps_per_epoch,
        warmup_steps=round(training.warmup_epochs * steps_per_epoch) if phase == 0 else 0,
        cosine=settings.schedule == "cosine",
    )


def phase_optimizer(training: TrainingConfig, phase: int, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return the optimiser of a phase, with its schedule over the phase's steps."""
    settings, schedule = _settings(training, phase), phase_schedule(training, phase, steps_per_epoch)
    common: dict[str, Any] = {"learning_rate": schedule, "global_clipnorm": training.clip_norm or None}
    decoupled = settings.weight_decay if settings.decay == "decoupled" else 0.0
    if settings.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(weight_decay=decoupled, **common)
    elif settings.optimizer == "adam":
        optimizer = keras.optimizers.Adam(weight_decay=decoupled or None, **common)
    else:
        optimizer = keras.optimizers.SGD(momentum=MOMENTUM, nesterov=True, weight_decay=decoupled or None, **common)
    if decoupled:
        optimizer.exclude_from_weight_decay(var_names=list(NO_DECAY))
    if training.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def _settings(training: TrainingConfig, phase: int) -> TrainingConfig | PhaseConfig:
    return training if phase == 0 else training.phases[phase - 1]
