"""The field's data sets by name: `mtat`, `mtg_jamendo`, `msd`, `gtzan`, read in the layout in which each is had.

    annotations.py    what annotations say, how files are found, what is missing and where it is had
    mtat.py, mtg_jamendo.py, msd.py, gtzan.py    one data set each: `read`, `published`, `SOURCE`
    pickles.py        pickles of Python 2, read without running anything
    counts.py         counts beside the published ones
    opening.py        `open_dataset`: a `Manifest` by name and folder

Nothing is downloaded: audio and annotations are licensed to whoever gets them. Without TensorFlow.
"""

from keras_tagger.data.datasets.counts import DatasetCounts, count_dataset
from keras_tagger.data.datasets.open import open_dataset

__all__ = ["DatasetCounts", "count_dataset", "open_dataset"]
