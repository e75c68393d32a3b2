"""Learning rates against their formulas, and which optimiser a phase has."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest

from keras_tagger.config import PhaseConfig, TrainingConfig, config_from_dict, presets
from keras_tagger.train.schedule import WarmupSchedule, coupled_decay, phase_of, phase_optimizer, phase_schedule


def rates(schedule: WarmupSchedule, steps: int) -> np.ndarray:
    return np.array([float(schedule(step)) for step in range(steps)])


def test_cosine_with_warm_up() -> None:
    expected = []
    for step in range(12):
        rise = min((step + 1) / 4, 1.0)
        done = max(step - 4, 0) / 6
        expected.append(0.3 * rise * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
    np.testing.assert_allclose(rates(WarmupSchedule(0.3, 10, 4), 12), expected, atol=1e-7)
    np.testing.assert_allclose(expected[:4], [0.075, 0.15, 0.225, 0.3], atol=1e-9)
    np.testing.assert_allclose(expected[7], 0.15, atol=1e-9)
    np.testing.assert_allclose(expected[10:], 0.0, atol=1e-9)


def test_constant_with_warm_up() -> None:
    found = rates(WarmupSchedule(0.2, 6, 2, cosine=False), 8)
    np.testing.assert_allclose(found, [0.1, *[0.2] * 7], atol=1e-7)


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    np.testing.assert_allclose(rates(WarmupSchedule(0.2, 4), 1), [0.2], atol=1e-7)


def test_schedule_round_trip() -> None:
    schedule = WarmupSchedule(0.3, 10, 4, cosine=False)
    again = WarmupSchedule.from_config(schedule.get_config())
    np.testing.assert_array_equal(rates(again, 10), rates(schedule, 10))


PHASES = (
    PhaseConfig(2, "sgd", 0.5, weight_decay=0.1),
    PhaseConfig(5, "adam", 0.25, schedule="cosine"),
)


def test_phase_of_an_epoch() -> None:
    training = TrainingConfig(epochs=8, phases=PHASES)
    assert [phase_of(training, epoch) for epoch in range(8)] == [0, 0, 1, 1, 1, 2, 2, 2]
    assert [phase_of(TrainingConfig(), epoch) for epoch in (0, 19)] == [0, 0]


def test_optimizer_of_each_phase() -> None:
    training = TrainingConfig(epochs=8, phases=PHASES, optimizer="adamw", warmup_epochs=0.5, learning_rate=1.0)
    first, second, third = (phase_optimizer(training, phase, 10) for phase in range(3))
    assert type(first) is keras.optimizers.AdamW
    assert first.global_clipnorm == 1.0
    schedule = phase_schedule(training, 0, 10)
    assert (schedule.peak, schedule.steps, schedule.warmup_steps, schedule.cosine) == (1.0, 20, 5, True)
    assert type(second) is keras.optimizers.SGD
    assert (second.momentum, second.nesterov, second.weight_decay) == (0.9, True, 0.1)
    schedule = phase_schedule(training, 1, 10)
    assert (schedule.peak, schedule.steps, schedule.warmup_steps, schedule.cosine) == (0.5, 30, 0, False)
    assert type(third) is keras.optimizers.Adam
    assert third.weight_decay is None
    schedule = phase_schedule(training, 2, 10)
    assert (schedule.peak, schedule.steps, schedule.warmup_steps, schedule.cosine) == (0.25, 30, 0, True)


def test_a_run_shorter_than_its_phases_ends_its_cosine() -> None:
    assert phase_schedule(TrainingConfig(epochs=1, phases=PHASES), 0, 10).steps == 10


def test_the_papers_schedule() -> None:
    training = presets()["won2019"].training
    found = [phase_optimizer(training, phase_of(training, epoch), 5) for epoch in (0, 59, 60, 80, 119)]
    assert [type(optimizer).__name__ for optimizer in found] == ["Adam", "Adam", "SGD", "SGD", "SGD"]
    np.testing.assert_allclose([float(o.learning_rate) for o in found], [1e-4, 1e-4, 1e-3, 1e-4, 1e-5], rtol=1e-6)
    assert [optimizer.global_clipnorm for optimizer in found] == [None] * 5


def one_step(optimizer: Any, gradient: float = 0.0) -> dict[str, float]:
    """Values of weights that were 1 after a step, by name."""
    layer = keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="ones")
    norm = keras.layers.LayerNormalization(beta_initializer="ones")
    layer.build((None, 1))
    norm.build((None, 1))
    weights = [*layer.weights, *norm.weights]
    optimizer.build(weights)
    optimizer.apply_gradients([(np.full(weight.shape, gradient, np.float32), weight) for weight in weights])
    return {weight.name: float(weight.numpy().reshape(-1)[0]) for weight in weights}


def test_weight_decay_is_decoupled_and_on_kernels_only() -> None:
    training = TrainingConfig(learning_rate=0.1, weight_decay=0.5, warmup_epochs=0.0, schedule="constant")
    found = one_step(phase_optimizer(training, 0, 10))
    np.testing.assert_allclose(found.pop("kernel"), 1 - 0.1 * 0.5, rtol=1e-6)
    assert found == {"bias": 1.0, "gamma": 1.0, "beta": 1.0}


def test_clip_norm() -> None:
    training = TrainingConfig(
        optimizer="sgd", learning_rate=0.1, weight_decay=0.0, warmup_epochs=0.0, schedule="constant", clip_norm=1.0
    )
    found = one_step(phase_optimizer(training, 0, 10), gradient=3.0)
    # Four gradients of 3 have norm 6, so each becomes 1/2; Nesterov's first step is (1 + momentum) times as far.
    np.testing.assert_allclose(list(found.values()), 1 - 0.1 * 0.5 * 1.9, rtol=1e-5)


def test_loss_scale_for_half_precision() -> None:
    optimizer = phase_optimizer(TrainingConfig(precision="mixed_float16"), 0, 10)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(optimizer.inner_optimizer, keras.optimizers.AdamW)


@pytest.mark.parametrize("warmup_epochs", [0.0, 0.25, 2.0])
def test_warm_up_is_in_epochs(warmup_epochs: float) -> None:
    assert phase_schedule(TrainingConfig(warmup_epochs=warmup_epochs), 0, 8).warmup_steps == 8 * warmup_epochs


def test_coupled_decay_is_in_the_gradient_and_not_in_the_optimiser() -> None:
    """As PyTorch's weight_decay: a step of SGD from w with gradient g is that from gradient g + decay * w."""
    values = {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.5, "schedule": "constant"}
    values.update(warmup_epochs=0, clip_norm=0)
    coupled = config_from_dict({"training": {**values, "decay": "coupled"}}).training
    decoupled = config_from_dict({"training": values}).training
    assert (coupled_decay(coupled, 0), coupled_decay(decoupled, 0)) == (0.5, 0.0)
    weight = keras.Variable([2.0], name="kernel")
    optimizer = phase_optimizer(coupled, 0, steps_per_epoch=10)
    optimizer.apply([keras.ops.convert_to_tensor([1.0 + coupled_decay(coupled, 0) * 2.0])], [weight])
    # Nesterov's first step: (1 + momentum) * rate * gradient.
    np.testing.assert_allclose(weight.numpy(), [2.0 - 1.9 * 0.1 * 2.0], rtol=1e-6)
    phases = [{"from_epoch": 3, "optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.2, "decay": "coupled"}]
    later = config_from_dict({"training": {**values, "phases": phases}}).training
    assert (coupled_decay(later, 0), coupled_decay(later, 1)) == (0.0, 0.2)
