"""Queries for music by its tags, such as `metal>0.5 & !voice`.

    query       any ("|" any)*            any of them
    any         condition ("&" condition)*   all of them
    condition   "!" condition  |  "(" query ")"  |  name  |  name (">" | ">=" | "<" | "<=") number

A name alone means that the tag is present: its score reaches the tag's threshold. A name with spaces or signs is put in
quotes. Names that mean the same (`keras_tagger.tags.SYNONYMS`) count as one tag, and upper and lower case are the same.
A tag that training had no example of is never present, and no comparison with its score holds.
"""

from __future__ import annotations

import difflib
import functools
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from keras_tagger.errors import LibraryError
from keras_tagger.files import printable
from keras_tagger.tags import SYNONYMS, Tags, TagScore

# A test of one clip's entries (`TagScore`) or, element by element, of arrays of many clips' entries.
_Test: TypeAlias = Callable[[Callable[[str], Any]], Any]
_COMPARISONS: dict[str, Callable[[Any, float], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_TOKEN = re.compile(
    r"""\s*(?:(?P<sign>[()&|!]) | (?P<comparison>[<>]=?) | "(?P<double>[^"]*)" | '(?P<single>[^']*)'"""
    r""" | (?P<word>[^\s"'()&|!<>=]+) | (?P<wrong>\S))""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class _Token:
    kind: str  # sign, comparison, name, end
    text: str
    place: int


class Query:
    """A parsed query.

    Args:
        text: The query.

    Attributes:
        text: The query.
        names: The names in it, each once.

    Raises:
        LibraryError: If the text is not a query; the message says where.

    Example:
        >>> query = Query('"female vocal" & (rock | metal>0.5)')
        >>> query.matches(tagger.tag("song.mp3", top=None, merge_synonyms=True))
        True
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = _tokens(text)
        self._next = 0
        found: list[str] = []
        self._test = self._any(found)
        if self._peek().kind != "end":
            raise self._error("& or | or the end")
        self.names = tuple(dict.fromkeys(found))

    def check(self, known: Sequence[str]) -> None:
        """Raise `LibraryError` if a name is not among the tags of a model; the message names the nearest ones."""
        for name in self.names:
            find_name(name, known)

    def matches(self, *tags: Tags) -> bool:
        """Return whether a clip matches.

        Args:
            *tags: All tags of the clip, with merged synonyms, from one model or several. The first model that has a
                name decides.

        Raises:
            LibraryError: If no model has a name, or a name without a comparison has no known threshold.
        """
        known = [name for one in tags for name in one.names]

        def entry(name: str) -> TagScore:
            found = find_name(name, known)
            return next(one[found] for one in tags if found in one.names)

        return bool(self._test(entry))

    def select(self, entry: Callable[[str], Any], known: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return which of many clips match, bool `[n]`.

        Args:
            entry: Returns the entries of all clips for a name in `known`: an object with the attributes of `TagScore`,
                of which `score` is float32 `[n]`, and `present` bool `[n]` or None.
            known: The names of the tags, with merged synonyms.

        Raises:
            LibraryError: As `matches` does.
        """
        return np.asarray(self._test(lambda name: entry(find_name(name, known))), bool)

    def _any(self, names: list[str]) -> _Test:
        tests = [self._all(names)]
        while self._take("|"):
            tests.append(self._all(names))
        return lambda entry: functools.reduce(np.logical_or, [test(entry) for test in tests])

    def _all(self, names: list[str]) -> _Test:
        tests = [self._condition(names)]
        while self._take("&"):
            tests.append(self._condition(names))
        return lambda entry: functools.reduce(np.logical_and, [test(entry) for test in tests])

    def _condition(self, names: list[str]) -> _Test:
        if self._take("!"):
            test = self._condition(names)
            return lambda entry: np.logical_not(test(entry))
        if self._take("("):
            test = self._any(names)
            if not self._take(")"):
                raise self._error("& or | or )")
            return test
        token = self._peek()
        if token.kind != "name":
            raise self._error("a tag, ! or (")
        self._next += 1
        names.append(token.text)
        return self._comparison(token.text)

    def _comparison(self, name: str) -> _Test:
        token = self._peek()
        if token.kind != "comparison":
            return lambda entry: _is_present(entry(name))
        self._next += 1
        compare, number = _COMPARISONS[token.text], self._number()

        def test(entry: Callable[[str], Any]) -> Any:
            found = entry(name)
            return np.logical_and(found.heard is not False, compare(found.score, number))

        return test

    def _number(self) -> float:
        text = self._peek().text
        if self._peek().kind != "name" or not re.fullmatch(r"(\d+(\.\d*)?|\.\d+)%?", text):
            raise self._error("a number")
        number = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
        if number > 1:
            raise self._error("a number in 0..1")
        self._next += 1
        return float(np.float32(number))  # as the scores are

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, sign: str) -> bool:
        found = self._peek().kind == "sign" and self._peek().text == sign
        self._next += found
        return found

    def _error(self, expected: str) -> LibraryError:
        token = self._peek()
        received = "the end" if token.kind == "end" else repr(token.text)
        return LibraryError(
            f"query: expected {expected} at character {token.place + 1} of {self.text!r}. Received: {received}."
        )


def find_name(name: str, known: Sequence[str]) -> str:
    """Return the tag that a name in a query means.

    Raises:
        LibraryError: If there is none; the message names the nearest ones.
    """
    by_lower = {one.casefold(): one for one in reversed(known)}
    same = next((group for group in SYNONYMS if name.casefold() in group), ())
    for candidate in (name.casefold(), *same):
        if candidate in by_lower:
            return by_lower[candidate]
    near = difflib.get_close_matches(name.casefold(), by_lower, n=5, cutoff=0.4) or sorted(by_lower)[:10]
    raise LibraryError(
        f"query: expected a tag of the model, such as {', '.join(by_lower[one] for one in near)}. "
        f"Received: {printable(name)!r}."
    )


def listed_conditions(text: str) -> str:
    """Return the query for conditions with commas between them, all of which must hold.

    A tag with spaces needs no quotes.

    Example:
        >>> listed_conditions("guitar>0.5, no vocals")
        '"guitar" >0.5 & "no vocals"'
    """
    parts = re.findall(r"""(?:[^,"'(]|"[^"]*"|'[^']*'|\([^)]*\)|["'(])+""", text)
    return " & ".join(map(_condition_of, parts)) if parts else text


def _condition_of(part: str) -> str:
    match = re.fullmatch(r"""\s*(!*)\s*([^"'()&|!<>=]+?)\s*([<>].*)?""", part)
    return f"({part.strip()})" if match is None else f'{match[1]}"{match[2]}"{" " + match[3] if match[3] else ""}'


def _is_present(entry: Any) -> Any:
    if entry.present is None:
        raise LibraryError(
            f"query: expected a comparison such as {entry.name}>0.5, as the model has no thresholds. "
            f"Received: {entry.name!r}."
        )
    return np.logical_and(entry.present, entry.heard is not False)


def _tokens(text: str) -> list[_Token]:
    tokens = []
    place = 0
    while match := _TOKEN.match(text, place):
        kind = match.lastgroup or ""
        begin = match.start(kind)
        if kind == "wrong":
            raise LibraryError(
                f"query: expected tags, comparisons, & | ! and parentheses. "
                f"Received: {match[kind]!r} at character {begin + 1} of {text!r}."
            )
        tokens.append(_Token(kind if kind in ("sign", "comparison") else "name", match[kind], begin))
        place = match.end()
    return [*tokens, _Token("end", "", len(text))]
