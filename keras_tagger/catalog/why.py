"""Why two tracks are alike: the tags that both have, and the moments that contribute most to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.tags import TagInfo, margin, synonym_groups

_MOST = 3


@dataclass(frozen=True)
class Reason:
    """A tag that two tracks have in common.

    Attributes:
        tag: The tag.
        scores: Its scores in the track that was asked for and in the one that was found.
        moments: The times in seconds at which it contributes most in each; None if unknown.
    """

    tag: str
    scores: tuple[float, float]
    moments: tuple[float | None, float | None]


def reasons(
    names: Sequence[str],
    info: Mapping[str, TagInfo],
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    usual: npt.NDArray[Any],
) -> list[Reason]:
    """Return the tags that two tracks have in common, the most telling first.

    What both tracks have of a tag is their smaller margin, and it tells most where other tracks have least. Of tags
    with one meaning (`keras_tagger.tags.SYNONYMS`), one counts.

    Args:
        names: The tags.
        info: `TagInfo` by tag.
        ours: The row of the track that was asked for.
        theirs: The row of the one that was found.
        usual: The mean margins of other tracks, float `[n_tags]` (`margins`).

    Returns:
        Up to three reasons; if no tag is present in both, the nearest to it.
    """
    heard = np.array([info[name].has_evidence for name in names], bool)
    common = np.minimum(*(margins(names, info, row["scores"]) for row in (ours, theirs)))
    common[~heard] = -np.inf
    groups = synonym_groups(names, heard)
    leaders = np.array([members[int(np.argmax(common[members]))] for members in groups.values()])
    present = leaders[common[leaders] >= 0]
    chosen = present[np.argsort(usual[present] - common[present], kind="stable")][:_MOST]
    if not len(chosen):
        chosen = leaders[[int(np.argmax(common[leaders]))]]
    moments = [{one["tag"]: float(one["seconds"]) for one in row.get("contributions") or []} for row in (ours, theirs)]
    return [
        Reason(
            names[place],
            (float(ours["scores"][place]), float(theirs["scores"][place])),
            (moments[0].get(names[place]), moments[1].get(names[place])),
        )
        for place in chosen
    ]


def margins(names: Sequence[str], info: Mapping[str, TagInfo], scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return how far scores `[..., n_tags]` exceed the tags' thresholds (`keras_tagger.tags.margin`)."""
    thresholds = np.array([info[name].threshold for name in names], np.float32)
    return margin(scores, np.broadcast_to(thresholds, np.shape(scores)))
