"""`TrainedModel`: a model together with its configuration and the `TagInfo` of its tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from keras_tagger.config import ExperimentConfig
from keras_tagger.errors import ModelError
from keras_tagger.runtimes.portable import PortableModel
from keras_tagger.tags import TagInfo

if TYPE_CHECKING:
    from keras_tagger.models.music_tagger import MusicTagger


class TrainedModel:
    """A model, its configuration and its tags: what is saved, exported and explained.

    `keras_tagger.Tagger` is a `TrainedModel` that also takes audio.

    Args:
        model: The `MusicTagger`, or a `PortableModel` in its place.
        config: The configuration that it was made with.
        info: `TagInfo` by tag; tags that are missing get the defaults.

    Attributes:
        model: The `MusicTagger`, a `keras.Model`; with another runtime a
            `keras_tagger.runtimes.portable.PortableModel`.
        config: The `ExperimentConfig` that it was made with.
        info: `TagInfo` by tag: the threshold, and whether the training data contained the tag.

    Raises:
        ModelError: If `info` names a tag that the model does not have.
    """

    def __init__(
        self, model: MusicTagger | PortableModel, config: ExperimentConfig, info: Mapping[str, TagInfo] | None = None
    ) -> None:
        unknown = [tag for tag in info or {} if tag not in model.tags]
        if unknown:
            raise ModelError(f"info: expected some of {', '.join(model.tags)}. Received: {unknown[0]!r}.")
        # What both have is all that tagging and most explanations use; `keras_model` is for the rest.
        self.model: MusicTagger = cast("MusicTagger", model)
        self.config = config
        self.info = {tag: (info or {}).get(tag, TagInfo()) for tag in model.tags}

    def keras_model(self, purpose: str) -> MusicTagger:
        """Return the `MusicTagger`.

        Args:
            purpose: What needs it, for the error.

        Raises:
            ModelError: If another runtime runs the model.
        """
        model: Any = self.model
        if isinstance(model, PortableModel):
            raise ModelError(
                f"{purpose}: expected a model of Keras, which load gives without runtime=, with TensorFlow installed "
                f"(pip install keras_tagger). Received: one that the runtime {model.runtime!r} runs."
            )
        return self.model

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the tags, in the order of the model's outputs."""
        return tuple(self.model.tags)

    def rows(self, tags: Sequence[str] | str | None) -> list[int]:
        """Return the indices of tags in the model's output.

        Args:
            tags: One tag, or several in the order wanted; None for all.

        Raises:
            ModelError: If a tag is unknown or repeated, or `tags` is empty.

        Example:
            >>> tagger.rows(["guitar", "piano"])
            [12, 30]
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
