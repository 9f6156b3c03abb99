"""kvm-unit-tests: a built tree of them, run on a VMM of this package; no QEMU is needed."""
