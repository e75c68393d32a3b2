"""A self-attention music tagger that you can train on your own music, inspect and serve.

    import keras_tagger as kt

    kt.load("compact").tag("song.mp3").to_dict()
    run = kt.fit(data="my_music/")
    run.tagger.contributions("song.mp3").plot()
    run.tagger.export("exported/")

Importing this package does not import TensorFlow; functions that need it do.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from keras_tagger import keras_registration

__version__ = "0.1.0"

# TensorFlow logs notes about CUDA and CPU features as errors; real errors are raised as exceptions anyway.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_HOMES = {
    "fit": "keras_tagger.train.fit",
    "Run": "keras_tagger.train.fit",
    "distill": "keras_tagger.train.distill",
    "Distillation": "keras_tagger.train.distill",
    "TagLoss": "keras_tagger.models.losses",
    "evaluate": "keras_tagger.evaluation.evaluate",
    "Report": "keras_tagger.evaluation.report",
    "sweep": "keras_tagger.train.sweep",
    "leaderboard": "keras_tagger.evaluation.leaderboard",
    "Leaderboard": "keras_tagger.evaluation.leaderboard",
    "compare": "keras_tagger.evaluation.compare",
    "Comparison": "keras_tagger.evaluation.compare",
    "open_dataset": "keras_tagger.data.datasets",
    "import_checkpoint": "keras_tagger.tagger",
    "load": "keras_tagger.tagger",
    "Tagger": "keras_tagger.tagger",
    "Tags": "keras_tagger.tags",
    "TagInfo": "keras_tagger.tags",
    "TagScore": "keras_tagger.tags",
    "pretrained": "keras_tagger.storage.pretrained",
    "Heatmap": "keras_tagger.heatmap",
    "Attention": "keras_tagger.attention",
    "presets": "keras_tagger.config",
    "load_config": "keras_tagger.storage.loading",
    "ExperimentConfig": "keras_tagger.config",
    "KerasTaggerError": "keras_tagger.errors",
}

if TYPE_CHECKING:
    from keras_tagger.attention import Attention
    from keras_tagger.config import ExperimentConfig, presets
    from keras_tagger.data.datasets import open_dataset
    from keras_tagger.errors import KerasTaggerError
    from keras_tagger.evaluation.compare import Comparison, compare
    from keras_tagger.evaluation.evaluate import evaluate
    from keras_tagger.evaluation.leaderboard import Leaderboard, leaderboard
    from keras_tagger.evaluation.report import Report
    from keras_tagger.heatmap import Heatmap
    from keras_tagger.models.losses import TagLoss
    from keras_tagger.storage.loading import load_config
    from keras_tagger.storage.pretrained import pretrained
    from keras_tagger.tagger import Tagger, import_checkpoint, load
    from keras_tagger.tags import TagInfo, Tags, TagScore
    from keras_tagger.train.distill import Distillation, distill
    from keras_tagger.train.fit import Run, fit
    from keras_tagger.train.sweep import sweep

__all__ = [
    "Attention",
    "Comparison",
    "Distillation",
    "ExperimentConfig",
    "Heatmap",
    "KerasTaggerError",
    "Leaderboard",
    "Report",
    "Run",
    "TagInfo",
    "TagLoss",
    "TagScore",
    "Tagger",
    "Tags",
    "compare",
    "distill",
    "evaluate",
    "fit",
    "import_checkpoint",
    "leaderboard",
    "load",
    "load_config",
    "open_dataset",
    "presets",
    "pretrained",
    "sweep",
]


keras_registration.install()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_tagger' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
