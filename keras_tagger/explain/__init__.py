"""Explanations that are measured: why this tag, and how far to trust the map.

    from keras_tagger.explain import METHODS, explain, listen

    heat = explain(tagger, "song.mp3", "integrated_gradients", ["guitar"])  # also tagger.explain(...)
    listen(heat, "song.mp3").save("guitar.wav")

    methods.py         the methods by name and their options
    explaining.py      any of them on audio of any length
    token_maps.py      attention, rollout, contributions, from one pass
    relevance.py       gradient x attention
    gradients.py       gradient x input, integrated gradients, SmoothGrad
    grad_cam.py        Grad-CAM on the front-end's feature maps
    occlusion.py       patches taken away
    chance.py          a map that knows nothing
    inputs.py, maps.py what methods share
    listen.py          the explained part as audio
    writing.py, page.py pictures, numbers, a page with players
    faithfulness.py    does a map say what the model does
    localization.py    does a map point where a tag is heard

docs/explanations.md has what each method is worth, measured with the shipped weights.
"""

from keras_tagger.explain.listen import Heard, listen
from keras_tagger.explain.methods import DEFAULT_METHOD, METHODS, Method, Option
from keras_tagger.explain.run_method import explain

__all__ = ["DEFAULT_METHOD", "METHODS", "Heard", "Method", "Option", "explain", "listen"]
