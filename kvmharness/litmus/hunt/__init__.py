"""Random litmus tests: made from a seed, and shrunk once they fail."""
