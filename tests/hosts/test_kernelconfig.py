"""The running kernel's configuration by its hash, from the files of a machine that is described."""

import gzip
import hashlib

import pytest

from kvmharness.hosts.kernelconfig import config_hash
from tests.hostfiles import HostFiles

SHIPPED = "boot/config-6.1.0-13-amd64"


@pytest.fixture
def machine(tmp_path):
    return HostFiles(tmp_path)


def test_as_the_distribution_ships_it(machine):
    assert config_hash(str(machine.root)) == hashlib.sha256(b"CONFIG_KVM=m\n").hexdigest()


def test_as_the_kernel_itself_gives_it(machine):
    machine.remove(SHIPPED)
    (machine.root / "proc/config.gz").write_bytes(gzip.compress(b"CONFIG_KVM=y\n"))
    assert config_hash(str(machine.root)) == hashlib.sha256(b"CONFIG_KVM=y\n").hexdigest()


@pytest.mark.parametrize("packed", [None, b"", b"no archive", gzip.compress(b"CONFIG_KVM=y\n", mtime=0)[:-4]])
def test_where_there_is_none(machine, packed):
    machine.remove(SHIPPED)
    if packed is not None:
        (machine.root / "proc/config.gz").write_bytes(packed)
    assert config_hash(str(machine.root)) is None
