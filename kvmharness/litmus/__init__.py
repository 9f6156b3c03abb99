"""Litmus tests: short programs of rows for L1, L2 and the host, and a model of what the architecture allows."""
