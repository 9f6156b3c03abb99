"""Imports go down: what DESIGN calls the layers, checked from the code's own imports."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "kvmharness"

# Top-level name within the package -> layer. A new one must be placed here before it may be imported.
LAYERS = {
    0: ("errors", "enums", "values", "stats", "rootcache", "files", "jsonread", "record", "verdict"),
    1: ("abi", "x86"),
    2: ("kvm", "guest", "measure", "lab"),
    3: ("workloads", "cell_guest", "experiment", "campaign", "hosts", "claims", "report", "compare"),
    4: ("validate", "bisect"),
    5: ("cli", "__main__", "pytest_plugin", "testing"),
}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}

# Within one layer, who may import whom; everything else there is apart.
SIDEWAYS = {
    "record": {"errors", "files", "jsonread", "values"},
    "verdict": {"errors", "jsonread"},
    "files": {"errors"},
    "jsonread": {"errors"},
    "rootcache": {"errors", "values"},
    "stats": {"errors"},
    "guest": {"kvm"},
    "measure": {"kvm"},
    "cell_guest": {"workloads"},
    "experiment": {"workloads", "cell_guest", "hosts"},
    "campaign": {"experiment", "workloads"},
    "claims": {"workloads", "compare"},
    "report": {"workloads", "compare"},
    "compare": {"workloads"},
    "__main__": {"cli"},
    "pytest_plugin": {"testing"},
    "testing": {"pytest_plugin"},
}

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "_kvm_abi.py")


def unit(path):
    """The top-level name that a file belongs to: a package's folder or a module."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_units(source, own_package):
    """Top-level names of the package that a source imports, at any depth of nesting, with the line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = [f"kvmharness.{own_package}"]  # relative: cannot leave its own package here
            assert node.level == 1, f"line {node.lineno}: relative imports reach no further than their own package"
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
            if node.module == "kvmharness":
                names = [f"kvmharness.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "kvmharness" and len(parts) > 1 and not parts[1].startswith("__version"):
                yield node.lineno, parts[1]


def violations(source, own):
    """Imports of a source that its unit may not have."""
    found = []
    for line, name in imported_units(source, own):
        if name == own:
            continue
        if name not in LAYER_OF:
            found.append(f"line {line}: {name} has no layer")
        elif LAYER_OF[name] > LAYER_OF[own]:
            found.append(f"line {line}: {name} is above {own}")
        elif LAYER_OF[name] == LAYER_OF[own] and name not in SIDEWAYS.get(own, ()):
            found.append(f"line {line}: {name} stands beside {own}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    own = unit(path)
    if own == "__init__":
        assert not list(imported_units(path.read_text(), "")), "importing the package must have no effect"
        return
    assert own in LAYER_OF, f"{own} has no layer"
    assert violations(path.read_text(), own) == []


@pytest.mark.parametrize(
    ("own", "source", "expected"),
    [
        ("abi", "from kvmharness.kvm.vm import Vm", "line 1: kvm is above abi"),
        ("lab", "import os\nimport kvmharness.guest.image", "line 2: guest stands beside lab"),
        ("kvm", "def f():\n    from kvmharness import cli", "line 2: cli is above kvm"),
        ("guest", "from kvmharness.nowhere import x", "line 1: nowhere has no layer"),
    ],
)
def test_a_wrong_import_is_seen(own, source, expected):
    assert violations(source, own) == [expected]


def test_nobody_uses_the_fcntl_module():
    users = [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(alias.name == "fcntl" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "fcntl")
    ]
    assert users == []
