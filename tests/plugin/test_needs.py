"""Markers, skips, requirements: decided from facts of machines that are described, not met."""

import json
import subprocess
import sys

import pytest

from kvmharness.testing import needs

SKIPPED_WAY_OUT = "pytest --kvm-host vmx:skylake runs it in an emulated host"


def test_a_skip_says_what_is_missing_and_how_to_get_it(poor, pytester, run):
    pytester.makepyfile("""
        import pytest
        @pytest.mark.needs("nested_vmx")
        def test_it(): assert 0
    """)
    result = run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*nested_vmx: */dev/kvm: missing (errno 2); modprobe*" + SKIPPED_WAY_OUT])


def test_what_the_host_has_runs(machine, pytester, run):
    pytester.makepyfile("""
        import pytest
        @pytest.mark.needs("nested_vmx", "ept", "kernel>=6.1", "kvm.tdp_mmu=Y")
        def test_it(): pass
        @pytest.mark.nested_vmx
        def test_alias(): pass
        @pytest.mark.needs("kernel<6.1")
        def test_old(): assert 0
    """)
    run().assert_outcomes(passed=2, skipped=1)


@pytest.mark.parametrize("setting", ["option", "ini"])
def test_a_required_need_fails_instead_of_skipping(poor, pytester, run, setting):
    pytester.makepyfile("""
        import pytest
        @pytest.mark.kvm
        def test_it(): pass
        @pytest.mark.nested_vmx
        def test_other(): pass
    """)
    option = ["--kvm-require", "kvm,perf"] if setting == "option" else ["-o", "kvm_require=kvm perf"]
    result = run(*option)
    result.assert_outcomes(errors=1, skipped=1)
    result.stdout.fnmatch_lines(["required, but not there: kvm: */dev/kvm: missing*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("required", ["nested_vmx", "nested_svm", "nested", "kvm"])
def test_what_is_required_covers_what_it_takes(poor, pytester, run, required):
    pytester.makepyfile("def test_it(nested): pass")
    run("--kvm-require", required).assert_outcomes(errors=1)
    run("--kvm-require", "ept").assert_outcomes(skipped=1)


@pytest.mark.parametrize(
    ("marker", "arguments", "message"),
    [
        ('needs("nested_vnx")', (), "*test_it*unknown need 'nested_vnx'; did you mean nested_vmx*Known: *"),
        ("kvm", ("--kvm-require", "kvmm"), "*unknown need 'kvmm'; did you mean kvm*"),
        ("kvm", ("--kvm-host", "vmx:pentium"), "*no emulated host is called 'vmx:pentium'*vmx:penryn*"),
        ('kvm_hosts("vmx:pentium")', (), "*no emulated host is called 'vmx:pentium'*"),
        ("nested_vnx", (), "*'nested_vnx' not found in `markers`*"),
    ],
)
def test_a_misspelling_is_an_error_and_no_skip(machine, pytester, run, marker, arguments, message):
    pytester.makepyfile(f"""
        import pytest
        @pytest.mark.{marker}
        def test_it(): pass
    """)
    result = run(*arguments)
    assert result.ret in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERRUPTED)
    assert "1 skipped" not in result.stdout.str()
    both = result.stdout.lines + result.stderr.lines
    pytest.LineMatcher(both).fnmatch_lines([message])


def test_a_fixture_says_what_it_needs_also_to_the_selection(poor, pytester, run):
    pytester.makepyfile("""
        def test_nested(nested): pass
        def test_roots(root_loads): pass
        def test_none(): pass
    """)
    poor.remove("sys/bus")
    result = run("-rs", "-m", "needs")
    result.assert_outcomes(skipped=2, deselected=1)
    result.stdout.fnmatch_lines_random(["SKIPPED*kvm: */dev/kvm*", "SKIPPED*kprobes: the kernel has no kprobe events*"])


def test_the_facts_are_shown_where_there_are_such_tests(machine, pytester, run):
    pytester.makepyfile("import pytest\n@pytest.mark.kvm\ndef test_it(): pass")
    run().stdout.fnmatch_lines(["kvm: Linux 6.1.0-13-amd64, Xeon, */dev/kvm ok, kvm_intel, nested=Y, ept=Y, *"])


def test_tests_for_named_hosts_wait_for_the_option(machine, pytester, run):
    pytester.makepyfile("""
        import pytest
        @pytest.mark.kvm_hosts("vmx", "vmx:penryn")
        def test_it(): assert 0
    """)
    result = run("-rs", "-v")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*::test_it[[]vmx:skylake[]] SKIPPED*", "*pytest --kvm-host vmx:penryn"])


FOREIGN = """
    import pytest
    @pytest.fixture
    def vm(): return "mine"
    @pytest.fixture
    def kvm(): return "mine"
    def test_own_fixtures(vm, kvm): assert vm == kvm == "mine"
    def test_fails(): assert 0
"""


def test_a_foreign_suite_is_as_it_was(pytester, run, monkeypatch):
    def unwanted():
        raise AssertionError("nobody asked for facts")

    monkeypatch.setattr(needs, "facts", unwanted)
    pytester.makepyfile(FOREIGN)
    result = run()
    result.assert_outcomes(passed=1, failed=1)
    assert "kvm" not in result.stdout.str().partition("collected")[2].replace("def test_own_fixtures(vm, kvm)", "")


def test_loading_the_plugin_loads_nothing_else():
    program = (
        "import pytest, sys, json; before = set(sys.modules); import kvmharness.pytest_plugin;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == ["kvmharness", "kvmharness.pytest_plugin"]
