"""Labelled audio: manifests, splits, prepared PCM and the `tf.data` input of training.

    manifest.py       clips with tags, splits and groups; readers for CSV, JSON lines and a folder per tag
    folder.py         find the labels of a folder of music
    objects.py        labelled audio in lists, dictionaries, data frames and `tf.data.Dataset`
    manifest_rows.py  the rows and cells of CSV and JSON manifests
    dense.py          labels of stretches of a clip
    splits.py         training, validation and test
    check.py          find mistakes in labelled audio before training
    prepare.py        decode audio files once, to TFRecords of PCM
    prepared.py       the folder that `prepare` makes
    sources.py        open any of these
    pipeline.py       batches of random crops (imports TensorFlow)
    datasets/         public data sets by name

Import `prepare`, `check` and `pipeline` from their modules: `from keras_tagger.data.prepare import prepare`.
"""

from keras_tagger.data.folder import read_labelled_folder
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
    "read_labelled_folder",
    "read_manifest",
]
