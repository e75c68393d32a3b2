"""The `keras_tagger` tab of TensorBoard: clips with their attention and contributions over the steps of training."""
