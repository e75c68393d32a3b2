"""Import of the authors' PyTorch checkpoints, without PyTorch and without running code from a file."""
