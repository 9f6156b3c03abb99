"""The image carries what is imported: against what a fresh interpreter really loads."""

import os
import subprocess
import sys

import pytest

from kvmharness.lab.image.closure import INTERPRETER_ROOTS, closure, find, follow_core, follow_packages, submodules
from kvmharness.lab.image.interpreter import PythonParts, byte_code
from kvmharness.testing.emulated.suite import PYTEST, required_by

# Whose absence is caught where they are imported.
CAUGHT = {"_bz2", "_hashlib", "_ssl", "bz2", "ssl", "typing_extensions"}


def really_loaded(statement):
    """The files of the modules in a fresh interpreter after *statement*."""
    program = f"{statement}\nimport sys\nfor m in list(sys.modules.values()):\n"
    program += "    s = getattr(m, '__spec__', None)\n    if s and s.has_location: print(s.name)\n"
    argv = [sys.executable, "-S", "-s", "-c", program]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=True, env={"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    return set(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("statement", ["pass", "import json", "import enum", "import traceback"])
def test_nothing_that_is_loaded_is_left_out(statement):
    roots = statement.removeprefix("import ").split(", ") if statement != "pass" else []
    assert really_loaded(statement) <= set(closure((*INTERPRETER_ROOTS, *roots), follow_core))


@pytest.mark.slow
def test_nor_where_packages_of_others_are_carried():
    found = closure((*INTERPRETER_ROOTS, "dataclasses", "weakref"), follow_packages(("dataclasses", "weakref")))
    assert really_loaded("import dataclasses, weakref") <= set(found)


@pytest.mark.slow
@pytest.mark.parametrize("statement", ["import hypothesis", "import unittest.mock"])
def test_nor_of_what_tests_import(statement):
    roots = {statement.removeprefix("import ")}
    packages = (*PYTEST, *sorted(roots | required_by(roots)))
    found = closure(PythonParts(packages).roots(), follow_packages(packages))
    assert really_loaded(statement) <= set(found) | CAUGHT


def test_the_agents_modules_are_found_with_their_packages():
    found = closure(("kvmharness.lab.inside.agent",), follow_core)
    assert {
        "kvmharness",
        "kvmharness.lab",
        "kvmharness.lab.inside.frames",
        "kvmharness.lab.inside.execute",
        "kvmharness.lab.inside.executor",
        "kvmharness.lab.steps",
        "kvmharness.lab.events",
        "json",
    } <= set(found)
    assert found["kvmharness.lab"].is_package
    assert not {"subprocess", "argparse", "typing"} & set(found)


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "pack"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import wave\n")
    (folder / "a.py").write_text("from . import b\nfrom .inner import c\ndef f():\n    import colorsys\n")
    (folder / "b.py").write_text("import no_such_module\nif __name__ == '__main__':\n    import wave\n")
    (folder / "inner/__init__.py").write_text("")
    (folder / "inner/c.py").write_text("from ..b import x\nfrom .. import d\n")
    (folder / "d.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "pack"


def follow_core_and_pack(importer, imported, at_once):
    return imported.startswith("pack") or follow_core(importer, imported)


def test_relative_and_late_imports_count_and_dead_ones_do_not(package):
    found = set(closure((f"{package}.a",), follow_core_and_pack))
    assert {"pack", "pack.a", "pack.b", "pack.d", "pack.inner", "pack.inner.c", "colorsys"} <= found
    assert "wave" not in found


def test_all_modules_of_a_package_are_listed(package):
    assert set(submodules(package)) == {"pack", "pack.a", "pack.b", "pack.d", "pack.inner", "pack.inner.c"}


def test_what_the_interpreter_has_inside_needs_no_file():
    assert find("sys") is None
    assert list(submodules("sys")) == []


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        list(submodules("no_such_package"))


def test_a_lean_image_has_no_package_of_others():
    assert follow_core("kvmharness.guest.assembler", "keystone") is False
    assert follow_core("kvmharness.results.record", "json") is True
    assert follow_core("kvmharness.results.record", "typing") is True
    assert follow_core("functools", "typing") is False


def test_byte_code_runs_without_its_source_and_names_no_path_of_this_machine(package, tmp_path):
    module = find("pack.inner.c")
    data = byte_code(module)
    assert str(tmp_path).encode() not in data
    folder = tmp_path / "elsewhere/lone"
    folder.mkdir(parents=True)
    source = find("colorsys")
    (folder / "colorsys.pyc").write_bytes(byte_code(source))
    program = "import colorsys; print(colorsys.__file__, colorsys.rgb_to_hsv(0, 0, 0))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(folder))


def test_identity_changes_with_the_parts():
    assert PythonParts().identity() != PythonParts(("pytest",)).identity()
    assert PythonParts().identity() == PythonParts().identity()
