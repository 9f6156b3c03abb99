"""Emulated tests under pytest-xdist: shares of them, an emulator each, every result at its turn."""

from pathlib import Path

import pytest

pytest.importorskip("xdist")
pytestmark = pytest.mark.slow  # workers are processes, and so are their emulators

# In each worker: the machine that the plugin takes this one for, and emulators that are processes.
CONFTEST = """
    import os, sys
    from pathlib import Path
    sys.path.insert(0, {project!r})
    from kvmharness.hosts.facts import facts
    from kvmharness.lab.kernels import build
    from kvmharness.testing import needs
    from kvmharness.testing.emulated import loop
    from tests.hostfiles import HostFiles
    from tests.plugin.conftest import ProcessMachine
    if "PYTEST_XDIST_WORKER" in os.environ and "kvmharness.testing.emulated.inside" not in sys.modules:
        folder = Path({folder!r}, os.environ["PYTEST_XDIST_WORKER"])
        folder.mkdir()
        files = HostFiles(folder / "machine")
        files.remove("dev/kvm")
        boots = []
        needs.facts = lambda: facts(str(files.root))
        loop.build.kernel = lambda **options: build.Kernel(folder, folder)
        loop.emulated_host = lambda host, kernel, **more: ProcessMachine(folder, host, boots)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        def pytest_runtest_logfinish(nodeid):
            with Path({folder!r}, "finished").open("a") as file:
                print(nodeid, file=file)
"""
SUITE = """
    import os
    import pytest
    @pytest.mark.nested_vmx
    @pytest.mark.parametrize("n", range(4))
    def test_inside(n, tmp_path): assert n != 2, "two is wrong"
    @pytest.mark.nested_vmx
    def test_ends(): os._exit(86)
    @pytest.mark.nested_vmx
    def test_skips(): pytest.skip("not today")
    def test_here(): pass
"""


@pytest.fixture
def run(pytester):
    project = str(Path(__file__).parents[2])
    pytester.makeconftest(CONFTEST.format(project=project, folder=str(pytester.path)))
    pytester.makepyfile(test_suite=SUITE)
    pytester.makeini("[pytest]\naddopts = -p no:timeout -p no:hypothesispytest -p no:cacheprovider -p no:randomly")
    return lambda *arguments: pytester.runpytest_subprocess("--kvm-host", "vmx", *arguments)


def test_each_worker_boots_for_its_share(run, pytester):
    result = run("-n2", "-v", "-rs")
    result.assert_outcomes(passed=4, failed=2, skipped=1)
    result.stdout.fnmatch_lines_random(
        ["*two is wrong*", "*Kernel panic - not syncing*", "SKIPPED*not today", "*PASSED*::test_here*"]
    )
    finished = (pytester.path / "finished").read_text().splitlines()
    assert len(finished) == len(set(finished)) == 7
    boots = sorted(path.relative_to(pytester.path) for path in pytester.path.glob("gw*/boot*"))
    # Seven tests are dealt out to two; the one that ends its machine has none after it in its share.
    assert len(boots) == 2
    assert {path.parts[0] for path in boots} == {"gw0", "gw1"}


def test_a_scheduler_that_would_tear_shares_apart_is_refused(run):
    result = run("-n2", "--dist", "loadfile")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--kvm-host and --dist loadfile cannot be used together*"])
