"""Models that run without TensorFlow, by ONNX Runtime or LiteRT.

    description.py   what an exported file says about its model
    portable.py      `PortableModel`, which a `Tagger` uses in the place of a `MusicTagger`
    onnx_file.py     files of ONNX Runtime, and graphs that take their weights from elsewhere
    litert_file.py   files of LiteRT

`keras_tagger.export` writes these files.
"""
