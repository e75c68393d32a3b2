"""`TagHead` against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from keras_tagger.layers import TagHead
from tiny import randomize

VECTORS = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


@pytest.mark.parametrize("pooler", [False, True])
def test_head_is_the_formula(pooler: bool) -> None:
    head = TagHead(3, pooler=pooler, dropout=0.5)
    head.build(VECTORS.shape)
    randomize(head)
    x = VECTORS
    if pooler:
        x = np.tanh(x @ head.pool.kernel.numpy() + head.pool.bias.numpy())
    expected = x @ head.logits.kernel.numpy() + head.logits.bias.numpy()
    np.testing.assert_allclose(head(VECTORS), expected, atol=1e-5)


def test_dropout_of_training_keeps_the_mean() -> None:
    head = TagHead(1, dropout=0.5)
    head.build((None, 1))
    head.logits.kernel.assign([[1.0]])
    found = head(np.ones((20000, 1), np.float32), training=True).numpy()
    assert set(np.unique(found)) == {0.0, 2.0}
    np.testing.assert_allclose(found.mean(), 1.0, atol=0.05)
