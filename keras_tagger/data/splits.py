"""Split clips into training, validation and test by track and group."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from absl import logging

from keras_tagger.data.manifest import Clip, Manifest
from keras_tagger.errors import ManifestError


def assign_splits(manifest: Manifest, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Manifest:
    """Give every clip a split, so that all clips of a track or group are in the same one.

    Tracks and groups that share clips are kept together (connected components). Components are distributed by
    iterative stratification, rarest tag first (Sechidis, Tsoumakas, Vlahavas 2011, algorithm 1). In addition, every tag
    that at least three components have should occur in train, valid and test; a warning names the tags for which this
    is not possible. The result depends on the clips and `seed`, not on the order of the rows.

    Splits in the manifest are kept. If every clip has one, nothing changes. Otherwise a clip without one follows its
    track or group, and the remaining clips go to train and to those of valid and test that the manifest does not name.

    Args:
        manifest: The clips.
        valid: The fraction of the clips, or of their seconds if every clip has an end.
        test: As `valid`.
        seed: Any number of at least 0.

    Raises:
        ManifestError: If the fractions or the seed are not allowed, or the manifest has clips of one track or group in
            different splits (the message names two of them).

    Example:
        >>> assign_splits(read_manifest("music.csv"), valid=0.2).select("valid")
    """
    if not (valid >= 0 and test >= 0 and valid + test < 1):
        raise ManifestError(
            f"expected fractions valid and test of at least 0 with a sum below 1. Received: {valid} and {test}."
        )
    if seed < 0:
        raise ManifestError(f"expected a seed of at least 0. Received: {seed}.")
    clips = manifest.clips
    components = _components(clips)
    fixed = [_explicit(clips, members) for members in components]
    named = {clip.split for clip in clips if clip.split}
    if all(clip.split for clip in clips):
        return manifest
    fractions = {"train": 1.0 - valid - test, "valid": valid, "test": test}
    names = [name for name in fractions if name == "train" or (fractions[name] > 0 and name not in named)]

    known = all(clip.end_seconds is not None for clip in clips)
    weights = [(clip.end_seconds or 0.0) - clip.start_seconds if known else 1.0 for clip in clips]
    free = [i for i, split in enumerate(fixed) if split is None]
    # An additional tag that all clips have lets one rule also cover clips without tags and the sizes of the splits.
    mass = np.zeros((len(free), len(manifest.tags) + 1))
    column = {tag: i for i, tag in enumerate(manifest.tags)}
    for row, component in enumerate(free):
        for member in components[component]:
            mass[row, -1] += weights[member]
            for tag, label in clips[member].tags.items():
                if tag in column and label > 0:  # not for NaN, which is unknown
                    mass[row, column[tag]] += label * weights[member]
    sides = _best_deal(mass, np.array([fractions[name] for name in names]), np.random.default_rng(seed))
    lacking = _lacking(mass, sides, len(names))
    for side, name in enumerate(names):
        absent = [tag for tag, lacks in zip((*manifest.tags, "any"), lacking[side], strict=True) if lacks]
        if absent:
            logging.warning("The split %s has no clip of %s: there are too few tracks.", name, ", ".join(absent))

    splits = list(fixed)
    for row, component in enumerate(free):
        splits[component] = names[sides[row]]
    split_of = {member: splits[i] for i, members in enumerate(components) for member in members}
    return dataclasses.replace(
        manifest, clips=tuple(dataclasses.replace(clip, split=split_of[i]) for i, clip in enumerate(clips))
    )


def _components(clips: Sequence[Clip]) -> list[list[int]]:
    """Group clips by track or group, in an order that does not depend on that of the rows."""
    parent = list(range(len(clips)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    owner: dict[tuple[str, str], int] = {}
    for i, clip in enumerate(clips):
        for key in (("track", clip.track), ("group", clip.group)):
            if key[1] is not None:
                parent[find(i)] = find(owner.setdefault((key[0], key[1]), i))
    members: dict[int, list[int]] = {}
    for i in sorted(range(len(clips)), key=lambda i: clips[i].clip_id):
        members.setdefault(find(i), []).append(i)
    return list(members.values())


def _explicit(clips: Sequence[Clip], members: Sequence[int]) -> str | None:
    """Return the split that the manifest gives a component."""
    with_split = sorted(i for i in members if clips[i].split)
    if not with_split:
        return None
    first = clips[with_split[0]]
    for i in with_split[1:]:
        if clips[i].split != first.split:
            raise ManifestError(
                "expected the clips of one track or group in one split. "
                f"Received: clip {with_split[0] + 1} ('{first.clip_id}') in {first.split} "
                f"and clip {i + 1} ('{clips[i].clip_id}') in {clips[i].split}."
            )
    return first.split


def _best_deal(mass: npt.NDArray[Any], fractions: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    """Return the first of several deals in which no side lacks a tag, or the one that lacks the fewest."""
    deals = []
    for _ in range(10):
        sides = _deal(mass, fractions, rng)
        _repair(mass, sides, len(fractions))
        deals.append((int(_lacking(mass, sides, len(fractions)).sum()), sides))
        if deals[-1][0] == 0:
            break
    return min(deals, key=lambda deal: deal[0])[1]


def _deal(mass: npt.NDArray[Any], fractions: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    """Choose a side for every component `[n]`, given the mass of each of its tags `[n, tags + 1]`."""
    n_sides = len(fractions)
    shares = fractions / fractions.sum()
    wanted = shares[:, None] * mass.sum(axis=0)
    has = mass > 0
    totals = has.sum(axis=0)
    present = np.zeros((n_sides, mass.shape[1]), dtype=bool)
    sides = np.full(len(mass), -1)
    # Large components first, so that small ones can balance them; components of similar size in random order.
    order = rng.permutation(len(mass))
    order = order[np.argsort(-np.floor(np.log2(mass[order, -1])), kind="stable")]
    waiting = totals.copy()
    while waiting.any():
        # Every component has the last tag, so it comes last; the components left for it have no other tag.
        tag = int(np.where(waiting > 0, waiting, np.iinfo(waiting.dtype).max).argmin())
        rows = [row for row in order if sides[row] < 0 and has[row, tag]]
        for position, row in enumerate(rows):
            absent = np.flatnonzero(~present[:, tag])
            must = totals[tag] >= n_sides and len(rows) - position <= len(absent)
            choices = absent if must and len(absent) else np.arange(n_sides)
            # Prefer the side that needs this tag most, then the one that needs clips most, then the first.
            side = max(choices, key=lambda s: (round(wanted[s, tag], 9), round(wanted[s, -1], 9), -s))
            sides[row] = side
            wanted[side] -= mass[row]
            present[side] |= has[row]
            waiting -= has[row]
    return sides


def _repair(mass: npt.NDArray[Any], sides: npt.NDArray[Any], n_sides: int) -> None:
    """Move components, in place, as long as a side gains more missing tags than the other side loses."""
    has = mass > 0
    guarded = has.sum(axis=0) >= n_sides
    count = np.stack([has[sides == side].sum(axis=0) for side in range(n_sides)])
    while True:
        best: tuple[int, int, float, int, int] | None = None
        for side, tag in np.argwhere((count == 0) & guarded):
            for row in np.flatnonzero(has[:, tag] & (sides != side)):
                gained = int((has[row] & guarded & (count[side] == 0)).sum())
                lost = int((has[row] & guarded & (count[sides[row]] == 1)).sum())
                # Of equal moves, one after which the other side still has every tag.
                stripped = int((has[row] & (count[sides[row]] == 1)).sum())
                move = (gained - lost, -stripped, -float(mass[row, -1]), int(side), int(row))
                if gained > lost and (best is None or move[:3] > best[:3]):
                    best = move
        if best is None:
            return
        *_, side, row = best
        count[sides[row]] -= has[row]
        count[side] += has[row]
        sides[row] = side


def _lacking(mass: npt.NDArray[Any], sides: npt.NDArray[Any], n_sides: int) -> npt.NDArray[Any]:
    """Return which sides lack a tag that enough components have, bool `[n_sides, tags + 1]`."""
    has = mass > 0
    present = np.stack([has[sides == side].any(axis=0) for side in range(n_sides)])
    return ~present & (has.sum(axis=0) >= n_sides)
