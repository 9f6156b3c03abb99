"""Border values, in emulated hosts only: the binding answers with its own errors, and the kernel has nothing to say."""

import pytest

from kvmharness.abi.binding import IOCTLS
from kvmharness.lab.kernels import build
from kvmharness.validation.snapshots import emulated_host
from tests.fuzz import inside
from tests.fuzz.hunt import hunt, made

SEED, SEQUENCES = 1, 16

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("vmx:skylake", marks=pytest.mark.needs("emulated_vmx")),
        pytest.param("svm:epyc", marks=pytest.mark.needs("emulated_svm")),
    ],
)
def test_only_typed_errors_come_out_and_the_kernel_reports_nothing(host):
    kernel = build.kernel()
    machine = emulated_host(host, kernel, snapshot=False)
    levels = inside.IOCTLS, inside.METHODS
    ioctls, methods = hunt(machine, kernel.modules, *(made(level, SEED, SEQUENCES) for level in levels))
    assert ioctls.text() + methods.text() == ""
    assert ioctls.outcomes.keys() >= IOCTLS.keys()
    # Nothing would be tried by what is always refused at the door.
    for hunted in (ioctls, methods):
        assert hunted.calls > 300
        accepted = sum(counts["ok"] for counts in hunted.outcomes.values())
        assert hunted.calls / 4 < accepted < hunted.calls
