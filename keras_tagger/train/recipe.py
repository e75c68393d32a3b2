"""The settings of `fit` without a configuration: fine-tuning a model of the package, by the amount of music."""

from __future__ import annotations

from typing import Any

from keras_tagger.data.manifest import Manifest
from keras_tagger.data.pipeline import count_crops
from keras_tagger.data.prepared import Prepared

# A linear head that learnt from 24 or 30 clips named the right one of six kinds of music, six genres and eight
# instruments for 0.83, 0.78 and 0.59 of the clips of other artists on `pons` (before it had a second ear), for 0.76,
# 0.61 and 0.53 on `compact`, which takes half the time.
INIT = "pons"
# Music with fewer clips than this is too little to hold out clips for validation and test, or to train the whole body.
FEW_CLIPS = 100


def recipe(data: Manifest | Prepared, name: str) -> dict[str, Any]:
    """Return a configuration for some data.

    With fewer than `FEW_CLIPS` clips, only the head is trained and one fifth of the clips is held out, which both
    chooses the best epoch and gives the scores of the report. With more, the whole model is trained, and a tenth of the
    clips is held out for each of the two.

    Args:
        data: The clips.
        name: The name of the run.
    """
    few = len(data.clips) < FEW_CLIPS
    return {
        "name": name,
        "data": {"split": {"valid": 0.2, "test": 0.0} if few else {"valid": 0.1, "test": 0.1}, "n_chunks": 4},
        "training": {
            "init": INIT,
            "freeze": "all_but_head" if few else "statistics",
            "learning_rate": 1e-2 if few else 4e-5,
            "epoch_crops": 90 if few else 1000,
            "batch_size": 8,
            "warmup_epochs": 0.5,
        },
        # Drawing would take longer than training.
        "board": {"preview_clips": 0 if few else 3},
    }


def epochs_for(prepared: Prepared, epoch_crops: int, crop_samples: int) -> int:
    """Return the number of epochs in which the model hears enough crops, whatever the length of the music.

    Args:
        prepared: The data.
        epoch_crops: The largest number of crops in an epoch; 0 for no limit.
        crop_samples: The length of a crop in samples.
    """
    crops = count_crops(prepared, "train", crop_samples)
    crops = min(crops, epoch_crops or crops)
    wanted = 360 if len(prepared.clips) < FEW_CLIPS else 8000
    return max(4, min(30, -(-wanted // crops)))
