"""The emulated SVM host: the same jobs, another emulator."""

import pytest

from kvmharness.lab.events import Data, Output
from kvmharness.lab.job import Job
from kvmharness.lab.kernels import build
from kvmharness.lab.machines.emulator import emulated_host
from kvmharness.lab.steps import Call, Exec, Load, Unload

# Of the kernel's generator, which is seeded by RDRAND.
RANDOM = Exec(("/bin/cat", "/proc/sys/kernel/random/uuid"))

pytestmark = [pytest.mark.slow, pytest.mark.needs("emulated_svm")]


@pytest.fixture(scope="module")
def kernel():
    return build.kernel()


def boot(host, kernel):
    steps = (
        Load("stock"),
        Call("kvmharness.hosts.facts:summary", required=True),
        Unload(),
        RANDOM,
    )
    events = []
    emulated_host(host, kernel).run(Job(steps, modules={"stock": kernel.modules}, timeout_s=120), events.append)
    return events


@pytest.fixture(scope="module")
def epyc(kernel):
    return boot("svm:epyc", kernel)


@pytest.fixture(scope="module")
def without_npt(kernel):
    return boot("svm:epyc-nonpt", kernel)


@pytest.mark.parametrize(("events", "npt"), [("epyc", True), ("without_npt", False)])
def test_kvm_amd_loads_with_nesting(events, npt, request):
    facts = next(event.data for event in request.getfixturevalue(events) if isinstance(event, Data))
    assert "svm" in facts["flags"]
    assert ("npt" in facts["flags"]) is npt
    assert facts["module_parameters"]["kvm_amd"]["nested"] == "1"


def test_two_boots_are_the_same(epyc, kernel):
    assert any(isinstance(event, Output) and len(event.text.strip()) == 36 for event in epyc)
    assert boot("svm:epyc", kernel) == epyc
