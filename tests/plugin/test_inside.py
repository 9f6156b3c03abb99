"""What is done to pytest inside an emulated host, in a process that is none."""

import os
import subprocess
import sys

PROGRAM = """
import sys
sys.path[:] = {path!r}
import pytest
from kvmharness.testing.emulated import inside
from _pytest import python
class Hooks:
    def pytest_unconfigure(self, config):
        for name, caller in sorted(vars(config.pluginmanager.hook).items()):
            if name.startswith("pytest_"):
                print(name, [one.function.__module__ for one in caller.get_hookimpls()])
before = len(dir(python))
if {hide}:
    inside.hide_imported_names()
    assert len(dir(python)) < before / 2
pytest.main(["-p", "no:cacheprovider", "--fixtures", "-v"], [Hooks()])
"""


def found(folder, hide):
    """Every fixture with where it is defined, and every hook with the modules that answer it."""
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-c", PROGRAM.format(path=sys.path, hide=hide)]
    done = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if "no tests ran in" not in line]


def test_every_hook_and_fixture_is_found_under_the_names_that_are_shown(tmp_path):
    whole = found(tmp_path, hide=False)
    for wanted in ("tmp_path -- ", "monkeypatch -- ", "pytest_runtest_makereport ['_pytest."):
        assert any(line.startswith(wanted) for line in whole), wanted
    assert found(tmp_path, hide=True) == whole
