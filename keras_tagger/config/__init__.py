"""The configuration of an experiment: frozen dataclasses, read from YAML and validated on construction.

A YAML file names a preset and the values that differ from it::

    preset: compact
    data: {path: my_music/}
    training: {epochs: 10}

Unknown keys, wrong types and impossible values raise `ConfigError`, which names the key and the allowed values.
Runs, TensorBoard logs and exports keep the resolved configuration (`to_yaml`).
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
    SecondEarConfig,
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
    "SecondEarConfig",
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
