"""Kernels and KVM modules: found, configured, built, cached."""
