"""The methods by name, with their options: the one table that the API, the command line and the benchmark read.

Nothing heavy is imported here, so that a mistake is told before TensorFlow is loaded.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_tagger.errors import ModelError


@dataclass(frozen=True)
class Option:
    """A setting of a method.

    Attributes:
        default: its value where none is given.
        expected: what it has to be, in words.
        check: whether a value is that.
    """

    default: Any
    expected: str
    check: Callable[[Any], bool]


@dataclass(frozen=True)
class Method:
    """A way to explain a tag.

    Attributes:
        name: what it is asked for by.
        summary: what its map says, in a line.
        module: of `keras_tagger.explain`, with a function of that name: (model, waveforms [B, samples], rows, options
            as keywords) -> Maps. "" for `taggram`, which has windows of its own.
        by_tag: whether the maps of two tags differ.
        frequency: whether the map is over time and frequency, where the model has a spectrogram.
        options: name to `Option`.
    """

    name: str
    summary: str
    module: str
    by_tag: bool = True
    frequency: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)

    @property
    def function(self) -> Callable[..., Any]:
        """The function behind it."""
        return getattr(importlib.import_module(f"keras_tagger.explain.{self.module}"), self.name)


def _whole(low: int, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(low: float, above: bool = False) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return False
        return value > low if above else value >= low

    return check


def _fill(default: str) -> Option:
    def check(value: Any) -> bool:
        return value in ("mean", "silence") or _number(-math.inf)(value)

    return Option(default, '"mean", "silence" or a number', check)


_SEED = Option(0, "a whole number, 0 or more", _whole(0))

METHODS = {
    method.name: method
    for method in (
        Method(
            "attention",
            "where [CLS] looks in a layer; the same for every tag",
            "token_maps",
            by_tag=False,
            options={
                "layer": Option(-1, "a layer's number, from 0, or negative from the end", _whole(-(10**6))),
                "head": Option(None, "a head's number, or None for all", lambda x: x is None or _whole(-(10**6))(x)),
            },
        ),
        Method(
            "rollout", "attention multiplied through the layers; the same for every tag", "token_maps", by_tag=False
        ),
        Method("contributions", "a tag's probability if the last layer attended to one moment only", "token_maps"),
        Method(
            "short_contributions",
            "contributions from short contexts: what a moment says by itself",
            "token_maps",
            options={"context_seconds": Option(1.0, "a time above 0", _number(0, above=True))},
        ),
        Method(
            "two_scale_contributions",
            "the window's score, its contributions and those of short contexts, joined",
            "token_maps",
            options={"context_seconds": Option(1.0, "a time above 0", _number(0, above=True))},
        ),
        Method("relevance", "gradient times attention, rolled out over the layers", "relevance"),
        Method(
            "gradient_input",
            "gradient times input: a first-order guess of what a cell is worth",
            "gradients",
            frequency=True,
            options={"baseline": _fill("silence")},
        ),
        Method(
            "integrated_gradients",
            "gradients on the way from silence to the input; adds up to the logits' difference",
            "gradients",
            frequency=True,
            options={
                "baseline": _fill("silence"),
                "steps": Option(64, "a whole number from 1 to 1000", _whole(1, 1000)),
            },
        ),
        Method(
            "smooth_grad",
            "mean gradient over noisy copies, times input",
            "gradients",
            frequency=True,
            options={
                "samples": Option(16, "a whole number, at least 1", _whole(1)),
                "noise": Option(0.1, "a number, 0 or more", _number(0)),
                "times_input": Option(True, "true or false", lambda value: isinstance(value, bool)),
                "seed": _SEED,
            },
        ),
        Method("grad_cam", "feature maps of the front-end, weighted by their gradients", "grad_cam", frequency=True),
        Method(
            "occlusion",
            "what the logit loses when a patch is taken away",
            "occlusion",
            frequency=True,
            options={
                "patch_seconds": Option(0.64, "a time above 0", _number(0, above=True)),
                "patch_bands": Option(24, "a whole number, at least 1", _whole(1)),
                "fill": _fill("mean"),
            },
        ),
        Method(
            "taggram",
            "a tag's probability in short windows, one after the other",
            "",
            options={"window_seconds": Option(3.0, "a time above 0", _number(0, above=True))},
        ),
        Method("random", "chance, to compare with", "chance", options={"seed": _SEED}),
    )
}
DEFAULT_METHOD = "two_scale_contributions"


def find_method(name: str, options: Mapping[str, Any]) -> tuple[Method, dict[str, Any]]:
    """A method by name, and its options with defaults filled in.

    Raises:
        ModelError: there is no such method or option, or a value is impossible.
    """
    if name not in METHODS:
        raise ModelError(f"method: expected one of {', '.join(METHODS)}. Received: {name!r}.")
    method = METHODS[name]
    for key, value in options.items():
        if key not in method.options:
            allowed = f"one of {', '.join(method.options)}" if method.options else "no options"
            raise ModelError(f"options of {name}: expected {allowed}. Received: {key!r}.")
        if not method.options[key].check(value):
            raise ModelError(f"{key} of {name}: expected {method.options[key].expected}. Received: {value!r}.")
    return method, {key: options.get(key, option.default) for key, option in method.options.items()}
