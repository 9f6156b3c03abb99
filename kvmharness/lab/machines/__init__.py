"""The machines that jobs run on: emulated ones, and this one with other KVM modules."""
