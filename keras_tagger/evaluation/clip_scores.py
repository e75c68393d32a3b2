"""`ClipScores`: the labels and scores of every clip, from which every number of a report is computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import ModelError
from keras_tagger.files import replacing
from keras_tagger.metrics import precision_recall, roc_curve


@dataclass(frozen=True, eq=False)
class ClipScores:
    """The scores that a model gave to clips, and the clips' labels.

    Attributes:
        clips: Names of the clips; an excerpt's name has its times.
        tags: Names of the columns.
        labels: Labels, float32 `[n_clips, n_tags]` in 0..1; NaN if unknown.
        scores: Probabilities, float64 `[n_clips, n_tags]`.
        positive: A clip has a tag if its label is above this.
        counted: The tags that count in macro means, bool `[n_tags]`.
        correct: Whether the largest score is that of the clip's tag, float32 `[n_clips]`: 1, 0, or NaN for a clip
            without exactly one tag. None for models that are not single-label.
    """

    clips: tuple[str, ...]
    tags: tuple[str, ...]
    labels: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    positive: float
    counted: npt.NDArray[Any]
    correct: npt.NDArray[Any] | None = None

    @property
    def accuracy(self) -> float | None:
        """Share of the clips with exactly one tag whose largest score is that tag's; None if not single-label."""
        if self.correct is None:
            return None
        known = self.correct[np.isfinite(self.correct)]
        return float(known.mean(dtype=np.float64)) if len(known) else float("nan")

    @property
    def cross_entropy(self) -> float:
        """Mean cross-entropy of the scores, over the labels that are known; NaN if none is.

        It is binary, or over all tags if the model is single-label.
        """
        known = np.isfinite(self.labels)
        labels, scores = np.where(known, self.labels, 0.0), np.clip(self.scores, 1e-7, 1 - 1e-7)
        losses = -labels * np.log(scores)
        if self.correct is not None:
            return float(losses.sum(axis=1).mean())
        losses -= (1.0 - labels) * np.log1p(-scores)
        return float(losses[known].mean()) if known.any() else float("nan")

    def by_tag(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
        """Return, by tag, whether each clip whose label is known has it, bool `[n]`, and those clips' scores."""
        known = {tag: ~np.isnan(self.labels[:, column]) for column, tag in enumerate(self.tags)}
        present = {tag: self.labels[known[tag], column] > self.positive for column, tag in enumerate(self.tags)}
        return present, {tag: self.scores[known[tag], column] for column, tag in enumerate(self.tags)}

    def curves(self) -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        """Return precision and recall by tag, the highest threshold first, for tags with clips of both kinds."""
        present, scores = self.by_tag()
        return {tag: precision_recall(has, scores[tag]) for tag, has in present.items() if has.any() and not has.all()}

    def roc_curves(self) -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        """Return false and true positive rates by tag, the highest threshold first, as for `curves`."""
        found = {}
        for column, tag in enumerate(self.tags):
            known = ~np.isnan(self.labels[:, column])
            present = self.labels[known, column] > self.positive
            if present.any() and not present.all():
                found[tag] = roc_curve(present, self.scores[known, column])
        return found

    def confusions(self) -> npt.NDArray[Any]:
        """Count clips with exactly one tag by that tag (rows) and the best scored tag (columns), int `[tags, tags]`."""
        present = self.labels > self.positive
        single = present.sum(axis=1) == 1
        counts = np.zeros((len(self.tags), len(self.tags)), int)
        np.add.at(counts, (present[single].argmax(axis=1), self.scores[single].argmax(axis=1)), 1)
        return counts

    def save(self, path: Path) -> None:
        """Write an `.npz` file."""
        with replacing(path) as temporary:
            np.savez_compressed(
                temporary,
                clips=np.array(self.clips, dtype=np.str_),
                tags=np.array(self.tags, dtype=np.str_),
                positive=np.float64(self.positive),
                labels=self.labels,
                scores=self.scores,
                counted=self.counted,
                **({} if self.correct is None else {"correct": self.correct}),
            )

    @classmethod
    def load(cls, path: Path) -> ClipScores:
        """Read what `save` wrote.

        Raises:
            ModelError: If the file is damaged or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            clips, tags = (tuple(arrays[name].tolist()) for name in ("clips", "tags"))
            values = (arrays["labels"], arrays["scores"], float(arrays["positive"]), arrays["counted"])
            found = cls(clips, tags, *values, arrays.get("correct"))
        except Exception as error:  # damaged archives and arrays raise errors of nearly every kind
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"expected the clip scores of a report. Received: {path} ({reason[:200]}).") from None
        if fault := _fault(found):
            raise ModelError(f"expected the clip scores of a report. Received: {path}, where {fault}.")
        return found


def _fault(found: ClipScores) -> str:
    """Describe the first inconsistency, or return an empty string."""
    shape = (len(found.clips), len(found.tags))
    correct = np.zeros(shape[0]) if found.correct is None else found.correct
    if not all(isinstance(name, str) for name in (*found.clips, *found.tags)):
        return "some names of clips or tags are not text"
    if not found.labels.shape == found.scores.shape == shape or 0 in shape:
        return f"labels and scores do not have the shape of {shape[0]} clips and {shape[1]} tags"
    if found.counted.shape != shape[1:] or found.counted.dtype != bool or correct.shape != shape[:1]:
        return "the counted tags or correct answers have another shape"
    if any(array.dtype.kind != "f" for array in (found.labels, found.scores, correct)):
        return "labels, scores or correct answers are not numbers"
    if not np.isfinite(found.scores).all() or not 0 <= found.positive < 1:
        return "a score or the threshold is not finite"
    return ""
