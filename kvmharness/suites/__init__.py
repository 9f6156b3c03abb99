"""Test suites that others wrote, run under every variant: the kernel's own selftests, and kvm-unit-tests."""
