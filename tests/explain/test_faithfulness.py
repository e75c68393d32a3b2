"""Faithfulness: a closed form for each measure, and a model's score under masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keras_tagger.errors import ModelError
from keras_tagger.explain.faithfulness import (
    Perturbed,
    averages,
    cascading_randomisation,
    complexity,
    deletion,
    faithfulness_on_removal,
    insertion,
    rank_correlation,
    sparseness,
)
from keras_tagger.explain.inputs import front_end_input, logits
from keras_tagger.tagger import Tagger
from tiny import RATE, noise

TOKEN = 2048
WORTH = np.array([4.0, 3.0, 2.0, 1.0])


def additive(masks: np.ndarray) -> np.ndarray:
    """A score to which each of four cells adds its worth while it is there."""
    return (~masks).reshape(len(masks), -1) @ WORTH


def test_curves_of_an_additive_score() -> None:
    best = deletion(WORTH, additive, steps=4)
    np.testing.assert_allclose(best.shares, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(best.scores, [10, 6, 3, 1, 0])
    assert best.area == pytest.approx((5 + 6 + 3 + 1) / 4)
    put_back = insertion(WORTH, additive, steps=4)
    np.testing.assert_allclose(put_back.scores, [0, 4, 7, 9, 10])
    assert put_back.area == pytest.approx((4 + 7 + 9 + 5) / 4)
    # The worst order swaps the two.
    assert deletion(-WORTH, additive, steps=4).area == pytest.approx(10 - best.area)
    # In two steps of two cells each, and of a map with two axes.
    np.testing.assert_allclose(deletion(WORTH.reshape(2, 2), additive, steps=2).scores, [10, 3, 0])
    # More steps than cells are as many as there are cells.
    np.testing.assert_allclose(deletion(WORTH, additive, steps=99).scores, best.scores)
    with pytest.raises(ModelError, match="steps: expected at least 1. Received: 0"):
        deletion(WORTH, additive, steps=0)


def test_removal_of_an_additive_score() -> None:
    assert faithfulness_on_removal(WORTH, additive) == pytest.approx(1.0)
    assert faithfulness_on_removal(-WORTH, additive) == pytest.approx(-1.0)
    assert faithfulness_on_removal(np.ones(4), additive) == 0.0
    # Two parts: {1, 2} and {3, 4} as the map has them, whose worth is 7 and 3.
    assert faithfulness_on_removal(np.array([3.0, 2.0, 1.0, 0.5]), additive, parts=2) == pytest.approx(1.0)
    # Parts are cut by value, not by place: {0.5, 1} and {2, 3} are worth 3 + 2 and 1 + 4.
    assert faithfulness_on_removal(np.array([3.0, 0.5, 1.0, 2.0]), additive, parts=2) == 0.0
    # Three parts {1, 2}, {3}, {7}, worth 4 + 2, 3 and 1: neither all alike nor opposite.
    found = faithfulness_on_removal(np.array([2.0, 3.0, 1.0, 7.0]), additive, parts=3)
    assert found == pytest.approx(np.corrcoef([3.0, 3.0, 7.0], [6.0, 3.0, 1.0])[0, 1])


def test_averages_by_hand() -> None:
    found = averages([0.8, 0.5, 0.2], [0.4, 0.5, 0.6])
    assert found.drop == pytest.approx((0.5 + 0 + 0) / 3)
    assert found.increase == pytest.approx(1 / 3)
    assert found.gain == pytest.approx(0.4 / 0.8 / 3)
    assert averages([0.0, 1.0], [0.0, 1.0]).gain == 0.0
    with pytest.raises(ModelError, match=r"expected scores in 0\.\.1"):
        averages([1.5], [0.5])
    with pytest.raises(ModelError, match="expected two scores for each clip"):
        averages([0.5], [])


def test_sparseness_and_complexity_of_extremes() -> None:
    one, all_alike = np.zeros(8), np.full((2, 4), -3.0)
    one[5] = -2.0
    assert sparseness(one) == pytest.approx(1 - 1 / 8)
    assert sparseness(all_alike) == pytest.approx(0.0)
    assert complexity(one) == pytest.approx(0.0)
    assert complexity(all_alike) == pytest.approx(np.log(8))
    assert (sparseness(np.zeros(4)), complexity(np.zeros(4))) == (0.0, pytest.approx(np.log(4)))
    # Gini of 1, 2, 3: (2 (1 + 4 + 9) / (3 * 6)) - 4/3; entropy of 1/2, 1/4, 1/4.
    assert sparseness(np.array([3.0, 1.0, 2.0])) == pytest.approx(2 / 9)
    assert complexity(np.array([2.0, 1.0, 1.0])) == pytest.approx(1.5 * np.log(2))


def test_rank_correlation_by_hand() -> None:
    assert rank_correlation(np.array([[1.0, 2.0], [3.0, 9.0]]), np.array([[0.0, 5.0], [6.0, 7.0]])) == pytest.approx(
        1.0
    )
    # Ranks 1 2 3 and 1 3 2: 1 - 6 * 2 / (3 * 8).
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])) == pytest.approx(0.5)
    assert rank_correlation(np.ones(3), np.arange(3)) == 0.0


def test_a_masked_model(tagger: Any) -> None:
    model, wave = tagger.model, noise(4 * TOKEN)
    score = Perturbed(model, wave, 1)
    nothing, late = np.zeros(4, bool), np.array([False, False, True, True])
    found = score(np.stack([nothing, late]))
    assert found[0] == pytest.approx(tagger.scores((wave, RATE))[1], abs=1e-6)
    seen = front_end_input(model, wave[np.newaxis])
    changed = seen.copy()
    changed[:, 16:] = seen.mean(axis=1)
    assert found[1] == pytest.approx(1 / (1 + np.exp(-logits(model, changed)[0, 1])), abs=1e-6)
    # Over frequency, on the grid of a Grad-CAM: the lower half of the 32 bands, of the first of two halves.
    corner = np.array([[True, False], [False, False]])
    changed = seen.copy()
    changed[:, :16, :16] = 0.0
    found = Perturbed(model, wave, 1, fill="silence")(corner[np.newaxis])
    assert found[0] == pytest.approx(1 / (1 + np.exp(-logits(model, changed)[0, 1])), abs=1e-6)


@pytest.mark.usefixtures("eagerly")
def test_randomisation_goes_from_the_tags_down_and_leaves_the_model_alone(tagger: Any) -> None:
    before = tagger.model.get_weights()
    audio = (noise(6 * TOKEN), RATE)

    def embedding(model: Any) -> list[np.ndarray]:
        return [Tagger(model, tagger.config).embed(audio)]

    found = cascading_randomisation(tagger.model, embedding)
    assert list(found) == ["head", "block 2", "block 1", "front-end"]
    # What comes before the head does not change with it, but does with the block that it comes from.
    assert found["head"] == pytest.approx(1.0)
    assert found["block 2"] < 0.9
    for one, other in zip(before, tagger.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    contributions = cascading_randomisation(
        tagger.model, lambda model: [Tagger(model, tagger.config).contributions(audio).values]
    )
    assert contributions["head"] < 0.9


def test_randomisation_adds_part_to_part_and_takes_the_mean_correlation(tagger: Any) -> None:
    """Maps by hand, whose Spearman correlations are 1, 0.5 and -1; and the weights that each call saw."""
    rising, turned = np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])
    answers = [(rising, rising), (rising, rising), (turned, rising), (turned, turned), (-rising, turned)]
    names = ("head", "block 2", "block 1", "front-end")
    seen: list[list[np.ndarray]] = []

    def maps(model: Any) -> tuple[np.ndarray, np.ndarray]:
        parts = (model.head, *reversed(model.encoder.blocks), model.front_end)
        seen.append([np.concatenate([weight.numpy().ravel() for weight in part.trainable_weights]) for part in parts])
        return answers[len(seen) - 1]

    found = cascading_randomisation(tagger.model, maps)
    assert list(found) == list(names)
    assert [found[name] for name in names] == pytest.approx([1.0, 0.75, 0.5, -0.25])
    trained, *after = seen
    for step, weights in enumerate(after):
        for place, (one, other) in enumerate(zip(weights, trained, strict=True)):
            # The part's turn and all before it: the same values in another order, and in the same one ever after.
            assert np.array_equal(one, other) == (place > step)
            np.testing.assert_array_equal(np.sort(one), np.sort(other))
            if place < step:
                np.testing.assert_array_equal(one, after[step - 1][place])
