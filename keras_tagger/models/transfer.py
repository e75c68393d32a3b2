"""Copying weights between `MusicTagger` models: the whole body, and the outputs that both have, with their evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_tagger.models.music_tagger import MusicTagger
from keras_tagger.tags import TagInfo


def copy_weights(source: MusicTagger, target: MusicTagger, outputs: Mapping[str, str]) -> None:
    """Copy the body and the head's columns of some outputs; other outputs of the target are unchanged.

    Args:
        source: A built model.
        target: A built model; its configuration differs only in its tags and in settings that no weight depends on.
        outputs: Maps a tag of the target to the tag of the source whose column it receives.

    Raises:
        ValueError: If the shapes of the bodies differ.
    """
    pairs = list(zip(_body(source), _body(target), strict=True))
    for given, taken in pairs:
        if given.shape != taken.shape:
            raise ValueError(f"{taken.path}: expected shape {tuple(taken.shape)}. Received: {tuple(given.shape)}.")
    for given, taken in pairs:
        taken.assign(given.numpy())
    to = [target.tags.index(tag) for tag in outputs]
    of = [source.tags.index(tag) for tag in outputs.values()]
    for given, taken in zip(source.head.logits.weights, target.head.logits.weights, strict=True):
        values = np.array(taken.numpy())
        values[..., to] = given.numpy()[..., of]
        taken.assign(values)


def inherited_info(info: Mapping[str, TagInfo], outputs: Mapping[str, str], name: str) -> dict[str, TagInfo]:
    """Return what a new model knows about the tags whose columns `copy_weights` copied.

    A tag that the source had examples of keeps this evidence (`TagInfo.evidence_from`) and its threshold. How the
    threshold was fitted is left out, because training changes the model.

    Args:
        info: `TagInfo` by tag of the source.
        outputs: Maps a tag of the target to the tag of the source, as for `copy_weights`.
        name: The name of the source.

    Returns:
        `TagInfo` by tag of the target; tags without evidence are left out.
    """
    found = {}
    for tag, source in outputs.items():
        known = info[source]
        if known.has_evidence:
            # A source that had no example itself is not the origin of the evidence.
            origin = name if known.train_clips or known.evidence_from is None else known.evidence_from
            found[tag] = TagInfo(known.threshold, evidence_from=origin)
    return found


def _body(model: MusicTagger) -> Iterator[Any]:
    """Return all weights except those of the last dense layer."""
    last = {id(weight) for weight in model.head.logits.weights}
    return (weight for weight in model.weights if id(weight) not in last)
