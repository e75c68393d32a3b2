"""`open_dataset`: a public data set by its name and folder, as a `Manifest` like any other."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from types import ModuleType

from absl import logging

from keras_tagger.config.data import DataConfig
from keras_tagger.data.datasets import gtzan, msd, mtat, mtg_jamendo
from keras_tagger.data.datasets.annotations import (
    Annotations,
    Located,
    Published,
    Source,
    check_root,
    locate,
    missing_audio,
)
from keras_tagger.data.manifest import SPLITS, Clip, Manifest
from keras_tagger.errors import ConfigError, ManifestError, ManifestNotFoundError

_READERS: dict[str, ModuleType] = {"mtat": mtat, "mtg_jamendo": mtg_jamendo, "msd": msd, "gtzan": gtzan}


@dataclasses.dataclass(frozen=True)
class Opened:
    """A data set's annotations and where its audio is."""

    name: str
    subset: str
    root: str
    annotations: Annotations
    located: Located
    published: Published
    source: Source

    def problem(self) -> str:
        """What audio is missing and where it is had; empty if nothing is."""
        if not self.located.missing:
            return ""
        return missing_audio(self.annotations, self.located, self.root, self.name, self.source)

    def counts(self, with_audio: bool = False) -> dict[str, int]:
        """Clips by split, of all or of those whose audio is there."""
        clips = self.annotations.clips
        places = self.located.paths if with_audio else range(len(clips))
        found = Counter(clips[index].split for index in places)
        return {split: found[split] for split in SPLITS}

    def as_published(self) -> bool:
        """Whether every split has as many annotated clips as is published."""
        return all(self.counts()[split] == getattr(self.published, split) for split in SPLITS)


def open_dataset(
    name: str,
    root: str | os.PathLike[str],
    subset: str = "",
    split_index: int = 0,
    tags: Sequence[str] | None = None,
    min_clips_per_tag: int = 1,
    allow_missing: bool = False,
) -> Manifest:
    """A public data set as a manifest with its published splits and vocabulary.

    Args:
        name: "mtat", "mtg_jamendo", "msd" or "gtzan"; the modules of those names say which files they read.
        root: its folder.
        subset: see `DataConfig.subset`; empty is the first.
        split_index: which of the five splits of mtg_jamendo.
        tags: a vocabulary, in order, instead of the published one.
        min_clips_per_tag: tags that fewer clips have are left out of the vocabulary.
        allow_missing: leave out clips whose audio is not there, instead of refusing the data set.

    Raises:
        ConfigError: no such data set, subset or split.
        ManifestNotFoundError: annotations or audio are missing; the sentence says which, and where they are had.
        ManifestError: annotations that are damaged, or tags that the data set does not have.
    """
    opened = read_dataset(name, root, subset, split_index, tags)
    annotations, located = opened.annotations, opened.located
    problem = opened.problem()
    if problem and (not allow_missing or not located.paths):
        raise ManifestNotFoundError(problem)
    if problem:
        logging.warning("%s", problem)
    if not opened.as_published():
        published = [getattr(opened.published, split) for split in SPLITS]
        logging.warning(
            "%s %s: published are %s clips (%s); %s has %s.",
            *(name, opened.subset, " / ".join(map(str, published)), " / ".join(SPLITS), opened.root),
            " / ".join(map(str, opened.counts().values())),
        )
    counted = Counter(tag for index in located.paths for tag in annotations.clips[index].tags)
    kept = tuple(tag for tag in annotations.tags if min_clips_per_tag <= 1 or counted[tag] >= min_clips_per_tag)
    if not any(counted[tag] for tag in kept):
        raise ManifestError(
            f"{name}: expected a tag with at least {max(min_clips_per_tag, 1)} clips. Received tags with at most "
            f"{max((counted[tag] for tag in annotations.tags), default=0)}."
        )
    vocabulary = set(kept)
    clips = []
    for index, path in located.paths.items():
        clip = annotations.clips[index]
        labels = {tag: 1.0 for tag in clip.tags if tag in vocabulary}
        clips.append(Clip(path, labels, split=clip.split, group=clip.group))
    return Manifest(tuple(clips), kept, name=f"{name} {opened.subset}", root=opened.root)


def open_config(config: DataConfig) -> Manifest:
    """The data set that a configuration names."""
    return open_dataset(
        config.dataset,
        config.root,
        config.subset,
        config.split_index,
        config.tags or None,
        config.min_clips_per_tag,
        config.allow_missing,
    )


def read_dataset(
    name: str, root: str | os.PathLike[str], subset: str = "", split_index: int = 0, tags: Sequence[str] | None = None
) -> Opened:
    """The annotations of a data set and where its audio is; errors as `open_dataset`, but missing audio is none."""
    from keras_tagger.config.data import SUBSETS

    if isinstance(split_index, bool) or not isinstance(split_index, int):
        raise ConfigError(f"data.split_index: expected a whole number. Received: {split_index!r}.")
    if isinstance(tags, str):
        raise ConfigError(f"data.tags: expected a list of tags. Received: {tags!r}.")
    # The section checks name, subset, split and that no tag is there twice.
    config = DataConfig(
        dataset=name or "nothing",
        root=os.fspath(root) or ".",
        subset=subset,
        split_index=split_index,
        tags=tuple(tags or ()),
    )
    subset = config.subset or SUBSETS[name][0]
    reader = _READERS[name]
    folder = check_root(root, name, reader.SOURCE)
    annotations: Annotations = reader.read(folder, subset, split_index, tags)
    if not annotations.clips:
        raise ManifestError(f"{name}: expected annotated clips in {folder}. Received: annotations without one.")
    unknown = [tag for tag in annotations.tags if tag not in annotations.known]
    if unknown:
        raise ManifestError(
            f"data.tags: expected tags of {name} {subset} ({', '.join(sorted(annotations.known))[:120]} ...). "
            f"Received: {unknown[0]!r}."
        )
    located = locate(annotations, folder)
    return Opened(name, subset, folder, annotations, located, reader.published(subset, split_index), reader.SOURCE)
