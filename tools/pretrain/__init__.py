"""Programs that make the weights shipped with keras_tagger; README.md lists them."""
