"""Explanations of a tag: the moments, or the cells of the spectrogram, on which its score depends.

    from keras_tagger.explain import METHODS, explain, listen

    heat = explain(tagger, "song.mp3", "integrated_gradients", ["guitar"])  # or tagger.explain(...)
    listen(heat, "song.mp3").save("guitar.wav")

    methods.py       the table of methods and their options
    api.py           explain and taggram: a method, on audio of any length
    token_maps.py    attention, rollout, contributions, random: maps over time
    gradients.py     gradient x input, integrated gradients, SmoothGrad, Grad-CAM, gradient x attention
    occlusion.py     patches of the spectrogram replaced
    inputs.py        the model as a function of its spectrogram, for gradients and occlusion
    maps.py          the result of a method
    listen.py        the explained part of a clip as audio
    faithfulness.py  measures whether a map reflects what the model uses
    localization.py  measures whether a map marks the times at which a tag is heard

Everything here takes a model, or a `TrainedModel` and audio. docs/explanations.md compares the methods on the shipped
weights.
"""

from keras_tagger.explain.api import explain, taggram
from keras_tagger.explain.listen import Heard, listen
from keras_tagger.explain.methods import DEFAULT_METHOD, METHODS, Method, Option

__all__ = ["DEFAULT_METHOD", "METHODS", "Heard", "Method", "Option", "explain", "listen", "taggram"]
