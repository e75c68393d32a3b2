"""The public data sets `mtat`, `mtg_jamendo`, `msd` and `gtzan`, read in the layout in which they are distributed.

    open.py           `open_dataset`: a `Manifest` by name and folder
    counts.py         compare the counts with the published ones
    annotations.py    what the readers have in common: annotated clips, finding audio, reporting what is missing
    mtat.py, mtg_jamendo.py, msd.py, gtzan.py    a reader each: `read`, `published`, `ORIGIN`
    vocabularies.py   the published tags

Nothing is downloaded, because users need their own licence for audio and annotations. Does not import TensorFlow.
"""

from keras_tagger.data.datasets.counts import DatasetCounts, count_dataset
from keras_tagger.data.datasets.open import open_dataset

__all__ = ["DatasetCounts", "count_dataset", "open_dataset"]
