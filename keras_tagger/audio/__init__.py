"""Decode audio of any kind to mono float32 at the model's sample rate.

libsndfile (through soundfile) decodes, FFmpeg (through PyAV, the extra `av`) decodes other formats, and libsoxr
(through soxr, quality HQ) resamples, all in pieces, so memory does not grow with the length of a file. The format is
recognised by a file's content, not by its name.

    decode.py      `info`, `blocks` and `load`
    windows.py     windows of a model: cut, batched, averaged, stitched
    readers.py     arrays and files, decoded piece by piece
    levels.py      mixing to mono; silence, channels that cancel each other, samples out of range
    resample.py    resample what a reader decodes
    read_ahead.py  decode in a thread while a model runs
    containers.py  recognise a file and find its segments
    layout.py      segments, damage and tags
    mp3.py, ogg.py, flac.py, riff.py
                   find the sound in these formats
    kinds.py       recognise a file by its bytes
    av_reader.py   decode with FFmpeg, through PyAV, what libsndfile cannot read
    paths.py       the audio files in folders and playlists
    streams.py     the bytes of a file: in memory, local, or of any `tf.io.gfile` scheme

A file is read whole, or its user learns what is missing:

- Files that were joined, and the links of a chained ogg, are read one after the other.
- Tags, zeros and a little junk around the sound are skipped.
- A file that is cut off is refused, with the place where its sound ends: a wav, aiff, au, w64, caf, flac or mp3 that
  has less than its header states, and an ogg that ends within a page.
- What is behind damage is read, with an `AudioWarning` of kind "damaged" that says where and how much is missing. A
  file of which more than half is unreadable is refused. Missing sound is left out, or is silence in a flac.
- Bytes that are neither sound nor a tag are reported, too, if they are worth 0.2 s of sound (0.1 s in an mp3).

The following cannot be detected: wrong bits within the frames of an mp3 or the samples of a wav, the end of an mp3
without a Xing/Info frame that is cut off, and of a wav whose header says that its length is unknown.
"""

from keras_tagger.audio.decode import AudioInfo, blocks, info, load
from keras_tagger.audio.readers import MAX_ARRAY_CHANNELS, MAX_RATE, MIN_RATE, AudioSource, RawAudio, Waveform
from keras_tagger.audio.streams import is_remote
from keras_tagger.audio.windows import Window, Windowing

__all__ = [
    "MAX_ARRAY_CHANNELS",
    "MAX_RATE",
    "MIN_RATE",
    "AudioInfo",
    "AudioSource",
    "RawAudio",
    "Waveform",
    "Window",
    "Windowing",
    "blocks",
    "info",
    "is_remote",
    "load",
]
