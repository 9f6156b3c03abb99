"""Unit tests in emulated hosts: images of our own, all in one boot a host, each ending in a way of its own."""

from functools import cache

import pytest

from kvmharness.lab.events import Data
from kvmharness.lab.job import Job
from kvmharness.lab.steps import Load
from kvmharness.results.tests import FAIL, HANG, PASS, SKIP
from kvmharness.suites.test import Ran
from kvmharness.suites.unittests.tree import read_tree
from tests.emulated.hosts import ready
from tests.suites.unittests import images
from tests.suites.unittests.trees import tree

pytestmark = pytest.mark.slow

HOSTS = pytest.mark.parametrize("host", ["vmx:skylake", "svm:epyc"])

IMAGES = {
    "reports": images.reporting("PASS: one\nFAIL: two\nSKIP: three\nSUMMARY: 3 tests\n", 1),
    "skips": images.reporting("SKIP: no such thing\n", 38),
    "odd": images.reporting("PASS: one\n", 9),
    "information": images.BOOT_INFORMATION,
    "line": images.RAISES_A_LINE,
    "devices": images.DEVICES,
    "smi": images.TAKES_AN_SMI,
    "hangs": images.HANGS,
    "faults": images.TRIPLE_FAULT,
    "another": images.STARTS_ANOTHER,
    "sieve": images.reporting("PASS: primes\n", 0),
    "last": images.reporting("PASS: still alive\n", 0),
}
SECTIONS = {"hangs": "timeout = 2", "another": "smp = 2"}


@cache
def run(host, folder):
    """All images on a host: the lines of each by its name, and the last thing that it emitted."""
    kernel, machine = ready(host)
    config = "".join(f"[{name}]\nfile = {name}.flat\n{SECTIONS.get(name, '')}\n" for name in IMAGES)
    tests = read_tree(tree(folder, {f"{name}.flat": image for name, image in IMAGES.items()}, config))
    steps = (Load("stock"), *(test.step(inside=True) for test in tests))
    files = {path: file for test in tests for path, file in test.files.items()}
    ran = [Ran() for _ in tests]

    def take(event):
        if isinstance(event, Data):
            ran[event.step - 1].data.append(event.data)

    machine.run(Job(steps, files=files, modules={"stock": kernel.modules}, timeout_s=200), take)
    return {
        test.name: ({line.name: line for line in test.judged(one)}, one.data[-1])
        for test, one in zip(tests, ran, strict=True)
    }


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("unit-tests")


def outcomes(host, folder, name):
    return {line: found.outcome for line, found in run(host, folder)[name][0].items()}


@HOSTS
def test_reports(host, folder):
    assert outcomes(host, folder, "reports") == {
        "reports: one": PASS,
        "reports: two": FAIL,
        "reports: three": SKIP,
        "reports": FAIL,
    }


@HOSTS
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("line", "line 5 is up"),
        ("devices", "ports, window and pages"),
        ("smi", "back from SMM"),
        ("information", "information.flat"),
        ("last", "still alive"),
    ],
)
def test_what_passes(host, folder, name, line):
    assert outcomes(host, folder, name) == {f"{name}: {line}": PASS, name: PASS}


@HOSTS
@pytest.mark.parametrize(
    ("name", "outcome", "why"),
    [
        ("skips", SKIP, "no such thing"),
        ("odd", FAIL, "it ended with the code 9, which means nothing"),
        ("hangs", HANG, "it did not come to its end in its time"),
        ("faults", FAIL, "a triple fault"),
    ],
)
def test_other_ends(host, folder, name, outcome, why):
    line = run(host, folder)[name][0][name]
    assert (line.outcome, line.why) == (outcome, why)


@HOSTS
def test_the_limit_is_in_the_hosts_own_clock(host, folder):
    assert 2 <= run(host, folder)["hangs"][1]["seconds"] < 3


def test_another_processor_starts_where_that_works(folder):
    assert outcomes("svm:epyc", folder, "another") == {"another: another processor runs": PASS, "another": PASS}


@pytest.mark.parametrize("name", ["another", "sieve"])
def test_what_keeps_a_host_from_running_is_not_tried(folder, name):
    line = run("vmx:skylake", folder)[name][0][name]
    assert line.outcome == SKIP
    assert "Bochs" in line.why
