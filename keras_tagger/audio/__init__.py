"""Decode audio of any kind to mono float32 at the model's sample rate.

libsndfile (through soundfile) decodes and libsoxr (through soxr, quality HQ) resamples, both in pieces, so memory does
not grow with the length of a file. The format is recognised by a file's content, not by its name.

    decode.py      `info`, `blocks` and `load`
    windows.py     windows of a model: cut, batched, averaged, stitched
    readers.py     arrays and files, decoded piece by piece
    levels.py      mixing to mono; silence, channels that cancel each other, samples out of range
    read_ahead.py  decode in a thread while a model runs
    containers.py  repair or refuse mp3, wav, aiff and ogg files that libsndfile misreads
    paths.py       the audio files in folders and playlists
    streams.py     the bytes of a file: in memory, local, or of any `tf.io.gfile` scheme

A visibly truncated or damaged wav, aiff or ogg (vorbis, opus) is refused when it is opened. A damaged or truncated
flac, and an mp3 shorter than its Xing/Info frame says, raise when decoding reaches that place. The following cannot be
detected and are decoded as far as possible: an ogg truncated exactly between two pages, a damaged frame of an mp3, a
truncated mp3 without a Xing/Info frame, and a truncated wav whose header says that its length is unknown.
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
