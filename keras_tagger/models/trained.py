"""`TrainedModel`: a model with the configuration it was made with and what is known of each of its tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras_tagger.config import ExperimentConfig
from keras_tagger.errors import ModelError
from keras_tagger.models.music_tagger import MusicTagger
from keras_tagger.tags import TagInfo


class TrainedModel:
    """A model, its configuration and its tags: what is stored, exported and explained.

    `keras_tagger.Tagger` is a `TrainedModel` that answers questions about audio.

    Attributes:
        model: the `MusicTagger` (a `keras.Model`).
        tags: its tags, in the order of its outputs.
        config: the `ExperimentConfig` it was made with.
        info: tag to `TagInfo`: its threshold, and whether training had evidence of it.

    Raises:
        ModelError: `info` names a tag that the model does not have.
    """

    def __init__(self, model: MusicTagger, config: ExperimentConfig, info: Mapping[str, TagInfo] | None = None) -> None:
        unknown = [tag for tag in info or {} if tag not in model.tags]
        if unknown:
            raise ModelError(f"info: expected some of {', '.join(model.tags)}. Received: {unknown[0]!r}.")
        self.model = model
        self.config = config
        self.info = {tag: (info or {}).get(tag, TagInfo()) for tag in model.tags}

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(self.model.tags)

    def rows(self, tags: Sequence[str] | str | None) -> list[int]:
        """Numbers of outputs by tag, in the order given; all of them for None, one for a string.

        Raises:
            ModelError: a tag that the model does not have or that is given twice, or none at all.
        """
        if isinstance(tags, str):
            tags = [tags]
        unknown = [tag for tag in tags or () if tag not in self.model.tags]
        if unknown:
            raise ModelError(f"tags: expected some of {', '.join(self.tags)}. Received: {unknown[0]!r}.")
        if tags is not None and len(tags) == 0:
            raise ModelError(f"tags: expected at least one of {', '.join(self.tags)}. Received: none.")
        if tags is not None and len(set(tags)) != len(tags):
            raise ModelError(f"tags: expected at least one name, each once. Received: {', '.join(tags)}.")
        return [self.model.tags.index(tag) for tag in (self.tags if tags is None else tags)]
