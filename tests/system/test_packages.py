"""One table of packages: what is looked for is in it, and each script, verb and error reads it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from kvmharness.system import packages

ROOT = Path(packages.__file__).parent.parent.parent


@pytest.fixture
def empty_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(packages, "_SYSTEM_PATH", "")
    return tmp_path


def test_what_is_missing_comes_with_its_package_once(empty_path, monkeypatch):
    flex = empty_path / "flex"
    flex.write_text("#!/bin/sh\n")
    flex.chmod(0o755)
    monkeypatch.setitem(packages.FILES, "gelf.h", ("libelf-dev", "/nowhere/gelf.h", "/nowhere/*/gelf.h"))
    found = packages.missing(("flex", "rmmod"), ("insmod", "gelf.h"))
    assert found == {"rmmod": "kmod", "insmod": "kmod", "gelf.h": "libelf-dev"}
    assert packages.install_command(found.values()) == "sudo apt-get install kmod libelf-dev"


def test_a_file_counts_at_any_of_its_places(tmp_path, monkeypatch):
    monkeypatch.setitem(packages.FILES, "gui.so", ("gui", "/nowhere/gui.so", f"{tmp_path}/*/gui.so"))
    assert packages.place("gui.so") is None
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/gui.so").touch()
    assert packages.place("gui.so") == f"{tmp_path}/lib/gui.so"


def test_programs_of_the_system_are_found_outside_of_the_path(empty_path, monkeypatch):
    (empty_path / "sbin").mkdir()
    (empty_path / "sbin/insmod").touch(mode=0o755)
    monkeypatch.setattr(packages, "_SYSTEM_PATH", f"/nowhere:{empty_path}/sbin")
    assert packages.place("insmod") == f"{empty_path}/sbin/insmod"


def looked_for():
    """The names that the package's code looks for, where it says them in full, and those of all groups."""
    for path in sorted((ROOT / "kvmharness").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            name = node.args[0]
            if node.func.id == "run" and isinstance(name, ast.List):
                name = name.elts[0]
            if node.func.id in ("find", "run") and isinstance(name, ast.Constant):
                yield name.value
    for group in (packages.BOCHS, packages.QEMU, packages.KERNEL_BUILD, *packages.GROUPS.values()):
        yield from group


@pytest.mark.parametrize("name", sorted(set(looked_for())))
def test_whatever_is_looked_for_is_in_the_table(name):
    assert name in packages.PROGRAMS or name in packages.FILES


def test_as_a_script_it_needs_nothing_but_python():
    command = [sys.executable, "-I", "-S", packages.__file__, "headers", "lab"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout.split()
    assert said[:3] == ["gcc", "libc6-dev", "linux-libc-dev"]
    assert {"bochs", "bochs-sdl", "vgabios", "qemu-system-x86", "linux-source-6.1", "libelf-dev"} <= set(said)
    assert len(set(said)) == len(said)
