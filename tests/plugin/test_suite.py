"""Which files and packages of a suite go into an emulated host."""

import pytest

from kvmharness.testing.emulated import suite as suites


def carried(pytester, *arguments):
    config = pytester.parseconfigure("-p", "no:timeout", "-p", "no:hypothesispytest", *arguments)
    session = pytest.Session.from_config(config)
    config.hook.pytest_sessionstart(session=session)
    items = session.perform_collect()
    found = suites.suite(config, items)
    config.hook.pytest_sessionfinish(session=session, exitstatus=0)
    return found


def test_conftests_packages_and_imported_modules_come_along(pytester):
    pytester.makeini("[pytest]\nkvm_files = data/*.bin\nkvm_packages = fractions\npythonpath = lib")
    for path, text in {
        "conftest.py": "import top_helper",
        "top_helper.py": "import decimal",
        "unused.py": "raise RuntimeError",
        "lib/from_path.py": "",
        "checks/__init__.py": "",
        "checks/deep/__init__.py": "",
        "checks/deep/conftest.py": "",
        "checks/deep/beside.py": "from ..other import thing",
        "checks/other.py": "thing = 1",
        "checks/deep/test_it.py": "import capstone, from_path\nfrom . import beside\ndef test_it(): pass",
        "checks/deep/test_else.py": "import no_such_module",
        "data/x.bin": "data",
        "data/x.txt": "not asked for",
    }.items():
        file = pytester.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    pytester.syspathinsert()
    found = carried(pytester, "checks/deep/test_it.py")
    assert sorted(path.removeprefix("suite/") for path in found.files) == [
        "checks/__init__.py",
        "checks/deep/__init__.py",
        "checks/deep/beside.py",
        "checks/deep/conftest.py",
        "checks/deep/test_it.py",
        "checks/other.py",
        "conftest.py",
        "data/x.bin",
        "lib/from_path.py",
        "top_helper.py",
    ]
    assert set(found.packages) - set(suites.PYTEST) == {"capstone", "decimal", "fractions"}
    assert {"_pytest.python", "kvmharness.testing.fixtures.guests", "capstone"} <= set(found.imports)
    assert {"decimal", "test_it", "conftest"}.isdisjoint(found.imports)


def test_what_a_package_requires_and_the_plugins_it_brings(pytester):
    pytester.makepyfile("import hypothesis\ndef test_it(assemble): pass")
    found = carried(pytester)
    assert {"hypothesis", "keystone"} <= set(found.packages)
    assert found.plugins == ("_hypothesis_pytestplugin",) or found.plugins == ()
