"""Keras layers: spectrogram, front-ends, positions, Transformer encoder, head. All serializable."""

import warnings
from typing import Any

from keras_tagger.layers.attention import SelfAttention
from keras_tagger.layers.conv_norm import ConvNorm
from keras_tagger.layers.front_ends import (
    CompactFrontEnd,
    FrontEnd,
    PonsFrontEnd,
    PooledFrontEnd,
    ResidualFrontEnd,
    SampleFrontEnd,
    SecondEar,
    TimbralFrontEnd,
    front_end_from_config,
)
from keras_tagger.layers.head import TagHead
from keras_tagger.layers.spec_augment import SpecAugment
from keras_tagger.layers.spectrogram import Spectrogram
from keras_tagger.layers.tokens import ClassToken, LearnedPositions, SinusoidalPositions
from keras_tagger.layers.transformer import TransformerBlock, TransformerEncoder

__all__ = [
    "ClassToken",
    "CompactFrontEnd",
    "ConvNorm",
    "FrontEnd",
    "LearnedPositions",
    "PonsFrontEnd",
    "PooledFrontEnd",
    "ResidualFrontEnd",
    "SampleFrontEnd",
    "SecondEar",
    "SelfAttention",
    "SinusoidalPositions",
    "SpecAugment",
    "Spectrogram",
    "TagHead",
    "TimbralFrontEnd",
    "TransformerBlock",
    "TransformerEncoder",
    "front_end_from_config",
]


def __getattr__(name: str) -> Any:
    if name == "Attention":
        warnings.warn(
            "keras_tagger.layers.Attention is deprecated; use keras_tagger.layers.SelfAttention.",
            DeprecationWarning,
            stacklevel=2,
        )
        return SelfAttention
    raise AttributeError(f"module 'keras_tagger.layers' has no attribute {name!r}")
