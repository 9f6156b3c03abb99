"""An emulated host with the default kernel, for tests that are skipped where what it takes is not installed."""

from contextlib import contextmanager

import pytest

from kvmharness.lab.kernels import build
from kvmharness.system.programs import MissingToolError
from kvmharness.validation.snapshots import emulated_host


@contextmanager
def or_skip():
    """What is done inside may miss a program."""
    try:
        yield
    except MissingToolError as e:
        pytest.skip(f"{e}: {e.hint}")


def ready(host):
    """The kernel, and a machine that boots it."""
    with or_skip():
        kernel = build.kernel()
        machine = emulated_host(host, kernel)
        machine.description  # noqa: B018 - asks the emulator, which may be missing
    return kernel, machine
