"""Models that predict counts exactly, each for the kernels that it describes."""
