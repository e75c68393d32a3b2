"""The front-ends by name."""

from __future__ import annotations

from typing import Any

from keras_tagger.layers.front_end import CompactFrontEnd, FrontEnd, TimbralFrontEnd
from keras_tagger.layers.residual_front_ends import PooledFrontEnd, ResidualFrontEnd
from keras_tagger.layers.sample_front_end import SampleFrontEnd


def front_end_from_config(kind: str, channels: tuple[int, ...], width: int, **kwargs: Any) -> FrontEnd:
    """The front-end of a `FrontEndConfig`, giving tokens of `width` channels."""
    if kind in ("timbral", "sample"):
        one_number = {"timbral": TimbralFrontEnd, "sample": SampleFrontEnd}[kind]
        return one_number(width, channels=channels[0], **kwargs)
    stages = {"compact": CompactFrontEnd, "residual": ResidualFrontEnd, "pooled": PooledFrontEnd}[kind]
    return stages(width, channels=channels, **kwargs)
