"""A session whose tests run in an emulated host, which is a process here: what pytest makes of what comes out of it."""

import xml.etree.ElementTree as xml

import pytest

from kvmharness.errors import ExitCode, LostMachineError
from kvmharness.lab.steps import Call, Load, Unload
from kvmharness.system.programs import MissingToolError
from kvmharness.testing.emulated import loop

pytestmark = pytest.mark.slow  # each boot is a Python that starts

SUITE = """
    import os, sys, time, warnings
    import pytest
    from helper import ANSWER
    pytestmark = pytest.mark.nested_vmx
    def test_passes(colour): assert (colour, ANSWER) == ("red", 42)
    def test_fails():
        print("said before")
        words = ["a", "b"]
        assert words == ["a", "c"]
    @pytest.mark.parametrize("n", [1, 2])
    def test_skips(n): pytest.skip("not today")
    @pytest.mark.xfail(strict=True)
    def test_xfails(): assert 0
    def test_warns(): warnings.warn("careful")
    @pytest.fixture
    def broken():
        yield
        raise RuntimeError("in teardown")
    def test_teardown(broken, record_property): record_property("seen", 1)
    def test_asserts_inside_the_package(kvm_host):
        from kvmharness.hosts import catalogue
        catalogue.named("nowhere")
"""
OUTCOMES = {"passed": 3, "failed": 2, "skipped": 2, "xfailed": 1, "errors": 1, "warnings": 1}


@pytest.fixture
def suite(pytester):
    pytester.makeconftest("""
        import pytest
        def pytest_addoption(parser): parser.addoption("--colour", default="none")
        @pytest.fixture(scope="session")
        def colour(request): return request.config.getoption("--colour")
    """)
    pytester.makepyfile(helper="ANSWER = 42", test_suite=SUITE)


def test_a_suite_looks_as_if_it_had_run_here(suite, boots, pytester, run):
    result = run("--kvm-host", "vmx", "--colour", "red", "--junitxml", "report.xml", "--durations=3", "-rs")
    result.assert_outcomes(**OUTCOMES)
    assert [host for host, _ in boots] == ["vmx:skylake"]
    said = iter(result.stdout.lines)
    for wanted in (
        "kvm: 8 tests run in the emulated host vmx:skylake",
        '>       assert words == ["a", "c"]',
        "E       AssertionError: assert ['a', 'b'] == ['a', 'c']",
        "test_suite.py:9: AssertionError",
        "said before",
        '>       raise UsageError(f"no emulated host',  # a source that only lies out here
        "kvmharness/hosts/catalogue.py:",
        "UserWarning: careful",
        "SKIPPED [2] test_suite.py:11: not today",
    ):
        assert any(wanted in line for line in said), wanted
    cases = {case.get("name"): case for case in xml.parse("report.xml").iter("testcase")}
    assert cases["test_fails"].find("failure").get("message").startswith("AssertionError")
    assert cases["test_teardown"].find("properties/property").attrib == {"name": "seen", "value": "1"}
    assert len(cases) == 8


@pytest.mark.parametrize(
    ("arguments", "outcomes"),
    [
        (["-k", "passes or xfails"], {"passed": 1, "xfailed": 1, "deselected": 6}),
        (["-m", "not nested_vmx"], {"deselected": 8}),
        (["-x"], {"passed": 1, "failed": 1}),
        (["test_suite.py::test_warns", "test_suite.py::test_passes"], {"passed": 2, "warnings": 1}),
    ],
)
def test_options_of_the_session(suite, boots, run, arguments, outcomes):
    run("--kvm-host", "vmx", "--colour", "red", *arguments).assert_outcomes(**outcomes)


def test_last_failed(suite, boots, pytester):
    pytester.makeini("[pytest]")
    arguments = ["--kvm-host", "vmx", "-p", "no:hypothesispytest", "-p", "no:timeout"]
    pytester.runpytest_inprocess(*arguments, "--colour", "red").assert_outcomes(**OUTCOMES)
    pytester.runpytest_inprocess(*arguments, "--lf").assert_outcomes(failed=2, passed=1, errors=1)


ENDS = """
    import os
    import pytest
    pytestmark = pytest.mark.nested_vmx
    def test_before(): pass
    def test_ends(): os._exit({status})
    def test_after(): pass
    def test_here_too(): pass
"""


@pytest.mark.parametrize(("status", "words"), [(86, "Kernel panic - not syncing: sysrq*"), (87, "*the last line")])
def test_a_crash_is_the_running_tests_and_the_rest_goes_on(pytester, boots, run, status, words):
    pytester.makepyfile(ENDS.format(status=status))
    result = run("--kvm-host", "vmx", "--junitxml", "report.xml", "-v")
    result.assert_outcomes(passed=3, failed=1)
    assert len(boots) == 2
    result.stdout.fnmatch_lines(["*::test_ends FAILED*", "*booting vmx:skylake again*2 tests*", f"*{words}"])
    assert len(list(xml.parse("report.xml").iter("testcase"))) == 4


def test_a_crash_in_a_fixture_and_in_its_teardown(pytester, boots, run):
    pytester.makepyfile("""
        import os
        import pytest
        pytestmark = pytest.mark.nested_vmx
        @pytest.fixture
        def early(): os._exit(86)
        @pytest.fixture
        def late():
            yield
            os._exit(86)
        def test_early(early): pass
        def test_late(late): pass
        def test_good(): pass
    """)
    result = run("--kvm-host", "vmx")
    result.assert_outcomes(passed=2, failed=1, errors=1)
    assert len(boots) == 3


def test_a_test_that_takes_too_long_is_stopped_in_there(pytester, boots, run):
    pytester.makepyfile("""
        import time
        import pytest
        pytestmark = pytest.mark.nested_vmx
        def test_sleeps(): time.sleep(60)
        def test_good(): pass
    """)
    result = run("--kvm-host", "vmx", "--kvm-timeout", "0.2")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*def test_sleeps(): time.sleep(60)", "*Failed: not done after 0.2 s*"])
    assert len(boots) == 1


def test_a_file_that_cannot_be_imported_in_there(pytester, boots, run):
    pytester.makepyfile("""
        import sys
        import pytest
        pytestmark = pytest.mark.nested_vmx
        if "kvmharness.testing.emulated.inside" in sys.modules:
            raise ImportError("only outside")
        def test_it(): pass
    """)
    pytester.makepyfile(test_other="import pytest\n@pytest.mark.nested_vmx\ndef test_good(): pass")
    # In this process the module of the inside has never been loaded.
    result = run("--kvm-host", "vmx")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["vmx:skylake ended its job without this test", "*ImportError: only outside"])


def test_several_hosts_and_parameters(pytester, boots, run):
    pytester.makepyfile("""
        import pytest
        @pytest.mark.kvm_hosts("vmx:penryn", "vmx:haswell")
        def test_on_each(kvm_host, request): assert kvm_host in request.node.name
        @pytest.mark.needs("nested_vmx", "kvm.tdp_mmu=N")
        def test_other_parameter(): pass
        @pytest.mark.nested_vmx
        def test_default(kvm_host): assert kvm_host == "vmx:skylake"
        def test_here(kvm_host): assert kvm_host == ""
    """)
    result = run("--kvm-host", "vmx", "-v")
    result.assert_outcomes(passed=5)
    assert sorted(host for host, _ in boots) == ["vmx:haswell", "vmx:penryn", "vmx:skylake"]
    steps = next(job.steps for host, job in boots if host == "vmx:skylake")
    assert [type(step) for step in steps] == [Load, Call, Unload] * 2
    assert [step.params for step in steps if isinstance(step, Load)] == [{"kvm.tdp_mmu": "N"}, {}]


def test_what_no_host_offers_is_still_skipped(pytester, boots, run):
    pytester.makepyfile("""
        import pytest
        @pytest.mark.needs("kvm", "bare_metal", "npt")
        def test_it(): pass
    """)
    result = run("--kvm-host", "vmx", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*the emulated host vmx:skylake does not offer bare_metal, npt either"])
    assert boots == []


def test_a_machine_that_does_not_start_is_an_error_on_every_test(suite, boots, run, monkeypatch):
    class Dead:
        def run(self, job, on_event):
            raise LostMachineError("the emulator ended (status 1)", console=("no bootable device",))

    monkeypatch.setattr(loop, "emulated_host", lambda *arguments, **more: Dead())
    result = run("--kvm-host", "vmx")
    result.assert_outcomes(errors=8)
    result.stdout.fnmatch_lines(["the emulator ended (status 1)", "no bootable device"])
    assert result.ret == ExitCode.FAIL


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--kvm-host", "vmx", "--kvm-emulator", "/nowhere"], "*/nowhere: No such file or directory*"),
        (["--kvm-emulator", "/bin/true"], "*--kvm-emulator without --kvm-host*"),
    ],
)
def test_an_emulator_that_is_none_is_a_usage_error(pytester, arguments, why):
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([why])


def test_what_the_emulated_host_lacks_outside_is_a_usage_error(suite, boots, run, monkeypatch):
    def no_emulator(*arguments, **more):
        raise MissingToolError("bochs")

    monkeypatch.setattr(loop, "emulated_host", no_emulator)
    result = run("--kvm-host", "vmx")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*bochs is not installed sudo apt-get install bochs"])
