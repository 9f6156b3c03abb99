"""Litmus tests as C selftests for the kernel's tree: one file each, which builds in tools/testing/selftests/kvm."""
