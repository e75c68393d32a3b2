"""Open a public data set by its name and folder as a `Manifest`."""

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
    FoundAudio,
    Origin,
    PublishedCounts,
    check_root,
    locate,
    missing_audio,
)
from keras_tagger.data.manifest import SPLITS, Clip, Manifest
from keras_tagger.errors import ConfigError, ManifestError, ManifestNotFoundError

READERS: dict[str, ModuleType] = {"mtat": mtat, "mtg_jamendo": mtg_jamendo, "msd": msd, "gtzan": gtzan}


@dataclasses.dataclass(frozen=True)
class OpenedDataset:
    """The annotations of a data set and the paths of its audio."""

    name: str
    subset: str
    root: str
    annotations: Annotations
    located: FoundAudio
    published: PublishedCounts
    origin: Origin

    def problem(self) -> str:
        """Describe which audio is missing and where it is available; return "" if all audio was found."""
        if not self.located.missing:
            return ""
        return missing_audio(self.annotations, self.located, self.root, self.name, self.origin)

    def counts(self, with_audio: bool = False) -> dict[str, int]:
        """Count the clips by split, either all or only those with audio."""
        clips = self.annotations.clips
        places = self.located.paths if with_audio else range(len(clips))
        found = Counter(clips[index].split for index in places)
        return {split: found[split] for split in SPLITS}

    def as_published(self) -> bool:
        """Return whether every split has the published number of annotated clips."""
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
    """Open a public data set as a manifest with its published splits and vocabulary.

    Args:
        name: "mtat", "mtg_jamendo", "msd" or "gtzan". The modules with these names list the files that they read.
        root: The folder of the data set.
        subset: See `DataConfig.subset`; empty for the first.
        split_index: Which of the five splits of mtg_jamendo, in 0..4.
        tags: A vocabulary, in order, instead of the published one.
        min_clips_per_tag: Drop tags that fewer clips have.
        allow_missing: Leave out clips without audio instead of raising an error.

    Raises:
        ConfigError: If the data set, subset or split does not exist.
        ManifestNotFoundError: If annotations or audio are missing; the message says where they are available.
        ManifestError: If annotations are damaged, or the data set does not have a tag of `tags`.

    Example:
        >>> keras_tagger.open_dataset("mtat", "data/mtat").select("train")
    """
    opened = read_dataset(name, root, subset, split_index, tags)
    annotations, paths = opened.annotations, opened.located.paths
    problem = opened.problem()
    if problem and (not allow_missing or not paths):
        raise ManifestNotFoundError(problem)
    if problem:
        logging.warning("%s", problem)
    if not opened.as_published():
        published = [getattr(opened.published, split) for split in SPLITS]
        logging.warning(
            "%s %s: expected %s clips (%s), as published. %s has %s.",
            *(name, opened.subset, " / ".join(map(str, published)), " / ".join(SPLITS), opened.root),
            " / ".join(map(str, opened.counts().values())),
        )
    counted = Counter(tag for index in paths for tag in annotations.clips[index].tags)
    kept = tuple(tag for tag in annotations.tags if min_clips_per_tag <= 1 or counted[tag] >= min_clips_per_tag)
    if not any(counted[tag] for tag in kept):
        raise ManifestError(
            f"{name}: expected a tag with at least {max(min_clips_per_tag, 1)} clips. Received: tags with at most "
            f"{max((counted[tag] for tag in annotations.tags), default=0)}."
        )
    vocabulary = set(kept)
    clips = []
    for index, path in paths.items():
        clip = annotations.clips[index]
        labels = {tag: 1.0 for tag in clip.tags if tag in vocabulary}
        clips.append(Clip(path, labels, split=clip.split, group=clip.group))
    return Manifest(tuple(clips), kept, name=f"{name} {opened.subset}", root=opened.root)


def open_config(config: DataConfig) -> Manifest:
    """Open the data set that a configuration names."""
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
) -> OpenedDataset:
    """Read annotations and find audio, with the errors of `open_dataset` except those for missing audio."""
    from keras_tagger.config.data import SUBSETS

    if isinstance(split_index, bool) or not isinstance(split_index, int):
        raise ConfigError(f"data.split_index: expected a whole number. Received: {split_index!r}.")
    if isinstance(tags, str):
        raise ConfigError(f"data.tags: expected a list of tags. Received: {tags!r}.")
    # The section checks the name, subset and split, and that there are no duplicate tags.
    config = DataConfig(
        dataset=name or "nothing",
        root=os.fspath(root) or ".",
        subset=subset,
        split_index=split_index,
        tags=tuple(tags or ()),
    )
    subset = config.subset or SUBSETS[name][0]
    reader = READERS[name]
    folder = check_root(root, name, reader.ORIGIN)
    annotations: Annotations = reader.read(folder, subset, split_index, tags)
    if not annotations.clips:
        raise ManifestError(f"{name}: expected annotated clips in {folder}. Received: annotations without clips.")
    unknown = [tag for tag in annotations.tags if tag not in annotations.known]
    if unknown:
        raise ManifestError(
            f"data.tags: expected tags of {name} {subset} ({', '.join(sorted(annotations.known))[:120]} ...). "
            f"Received: {unknown[0]!r}."
        )
    located = locate(annotations, folder)
    return OpenedDataset(
        name, subset, folder, annotations, located, reader.published(subset, split_index), reader.ORIGIN
    )
