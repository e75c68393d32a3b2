"""The configuration of an experiment: frozen dataclasses, read from YAML, checked when they are made.

A YAML file names a preset and what differs from it::

    preset: compact
    data: {path: my_music/}
    training: {epochs: 10}

Unknown keys, wrong types and impossible values raise `ConfigError`, which names the key and what is allowed.
The resolved configuration (`to_yaml`) is what a run, TensorBoard and an export keep.
"""

from keras_tagger.config.data import DataConfig, SplitConfig
from keras_tagger.config.parsing import config_from_dict, flat, load_config, parse_override, presets, section_from_dict
from keras_tagger.config.sections import (
    AttentionConfig,
    AudioConfig,
    AugmentConfig,
    BoardConfig,
    EncoderConfig,
    ExperimentConfig,
    FrontEndConfig,
    HeadConfig,
    ModelConfig,
    PhaseConfig,
    SpectrogramConfig,
    TrainingConfig,
)

__all__ = [
    "AttentionConfig",
    "AudioConfig",
    "AugmentConfig",
    "BoardConfig",
    "DataConfig",
    "EncoderConfig",
    "ExperimentConfig",
    "FrontEndConfig",
    "HeadConfig",
    "ModelConfig",
    "PhaseConfig",
    "SpectrogramConfig",
    "SplitConfig",
    "TrainingConfig",
    "config_from_dict",
    "flat",
    "load_config",
    "parse_override",
    "presets",
    "section_from_dict",
]
