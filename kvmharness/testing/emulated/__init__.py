"""Tests that run inside an emulated host, reported as if they ran here."""
