"""The authors' PyTorch checkpoints as taggers of this package. Neither needs PyTorch nor runs anything in a file."""
