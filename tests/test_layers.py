"""Imports go down: each file imports its own room or rooms below it, and no file is on a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "kvmharness"

# Every room of the house, from the ground up. A room is a folder, or a file beside the folders.
ROOMS = (
    *("errors", "lean", "system", "abi", "x86", "vendors", "kvm", "guest", "hosts", "measure", "results", "oracle"),
    *("patches", "lab.steps", "lab.events", "lab.job", "lab.jobrun", "lab.inside", "lab.kernels", "lab.image"),
    *("lab.machines", "cells", "litmus", "suites", "claims", "report", "validation", "fleet"),
    *("testing.names", "testing.needs", "testing.fixtures", "testing.failure", "testing.emulated"),
    *("pytest_plugin", "cli", "__main__"),
)

MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "_kvm_abi.py"
}


def room(module):
    """The room that a module lies in: the longest name of one that its own begins with."""
    inner = module.removeprefix("kvmharness.")
    return max((name for name in ROOMS if inner == name or inner.startswith(f"{name}.")), key=len, default=None)


def imported(source):
    """The package's modules that a source imports, at any depth and for type checkers too, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.partition(".")[0] == "kvmharness":
                yield node.lineno, name


def module_of(name):
    """The module that an imported name is or stands in."""
    while name not in MODULES and f"{name}.__init__" not in MODULES:
        name = name.rpartition(".")[0]
    return name if name in MODULES else f"{name}.__init__"


def upward(source, own):
    """Imports of a source in the room *own* that lead up."""
    found = []
    for line, name in imported(source):
        other = room(name)
        if other is None and name.count(".") > 1:
            found.append(f"line {line}: {name} is in no room")
        elif other is not None and ROOMS.index(other) > ROOMS.index(own):
            found.append(f"line {line}: {other} is above {own}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    source = MODULES[module].read_text()
    if module in ("kvmharness.__init__", "kvmharness.lab.__init__", "kvmharness.testing.__init__"):
        assert not list(imported(source)), "a folder of rooms is none itself"
        return
    assert room(module) is not None, f"{module} lies in no room"
    assert upward(source, room(module)) == []


def test_no_file_is_on_a_circle():
    graph = {
        module: {module_of(name) for _, name in imported(path.read_text())} - {module, "kvmharness.__init__"}
        for module, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("own", "source", "expected"),
    [
        ("abi", "from kvmharness.kvm.vm import Vm", "line 1: kvm is above abi"),
        ("lab.inside", "import os\nimport kvmharness.lab.machines.bochs", "line 2: lab.machines is above lab.inside"),
        ("kvm", "def f():\n    from kvmharness import cli", "line 2: cli is above kvm"),
        ("guest", "from kvmharness.nowhere import x", "line 1: kvmharness.nowhere.x is in no room"),
    ],
)
def test_a_wrong_import_is_seen(own, source, expected):
    assert upward(source, own) == [expected]


def test_nobody_uses_the_fcntl_module():
    users = [
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(alias.name == "fcntl" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "fcntl")
    ]
    assert users == []
