"""A suite as somebody else writes it, here and in emulated hosts of both vendors: what comes of each of its tests."""

import os
import shutil
from pathlib import Path

import pytest

# pytester gives its sessions another home, and the kernel is not to be built once more there.
CACHE = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
SUITE = Path(__file__).parents[1] / "data/foreign"

PASSED = [
    *("test_add[1-2]", "test_add[2147483647-1]", "test_add[4294967295-1]", "test_multiply"),
    *("test_vendor_is_the_hosts", "test_two_vcpus", "test_device", "test_after_a_hang"),
]
FAILED = {
    "test_page_fault_is_told": "the guest took #PF at 0x28000 (inline:entry), error code 0x2, CR2 0x700008",
    "test_triple_fault": "the guest shut down: a triple fault",
    "test_hangs": "the guest gave no sign for 1 s and was stopped at RIP 0x28",
    "test_hangs_without_interrupts": "the guest gave no sign for 1 s and was stopped at RIP 0x28001",
}
NESTED = [
    "test_own_l2_code",
    "test_l2_that_leaves_otherwise",
    "test_dirty_log",
    "test_state_saved_while_l2_runs[same vCPU]",
    "test_state_saved_while_l2_runs[new VM]",
    "test_own_kprobe",
]
HOST_HANGS = "silent for 10 s, stopped"


@pytest.fixture
def outcomes(pytester, monkeypatch):
    """Runs the suite: what came of each test by its name, and what was said."""
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    shutil.copytree(SUITE, pytester.path, dirs_exist_ok=True)
    pytester.makeini("[pytest]\naddopts = -p no:timeout -p no:cacheprovider --strict-markers")

    def run(*arguments):
        result = pytester.runpytest_subprocess("-rA", "--color=no", *arguments)
        found = {}
        for line in result.stdout.lines:
            outcome, _, rest = line.partition(" ")
            if outcome in ("PASSED", "FAILED", "ERROR") and "::" in rest:
                found[rest.partition("::")[2].partition(" - ")[0]] = outcome
        return found, result

    return run


def expected(skipped=()):
    return {
        **dict.fromkeys(PASSED, "PASSED"),
        **dict.fromkeys(FAILED, "FAILED"),
        **{name: "PASSED" for name in NESTED if name not in skipped},
    }


def check_words(result, **others):
    said = result.stdout.str()
    for name, words in {**FAILED, **others}.items():
        assert words in said, name


@pytest.mark.needs("kvm")
def test_here(outcomes):
    found, result = outcomes()
    if "SKIPPED" in result.stdout.str():  # a host without nesting
        assert found == expected(skipped=NESTED)
    else:
        assert found == expected()
    check_words(result)


@pytest.mark.slow
@pytest.mark.needs("emulated_vmx")
def test_in_a_vmx_host(outcomes):
    found, result = outcomes("--kvm-host", "vmx", "--nested-only")
    assert found == expected()
    check_words(result, test_hangs_without_interrupts=HOST_HANGS)


@pytest.mark.slow
@pytest.mark.needs("emulated_svm")
def test_in_two_svm_hosts_at_once(outcomes):
    pytest.importorskip("xdist")
    found, result = outcomes("--kvm-host", "svm", "--nested-only", "-n2")
    assert found == expected()
    check_words(result)
