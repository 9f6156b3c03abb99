"""Skips, before a test, what this machine's KVM has not."""

import pytest


def require(owner, *caps):
    """Skips unless the device or VM has all of these capabilities."""
    missing = [f"KVM_CAP_{cap.name}" for cap in caps if not owner.check_extension(cap)]
    if missing:
        pytest.skip(f"this KVM has no {' and no '.join(missing)}")
