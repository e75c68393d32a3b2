"""Match a student's tags with a teacher's by their names. Does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Prefixes that keep two vocabularies apart whose tags may have equal names.
PREFIXES = ("mtt/", "msd/")


def match_tags(student: Sequence[str], teacher: Sequence[str]) -> dict[str, str]:
    """Find the teacher's tag for each of the student's tags.

    A teacher may have two vocabularies, of which the second has a prefix (`msd/rock`). A tag without a prefix matches
    in either; if both have it, the vocabulary that has more of the student's tags is taken. Case and spaces make no
    difference if no name is exactly equal.

    Args:
        student: The student's tags.
        teacher: The teacher's tags.

    Returns:
        The teacher's tag by the student's tag; tags that the teacher lacks are left out.

    Example:
        >>> match_tags(["rock", "Jazz", "kazoo"], ["rock", "opera", "msd/rock", "msd/jazz"])
        {'rock': 'msd/rock', 'Jazz': 'msd/jazz'}
    """
    vocabularies: dict[str, dict[str, str]] = {}
    for tag in teacher:
        prefix = next((prefix for prefix in PREFIXES if tag.startswith(prefix)), "")
        vocabularies.setdefault(prefix, {})[tag.removeprefix(prefix)] = tag
    plain = {_plain(tag) for tag in student}
    by_size = sorted(vocabularies.values(), key=lambda names: -len(plain & _plainly(names).keys()))
    places = [{tag: tag for prefix in PREFIXES for tag in teacher if tag.startswith(prefix)}, *by_size]
    found = {}
    for tag in student:
        exact = [names[tag] for names in places if tag in names]
        loose = [names[_plain(tag)] for names in map(_plainly, places) if _plain(tag) in names]
        if exact or loose:
            found[tag] = (exact + loose)[0]
    return found


def _plain(tag: str) -> str:
    return " ".join(tag.casefold().split())


def _plainly(names: Mapping[str, str]) -> dict[str, str]:
    """Return the names without case and extra spaces; of several that become equal, the first."""
    return {_plain(name): tag for name, tag in reversed(list(names.items()))}
