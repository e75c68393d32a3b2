"""Keras layers: spectrogram, front-ends, positions, Transformer encoder, head. All serializable."""

from keras_tagger.layers.attention import Attention
from keras_tagger.layers.conv_norm import ConvNorm
from keras_tagger.layers.front_ends import (
    CompactFrontEnd,
    FrontEnd,
    PooledFrontEnd,
    ResidualFrontEnd,
    SampleFrontEnd,
    TimbralFrontEnd,
    front_end_from_config,
)
from keras_tagger.layers.head import TagHead
from keras_tagger.layers.spec_augment import SpecAugment
from keras_tagger.layers.spectrogram import Spectrogram
from keras_tagger.layers.tokens import ClassToken, LearnedPositions, SinusoidalPositions
from keras_tagger.layers.transformer import TransformerBlock, TransformerEncoder

__all__ = [
    "Attention",
    "ClassToken",
    "CompactFrontEnd",
    "ConvNorm",
    "FrontEnd",
    "LearnedPositions",
    "PooledFrontEnd",
    "ResidualFrontEnd",
    "SampleFrontEnd",
    "SinusoidalPositions",
    "SpecAugment",
    "Spectrogram",
    "TagHead",
    "TimbralFrontEnd",
    "TransformerBlock",
    "TransformerEncoder",
    "front_end_from_config",
]
