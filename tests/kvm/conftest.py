"""A device and a VM on the local /dev/kvm, closed after each test."""

import pytest

from kvmharness.kvm import Kvm


@pytest.fixture
def kvm():
    with Kvm.open() as device:
        yield device


@pytest.fixture
def vm(kvm):
    with kvm.create_vm() as machine:
        yield machine
