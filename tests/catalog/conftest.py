"""A model that is made up, so that stores and searches need none."""

from __future__ import annotations

import pytest
from made_rows import INFO, TAGS

from keras_tagger.catalog import Options
from keras_tagger.catalog.store import About


@pytest.fixture
def about() -> About:
    """A model of five tags, one of which it has not heard, and embeddings of four numbers."""
    return About("made", "5a" * 32, TAGS, INFO, 4, Options())
