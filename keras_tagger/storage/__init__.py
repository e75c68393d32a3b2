"""Models on disk: run directories, pretrained weights, others' checkpoints."""
