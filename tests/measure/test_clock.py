"""Whether the host's TSC deserves to be a clock."""

from pathlib import Path

import pytest

from kvmharness.measure.clock import TscFacts, tsc_facts

CPUINFO = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\nflags\t\t: fpu tsc constant_tsc nonstop_tsc vmx\n"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(CPUINFO)
    source = tmp_path / "sys/devices/system/clocksource/clocksource0"
    source.mkdir(parents=True)
    (source / "current_clocksource").write_text("tsc\n")
    return tmp_path


def test_a_good_host_has_no_problem(host):
    facts = tsc_facts(root=str(host))
    assert facts == TscFacts(constant=True, nonstop=True, trusted=True)
    assert facts.problem == ""


def test_counted_instructions_need_no_clock(tmp_path):
    assert tsc_facts(emulator="vmx:skylake", root=str(tmp_path)).problem == ""


@pytest.mark.parametrize(("lost", "word"), [("constant_tsc", "frequency"), ("nonstop_tsc", "sleep")])
def test_says_what_is_wrong_with_the_tsc(host, lost, word):
    (host / "proc/cpuinfo").write_text(CPUINFO.replace(f" {lost}", ""))
    assert word in tsc_facts(root=str(host)).problem


def test_says_that_the_kernel_does_not_trust_it(host):
    (host / "sys/devices/system/clocksource/clocksource0/current_clocksource").write_text("hpet\n")
    assert "does not use the TSC" in tsc_facts(root=str(host)).problem


def test_what_cannot_be_read_is_not_trusted(tmp_path):
    facts = tsc_facts(root=str(tmp_path))
    assert (facts.constant, facts.nonstop, facts.trusted) == (False, False, False)
    assert facts.problem
