"""The section `data`: the music, its tags, its splits and how scores are measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keras_tagger.errors import ConfigError

# The public data sets and their subsets; the first is the default. `keras_tagger.data.datasets` reads them.
SUBSETS: dict[str, tuple[str, ...]] = {
    "mtat": ("clean", "all"),
    "mtg_jamendo": ("top50", "genre", "instrument", "mood", "all"),
    "msd": ("conventional", "cals"),
    "gtzan": ("filtered",),
}
N_SPLITS: dict[str, int] = {"mtg_jamendo": 5}
# Every clip of these has exactly one tag, so the default activation is `softmax`.
SINGLE_LABEL = ("gtzan",)


def require(ok: bool, key: str, expected: str, received: Any) -> None:
    """Raise a `ConfigError` with the key, the expected and the received value unless `ok`."""
    if not ok:
        raise ConfigError(f"{key}: expected {expected}. Received: {received!r}.")


@dataclass(frozen=True)
class SplitConfig:
    """Shares of the clips to hold out if the data has no published splits; tracks and groups are never divided.

    Attributes:
        valid: Share of the clips used for validation, 0..1.
        test: Share of the clips used for testing, 0..1.
        seed: Seed of the random assignment.

    Example:
        >>> SplitConfig(valid=0.2, seed=1)
        SplitConfig(valid=0.2, test=0.1, seed=1)
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
    """The data, its tags, its splits and how scores are measured.

    Attributes:
        path: A manifest (.csv, .jsonl), a folder with one subfolder per tag, a prepared folder, or "demo" for the
            clips shipped with keras_tagger. Relative paths are relative to the working directory.
        dataset: A public data set to use instead of `path`, in the layout in which it is distributed: "mtat",
            "mtg_jamendo", "msd" or "gtzan" (`keras_tagger.data.datasets`).
        root: Folder that holds the data set's files.
        subset: Subset of the data set: "clean" or "all" (mtat), "top50", "genre", "instrument", "mood" or "all"
            (mtg_jamendo), "conventional" or "cals" (msd), "filtered" (gtzan). Empty selects the first one.
        split_index: Which published split to use if the data set has several (mtg_jamendo: 0..4).
        allow_missing: If true, clips whose audio files are missing are left out; otherwise they are an error.
        tags: The vocabulary, in order. Empty takes all tags of the data in sorted order, or the data set's tags in
            their published order.
        min_clips_per_tag: Tags with fewer clips than this are left out of the vocabulary.
        split: See `SplitConfig`.
        positive: In evaluation, a clip has a tag if its (soft) label is above this threshold, 0..1.
        min_positives: Tags that fewer clips of a split have, or fewer clips lack, are reported but left out of
            averages.
        n_chunks: In evaluation, a clip's score is the mean over this many evenly spaced windows (16 in the papers).
            0 uses consecutive windows, so that every second counts once.
        prepared_dir: Folder of decoded audio. Empty means `prepared/` beside the run directory.
        segment_seconds: Length of a stored segment, from which crops are cut, in seconds.
        workers: Number of decoding threads; 0 means one per core.

    Example:
        >>> DataConfig(path="my_music/", min_clips_per_tag=10)
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
                require(not value, f"data.{name}", f"no value unless data.dataset is set ({', '.join(SUBSETS)})", value)
            return
        require(self.dataset in SUBSETS, "data.dataset", f"one of {', '.join(SUBSETS)}", self.dataset)
        require(not self.path, "data.path", "no value if data.dataset is set (set data.root instead)", self.path)
        require(bool(self.root), "data.root", f"the folder that holds {self.dataset}", self.root)
        subsets, n_splits = SUBSETS[self.dataset], N_SPLITS.get(self.dataset, 1)
        require(self.subset in ("", *subsets), "data.subset", f"one of {', '.join(subsets)}", self.subset)
        allowed = f"0 to {n_splits - 1}" if n_splits > 1 else f"0, as {self.dataset} has one split"
        require(0 <= self.split_index < n_splits, "data.split_index", allowed, self.split_index)
