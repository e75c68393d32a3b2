"""The section `data`: which music, which tags of it, and how it is split and measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keras_tagger.errors import ConfigError

# The data sets with a name, and the subsets of each; the first is the default. `keras_tagger.data.datasets` reads them.
SUBSETS: dict[str, tuple[str, ...]] = {
    "mtat": ("clean", "all"),
    "mtg_jamendo": ("top50", "genre", "instrument", "mood", "all"),
    "msd": ("conventional", "cals"),
    "gtzan": ("filtered",),
}
N_SPLITS: dict[str, int] = {"mtg_jamendo": 5}
# Every clip of these has exactly one tag, so a configuration that does not say otherwise has `softmax` outputs.
SINGLE_LABEL = ("gtzan",)


def require(ok: bool, key: str, expected: str, received: Any) -> None:
    """Raise a `ConfigError` that names the key, what was expected and what was received, unless `ok`."""
    if not ok:
        raise ConfigError(f"{key}: expected {expected}. Received: {received!r}.")


@dataclass(frozen=True)
class SplitConfig:
    """Shares of the clips that are held out if the data has no splits of its own; tracks and groups stay whole.

    Attributes:
        valid: Share of the clips for validation, 0..1.
        test: Share of the clips for the test, 0..1.
        seed: Seed of the assignment.
    """

    valid: float = 0.1
    test: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("valid", "test"):
            value = getattr(self, name)
            require(0 <= value < 1, f"data.split.{name}", "0 <= share < 1", value)
        require(self.seed >= 0, "data.split.seed", "0 or more", self.seed)
        require(self.valid + self.test < 1, "data.split", "valid + test below 1", (self.valid, self.test))


@dataclass(frozen=True)
class DataConfig:
    """Where the music is.

    Attributes:
        path: a manifest (.csv, .jsonl), a folder with one folder per tag, a prepared folder, or "demo" for the
            clips shipped with keras_tagger. Relative paths are relative to the working directory.
        dataset: instead of a path, a public data set in the layout in which it is had: "mtat", "mtg_jamendo", "msd" or
            "gtzan" (`keras_tagger.data.datasets`).
        root: the folder of the data set's files.
        subset: which of the data set's subsets; empty is the first of "clean", "all" (mtat), "top50", "genre",
            "instrument", "mood", "all" (mtg_jamendo), "conventional", "cals" (msd), "filtered" (gtzan).
        split_index: which of the data set's published splits, where it has several (mtg_jamendo: 0..4).
        allow_missing: whether a data set may lack audio files; the clips are then left out.
        tags: the vocabulary in order; empty takes all tags of the data, sorted, or those of the data set in their
            published order.
        min_clips_per_tag: rarer tags are left out of the vocabulary.
        split: see `SplitConfig`.
        positive: a clip counts as having a tag, when scores are measured, where its (soft) label is above this, 0..1.
        min_positives: tags that fewer clips of a split have, or fewer lack, are measured but do not count in means.
        n_chunks: clips are scored, when they are measured, as the mean over this many evenly spaced windows (the papers
            take 16); 0 is over windows that follow each other, so that every second counts once.
        prepared_dir: folder of decoded audio; empty is `prepared/` beside the run directory.
        segment_seconds: length of a stored segment, from which crops are cut.
        workers: decoding threads; 0 is one per core.
    """

    path: str = ""
    dataset: str = ""
    root: str = ""
    subset: str = ""
    split_index: int = 0
    allow_missing: bool = False
    tags: tuple[str, ...] = ()
    min_clips_per_tag: int = 1
    split: SplitConfig = field(default_factory=SplitConfig)
    positive: float = 0.5
    min_positives: int = 1
    n_chunks: int = 0
    prepared_dir: str = ""
    segment_seconds: float = 30.0
    workers: int = 0

    def __post_init__(self) -> None:
        self._check_dataset()
        require(0 <= self.positive < 1, "data.positive", "0 <= label < 1", self.positive)
        require(self.segment_seconds > 0, "data.segment_seconds", "a positive time", self.segment_seconds)
        require(self.min_positives >= 1, "data.min_positives", ">= 1", self.min_positives)
        require(self.n_chunks >= 0, "data.n_chunks", "0 or more", self.n_chunks)
        require(self.min_clips_per_tag >= 1, "data.min_clips_per_tag", ">= 1", self.min_clips_per_tag)
        require(self.workers >= 0, "data.workers", "0 or more", self.workers)
        require(len(set(self.tags)) == len(self.tags), "data.tags", "each tag once", list(self.tags))

    def _check_dataset(self) -> None:
        if not self.dataset:
            for name in ("root", "subset", "split_index"):
                value = getattr(self, name)
                require(not value, f"data.{name}", f"data.dataset ({', '.join(SUBSETS)}) with it", value)
            return
        require(self.dataset in SUBSETS, "data.dataset", f"one of {', '.join(SUBSETS)}", self.dataset)
        require(not self.path, "data.path", "nothing where data.dataset is set (data.root has the folder)", self.path)
        require(bool(self.root), "data.root", f"the folder of {self.dataset}", self.root)
        subsets, n_splits = SUBSETS[self.dataset], N_SPLITS.get(self.dataset, 1)
        require(self.subset in ("", *subsets), "data.subset", f"one of {', '.join(subsets)}", self.subset)
        allowed = f"0 to {n_splits - 1}" if n_splits > 1 else f"0, as {self.dataset} has one split"
        require(0 <= self.split_index < n_splits, "data.split_index", allowed, self.split_index)
