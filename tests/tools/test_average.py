"""The mean of runs' weights."""

from __future__ import annotations

import numpy as np
import pytest

import tiny
from keras_tagger.errors import ModelError
from pretrain.average import average, run_and_share


@pytest.fixture
def two():
    first, second = tiny.random_tagger(), tiny.random_tagger()
    rng = np.random.default_rng(0)
    for weight, other in zip(first.model.weights, second.model.weights, strict=True):
        other.assign(weight)
        if "moving_" not in weight.path:
            other.assign_add(rng.normal(0, 0.1, weight.shape).astype(np.float32))
    return first, second


def test_weights_are_the_weighted_mean(two):
    before = [[weight.numpy() for weight in tagger.model.weights] for tagger in two]
    mean = average(two, (0.25, 0.75))
    for first, second, found in zip(*before, mean.model.weights, strict=True):
        np.testing.assert_allclose(found, 0.25 * first + 0.75 * second, atol=1e-6)
    assert mean.config is two[1].config


def test_only_tags_that_all_have_are_kept_in_the_order_of_the_last(two):
    first, second = two
    tags = list(second.tags)
    shuffled = first.select([tags[2], tags[0]])
    mean = average((shuffled, second), (0.25, 0.75))
    assert list(mean.tags) == [tags[0], tags[2]]
    expected = average(two, (0.25, 0.75))
    waveform = np.random.default_rng(0).normal(0, 0.1, 2 * expected.model.audio_config.sample_rate).astype(np.float32)
    rate = expected.model.audio_config.sample_rate
    found, whole = (tagger.tag((waveform, rate)).to_dict() for tagger in (mean, expected))
    assert found == pytest.approx({tag: whole[tag] for tag in mean.tags}, abs=1e-6)


def test_runs_without_a_common_tag_are_refused(two):
    tags = list(two[0].tags)
    with pytest.raises(ModelError, match="with a tag in common. Received: runs without one"):
        average([two[0].select(tags[:1]), two[1].select(tags[1:])], (0.5, 0.5))


def test_other_statistics_are_refused(two):
    statistics = next(weight for weight in two[0].model.weights if "moving_mean" in weight.path)
    statistics.assign_add(np.ones(statistics.shape, np.float32))
    with pytest.raises(ModelError, match="same batch statistics .* Received: runs that differ in .*moving_mean"):
        average(two, (0.5, 0.5))


def test_shares_add_up_to_one(two):
    with pytest.raises(ModelError, match="add up to 1. Received: 0.5, 0.6"):
        average(two, (0.5, 0.6))


def test_shares_on_the_command_line():
    assert run_and_share("runs/a=b=0.3", 2) == ("runs/a=b", 0.3)
    assert run_and_share("runs/a", 4) == ("runs/a", 0.25)
    with pytest.raises(ModelError, match="RUN=SHARE"):
        run_and_share("runs/a=x", 2)
