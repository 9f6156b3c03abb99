"""Importing the binding stays cheap: it happens in an emulated host at fifty million instructions a second."""

import subprocess
import sys

import pytest

HEAVY = {
    "argparse",
    "asyncio",
    "cffi",
    "ctypes",
    "fcntl",
    "importlib.metadata",
    "json",
    "logging",
    "pathlib",
    "pycparser",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
}


# isolated and without site: what the interpreter's own start imports is not ours
def _modules_after(statement):
    path = [entry for entry in sys.path if entry]
    code = f"import sys; sys.path[:] = {path!r}; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["kvmharness.abi.binding", "kvmharness.abi.constants", "kvmharness.kvm"])
def test_nothing_heavy_is_imported(module):
    assert not _modules_after(f"import {module}") & HEAVY


def test_the_binding_needs_no_dataclasses():
    assert "dataclasses" not in _modules_after("import kvmharness.abi.binding")


def test_heavy_modules_would_be_seen():
    assert "json" in _modules_after("import json")
