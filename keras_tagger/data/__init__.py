"""Labelled audio: manifests, splits, prepared PCM and the `tf.data` input of training.

    manifest.py   what is labelled: clips, tags, splits, groups; CSV, JSON lines and folder-per-tag readers
    splits.py     which clip is for training, validation, test
    prepare.py    decode once: audio files to sharded TFRecords of PCM
    prepared.py   the folder that `prepare` leaves, and how to read it
    pipeline.py   prepared PCM to batches of random crops (imports TensorFlow)
    check.py      what is wrong with a manifest before hours are spent on it
    exclusive.py  whether every clip has exactly one tag
    tables.py     rows as text
    datasets/     public data sets by name

`prepare`, `check` and `pipeline` are used as modules: `from keras_tagger.data.prepare import prepare`.
"""

from keras_tagger.data.manifest import Clip, Manifest, read_folders, read_manifest
from keras_tagger.data.prepared import Prepared, PreparedClip, open_prepared
from keras_tagger.data.sources import open_source
from keras_tagger.data.splits import assign_splits

__all__ = [
    "Clip",
    "Manifest",
    "Prepared",
    "PreparedClip",
    "assign_splits",
    "open_prepared",
    "open_source",
    "read_folders",
    "read_manifest",
]
