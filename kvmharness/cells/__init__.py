"""The measured cells: a matrix of rotating roots, its guests, the oracle that predicts their root loads."""
