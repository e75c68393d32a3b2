"""Models on disk: run directories, pretrained weights and PyTorch checkpoints of other projects."""
