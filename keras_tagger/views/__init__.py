"""Pictures: what `fit` shows in TensorBoard, and the figures that stand elsewhere too."""
