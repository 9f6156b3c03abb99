"""The measured cells: a matrix of rotating roots, its guests and what they are run by."""
