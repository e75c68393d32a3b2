"""Audio of any kind to mono float32 at the model's rate: the one decode path of the package.

libsndfile (through soundfile) decodes and libsoxr (through soxr, quality HQ) resamples, both in pieces, so
that memory does not grow with the length of a file. The format is found by content: a file's name means
nothing here.

    decode.py      info, blocks and load
    windows.py     windows of a model: cut, batched, averaged, stitched
    readers.py     arrays and files, decoded piece by piece
    containers.py  what libsndfile gets wrong in mp3, wav, aiff and ogg files, put right or refused
    streams.py     a file's bytes: in memory, local, or of any `tf.io.gfile` scheme

A wav, aiff or ogg (vorbis, opus) visibly cut short or broken is refused when it is opened; a damaged or
truncated flac, and an mp3 shorter than its Xing/Info frame says, raise when decoding comes to that place.
Not detectable, and therefore decoded as far as it goes: an ogg cut exactly between two pages, a damaged
frame of an mp3, an mp3 cut short that has no Xing/Info frame, and a wav cut short whose header gives the
size of an endless stream.
"""

from keras_tagger.audio.decode import AudioInfo, blocks, info, load
from keras_tagger.audio.readers import MAX_ARRAY_CHANNELS, MAX_RATE, MIN_RATE, AudioSource, Waveform
from keras_tagger.audio.streams import is_remote
from keras_tagger.audio.windows import Window, Windowing

__all__ = [
    "MAX_ARRAY_CHANNELS",
    "MAX_RATE",
    "MIN_RATE",
    "AudioInfo",
    "AudioSource",
    "Waveform",
    "Window",
    "Windowing",
    "blocks",
    "info",
    "is_remote",
    "load",
]
