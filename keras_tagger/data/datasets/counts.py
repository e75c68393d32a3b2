"""Compare a data set's counts with the published ones, for `keras-tagger data check mtat --root DIR`."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

from keras_tagger.data.datasets.open import OpenedDataset, read_dataset
from keras_tagger.data.manifest import SPLITS
from keras_tagger.tables import text_table


@dataclass(frozen=True)
class DatasetCounts:
    """The findings of `count_dataset`.

    Attributes:
        opened: The annotations and the paths of the audio.
        tag_counts: The number of annotated clips by tag and split.

    Example:
        >>> count_dataset("mtat", "data/mtat").ok
        True
    """

    opened: OpenedDataset
    tag_counts: dict[str, dict[str, int]]

    @property
    def ok(self) -> bool:
        """Whether all audio was found."""
        return not self.opened.located.missing

    def to_dict(self) -> dict[str, Any]:
        """Return all findings as JSON types."""
        opened = self.opened
        annotated, audio = opened.counts(), opened.counts(with_audio=True)
        return {
            "dataset": opened.name,
            "subset": opened.subset,
            "root": opened.root,
            "ok": self.ok,
            "as_published": opened.as_published() and len(self.tag_counts) == opened.published.n_tags,
            "splits": {
                split: {
                    "annotated": annotated[split],
                    "published": getattr(opened.published, split),
                    "with_audio": audio[split],
                }
                for split in SPLITS
            },
            "n_tags": {"annotated": len(self.tag_counts), "published": opened.published.n_tags},
            "tags": self.tag_counts,
            "missing": len(opened.located.missing),
            "problem": opened.problem(),
        }

    def table(self) -> str:
        """Return the findings as text for a terminal."""
        found = self.to_dict()
        rows = [["split", "annotated", "published", "with audio"]]
        rows += [[split, *map(str, counts.values())] for split, counts in found["splits"].items()]
        rows.append(["all", *(str(sum(s[key] for s in found["splits"].values())) for key in found["splits"]["train"])])
        rows.append(["tags", *map(str, found["n_tags"].values()), ""])
        tag_rows = [["tag", *SPLITS, "all"]]
        tag_rows += [[tag, *map(str, by.values()), str(sum(by.values()))] for tag, by in self.tag_counts.items()]
        verdict = "equal" if found["as_published"] else "differ from"
        parts = [
            f"{found['dataset']} {found['subset']}: {found['root']}",
            text_table(rows),
            f"The counts {verdict} the published ones.",
            text_table(tag_rows),
            found["problem"],
        ]
        return "\n\n".join(part for part in parts if part)


def count_dataset(name: str, root: str | os.PathLike[str], subset: str = "", split_index: int = 0) -> DatasetCounts:
    """Count a data set's clips by split and tag, and check that its audio exists, without decoding it.

    Args:
        name: As in `open_dataset`.
        root: As in `open_dataset`.
        subset: As in `open_dataset`.
        split_index: As in `open_dataset`.

    Raises:
        KerasTaggerError: As `open_dataset`, except that missing audio is not an error.

    Example:
        >>> print(count_dataset("mtat", "data/mtat").table())
    """
    opened = read_dataset(name, root, subset, split_index)
    counted = {split: Counter[str]() for split in SPLITS}
    for clip in opened.annotations.clips:
        counted[clip.split].update(clip.tags)
    tags = {tag: {split: counted[split][tag] for split in SPLITS} for tag in opened.annotations.tags}
    return DatasetCounts(opened, tags)
