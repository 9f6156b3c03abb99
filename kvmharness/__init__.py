"""kvmharness: measures and validates KVM's nested virtualization from Python."""

__version__ = "0.1.0"
