"""Training, validation and test: which clip is where, by track and group."""

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
    """Give every clip a split; clips of one track, or of one group, are never on two sides.

    Tracks and groups that touch each other are kept together (connected components). Components are dealt
    out by iterative stratification, rarest tag first (Sechidis, Tsoumakas, Vlahavas 2011, algorithm 1), with
    the extra aim that every tag that at least three components have is found in train, valid and test; where
    tags overlap so much that this fails, a warning names them. `valid` and `test` are fractions of the
    clips, or of their seconds if every clip has an end. The result depends on the clips and `seed`, not on
    the order of rows.

    Splits of the manifest are honoured: if every clip has one, nothing changes. Otherwise a clip without one
    follows its track or group, and the rest is dealt to train and to those of valid and test that the
    manifest does not name.

    Raises `ManifestError` if the fractions or the seed are impossible, or if the manifest has one track or group
    on two sides (it names both clips).
    """
    if not (valid >= 0 and test >= 0 and valid + test < 1):
        raise ManifestError(
            f"expected fractions valid and test of at least 0, with a sum below 1. Received: {valid} and {test}"
        )
    if seed < 0:
        raise ManifestError(f"expected a seed of at least 0. Received: {seed}")
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
    # One more tag, which all have, makes the clips without tags and the sizes of the splits one case of the
    # same rule.
    mass = np.zeros((len(free), len(manifest.tags) + 1))
    column = {tag: i for i, tag in enumerate(manifest.tags)}
    for row, component in enumerate(free):
        for member in components[component]:
            mass[row, -1] += weights[member]
            for tag, label in clips[member].tags.items():
                if tag in column and label > 0:  # NaN, not known, is not
                    mass[row, column[tag]] += label * weights[member]
    sides = _best_deal(mass, np.array([fractions[name] for name in names]), np.random.default_rng(seed))
    lacking = _lacking(mass, sides, len(names))
    for side, name in enumerate(names):
        absent = [tag for tag, lacks in zip((*manifest.tags, "any"), lacking[side], strict=True) if lacks]
        if absent:
            logging.warning("No clip of %s is in the split %s: too few tracks to share.", ", ".join(absent), name)

    splits = list(fixed)
    for row, component in enumerate(free):
        splits[component] = names[sides[row]]
    split_of = {member: splits[i] for i, members in enumerate(components) for member in members}
    return dataclasses.replace(
        manifest, clips=tuple(dataclasses.replace(clip, split=split_of[i]) for i, clip in enumerate(clips))
    )


def _components(clips: Sequence[Clip]) -> list[list[int]]:
    """Clips joined by track or group, in an order that is not that of the rows."""
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
    """The split that the manifest gives a component."""
    with_split = sorted(i for i in members if clips[i].split)
    if not with_split:
        return None
    first = clips[with_split[0]]
    for i in with_split[1:]:
        if clips[i].split != first.split:
            raise ManifestError(
                "expected the clips of one track or group in one split. "
                f"Received: clip {with_split[0] + 1} ('{first.clip_id}') in {first.split} "
                f"and clip {i + 1} ('{clips[i].clip_id}') in {clips[i].split}"
            )
    return first.split


def _best_deal(mass: npt.NDArray[Any], fractions: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    """The first of some deals in which no side lacks a tag, or the one that lacks least."""
    deals = []
    for _ in range(10):
        sides = _deal(mass, fractions, rng)
        _repair(mass, sides, len(fractions))
        deals.append((int(_lacking(mass, sides, len(fractions)).sum()), sides))
        if deals[-1][0] == 0:
            break
    return min(deals, key=lambda deal: deal[0])[1]


def _deal(mass: npt.NDArray[Any], fractions: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    """A side for every component [n], from the mass of each of its tags [n, tags + 1]."""
    n_sides = len(fractions)
    shares = fractions / fractions.sum()
    wanted = shares[:, None] * mass.sum(axis=0)
    has = mass > 0
    totals = has.sum(axis=0)
    present = np.zeros((n_sides, mass.shape[1]), dtype=bool)
    sides = np.full(len(mass), -1)
    # Large components first, so that the small ones can even out; those of about one size in random order.
    order = rng.permutation(len(mass))
    order = order[np.argsort(-np.floor(np.log2(mass[order, -1])), kind="stable")]
    waiting = totals.copy()
    while waiting.any():
        # The last column has every component, so it comes last: what is left then has no tag.
        tag = int(np.where(waiting > 0, waiting, np.iinfo(waiting.dtype).max).argmin())
        rows = [row for row in order if sides[row] < 0 and has[row, tag]]
        for position, row in enumerate(rows):
            absent = np.flatnonzero(~present[:, tag])
            must = totals[tag] >= n_sides and len(rows) - position <= len(absent)
            choices = absent if must and len(absent) else np.arange(n_sides)
            # Decided by what is wanted of this tag, then of all clips, then by the order train, valid, test.
            side = max(choices, key=lambda s: (round(wanted[s, tag], 9), round(wanted[s, -1], 9), -s))
            sides[row] = side
            wanted[side] -= mass[row]
            present[side] |= has[row]
            waiting -= has[row]
    return sides


def _repair(mass: npt.NDArray[Any], sides: npt.NDArray[Any], n_sides: int) -> None:
    """Move components, in place, while that brings more tags to a side that lacks them than it takes away."""
    has = mass > 0
    guarded = has.sum(axis=0) >= n_sides
    count = np.stack([has[sides == side].sum(axis=0) for side in range(n_sides)])
    while True:
        best: tuple[int, float, int, int] | None = None
        for side, tag in np.argwhere((count == 0) & guarded):
            for row in np.flatnonzero(has[:, tag] & (sides != side)):
                gained = int((has[row] & guarded & (count[side] == 0)).sum())
                lost = int((has[row] & guarded & (count[sides[row]] == 1)).sum())
                move = (gained - lost, -float(mass[row, -1]), int(side), int(row))
                if gained > lost and (best is None or move[:2] > best[:2]):
                    best = move
        if best is None:
            return
        _, _, side, row = best
        count[sides[row]] -= has[row]
        count[side] += has[row]
        sides[row] = side


def _lacking(mass: npt.NDArray[Any], sides: npt.NDArray[Any], n_sides: int) -> npt.NDArray[Any]:
    """Where a tag that enough components have is absent, bool [n_sides, tags + 1]."""
    has = mass > 0
    present = np.stack([has[sides == side].any(axis=0) for side in range(n_sides)])
    return ~present & (has.sum(axis=0) >= n_sides)
