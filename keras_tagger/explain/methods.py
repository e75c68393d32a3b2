"""The table of methods and their options, for the API, the command line and the benchmark.

Nothing heavy is imported here, so that mistakes are reported before TensorFlow is loaded.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_tagger.errors import ModelError

TAGGRAM_SECONDS = 3.0


@dataclass(frozen=True)
class Option:
    """An option of a method.

    Attributes:
        default: Default value.
        expected: Description of the values allowed, for error messages.
        check: Returns whether a value is allowed.

    Example:
        >>> METHODS["integrated_gradients"].options["steps"].expected
        'a whole number from 1 to 1000'
    """

    default: Any
    expected: str
    check: Callable[[Any], bool]


@dataclass(frozen=True)
class Method:
    """A method that explains a tag.

    Attributes:
        name: Name of the method, and of its function.
        summary: One-line description of its map.
        module: Module of `keras_tagger.explain` that has the function: (model, waveforms `[B, samples]`, rows, options
            as keywords) -> Maps. Empty for `taggram`, which cuts its own windows.
        by_tag: Whether the map depends on the tag.
        frequency: Whether the map is over time and frequency, if the model has a spectrogram.
        options: Name to `Option`.

    Example:
        >>> METHODS["occlusion"].options["patch_seconds"].default
        0.64
    """

    name: str
    summary: str
    module: str
    by_tag: bool = True
    frequency: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)

    @property
    def function(self) -> Callable[..., Any]:
        """The function that computes the maps; accessing it imports TensorFlow."""
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
            "where [CLS] attends to in a layer; the same for every tag",
            "token_maps",
            by_tag=False,
            options={
                "layer": Option(-1, "the index of a layer, from 0, or negative from the end", _whole(-(10**6))),
                "head": Option(
                    None, "the index of a head, or None for all", lambda x: x is None or _whole(-(10**6))(x)
                ),
            },
        ),
        Method(
            "rollout", "attention multiplied through all layers; the same for every tag", "token_maps", by_tag=False
        ),
        Method("contributions", "each tag's probability if the last layer attended to one moment only", "token_maps"),
        Method(
            "short_contributions",
            "contributions from short contexts: the evidence of a moment on its own",
            "token_maps",
            options={"context_seconds": Option(1.0, "a time above 0", _number(0, above=True))},
        ),
        Method(
            "two_scale_contributions",
            "mean of the score, the contributions and the short contributions, as logits",
            "token_maps",
            options={"context_seconds": Option(1.0, "a time above 0", _number(0, above=True))},
        ),
        Method("relevance", "gradient times attention, propagated through the layers", "gradients"),
        Method(
            "gradient_input",
            "gradient times input: a first-order estimate of what each cell adds",
            "gradients",
            frequency=True,
            options={"baseline": _fill("silence")},
        ),
        Method(
            "integrated_gradients",
            "gradients integrated from silence to the input; sums to the difference of the logits",
            "gradients",
            frequency=True,
            options={
                "baseline": _fill("silence"),
                "steps": Option(64, "a whole number from 1 to 1000", _whole(1, 1000)),
            },
        ),
        Method(
            "smooth_grad",
            "mean gradient over noisy copies, times the input",
            "gradients",
            frequency=True,
            options={
                "samples": Option(16, "a whole number, at least 1", _whole(1)),
                "noise": Option(0.1, "a number, 0 or more", _number(0)),
                "times_input": Option(True, "true or false", lambda value: isinstance(value, bool)),
                "seed": _SEED,
            },
        ),
        Method("grad_cam", "feature maps of the front-end, weighted by their gradients", "gradients", frequency=True),
        Method(
            "occlusion",
            "how much the logit drops when a patch is replaced",
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
            "each tag's probability in consecutive short windows",
            "",
            options={"window_seconds": Option(TAGGRAM_SECONDS, "a time above 0", _number(0, above=True))},
        ),
        Method("random", "random numbers, to compare with", "token_maps", options={"seed": _SEED}),
    )
}
DEFAULT_METHOD = "two_scale_contributions"


def find_method(name: str, options: Mapping[str, Any]) -> tuple[Method, dict[str, Any]]:
    """Look up a method, and fill in the defaults of its options.

    Raises:
        ModelError: If the method or an option does not exist, or a value is not allowed.
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
