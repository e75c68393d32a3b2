"""The front-ends, one file each; `front_end_from_config` makes one by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_tagger.layers.front_ends.base import FrontEnd
from keras_tagger.layers.front_ends.compact import CompactFrontEnd
from keras_tagger.layers.front_ends.pons import PonsFrontEnd
from keras_tagger.layers.front_ends.pooled import PooledFrontEnd
from keras_tagger.layers.front_ends.residual import ResidualFrontEnd
from keras_tagger.layers.front_ends.sample import SampleFrontEnd
from keras_tagger.layers.front_ends.second_ear import SecondEar
from keras_tagger.layers.front_ends.timbral import TimbralFrontEnd

__all__ = [
    "CompactFrontEnd",
    "FrontEnd",
    "PonsFrontEnd",
    "PooledFrontEnd",
    "ResidualFrontEnd",
    "SampleFrontEnd",
    "SecondEar",
    "TimbralFrontEnd",
    "front_end_from_config",
]


def front_end_from_config(
    kind: str, channels: tuple[int, ...], width: int, second_ear: Mapping[str, Any] | None = None, **kwargs: Any
) -> FrontEnd:
    """Return the front-end of a kind.

    Args:
        kind: "compact", "pons", "timbral", "sample", "residual" or "pooled"; see `FrontEndConfig.kind`.
        channels: Channels of each stage; for "timbral" and "sample" only the first number is used.
        width: Channels of a token.
        second_ear: The second ear of "pons"; None for none.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name`.

    Example:
        >>> front_end_from_config("compact", (16, 48, 96, 128), 192)(np.zeros((2, 80, 96))).shape
        TensorShape([2, 10, 192])
    """
    if kind in ("timbral", "sample"):
        one_number = {"timbral": TimbralFrontEnd, "sample": SampleFrontEnd}[kind]
        return one_number(width, channels=channels[0], **kwargs)
    if kind == "pons":
        return PonsFrontEnd(width, channels=channels, second_ear=second_ear, **kwargs)
    stages = {
        "compact": CompactFrontEnd,
        "residual": ResidualFrontEnd,
        "pooled": PooledFrontEnd,
    }[kind]
    return stages(width, channels=channels, **kwargs)
