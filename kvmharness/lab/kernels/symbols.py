"""Where in the source KVM's functions begin, as their modules' debug information says."""

from collections.abc import Collection
from pathlib import Path

from kvmharness.lab.kernels.build import SYMBOLS
from kvmharness.system.programs import run

_TEXT = ".text"


def places(modules: Path, names: Collection[str]) -> dict[str, str]:
    """File and line of functions, ``arch/x86/kvm/mmu/mmu.c:5123``, by name; those that are found.

    Args:
        modules: a folder of modules, with what :data:`SYMBOLS` names beside them; nothing is found without.
        names: of the functions.

    Raises:
        MissingToolError: binutils are not installed.
    """
    found: dict[str, str] = {}
    for path in sorted(modules.glob(f"*{SYMBOLS}")):
        offsets = _offsets(path, set(names) - set(found))
        if offsets:
            told = run(["addr2line", "-j", _TEXT, "-e", str(path), *map(hex, offsets.values())]).decode()
            lines = (line.partition(" (")[0] for line in told.splitlines())
            found |= {name: _short(line) for name, line in zip(offsets, lines, strict=True) if "?" not in line}
    return found


def _offsets(module: Path, names: Collection[str]) -> dict[str, int]:
    """Where these functions are in a module's text."""
    rows = (line.split() for line in run(["nm", "--defined-only", str(module)]).decode().splitlines())
    return {row[2]: int(row[0], 16) for row in rows if len(row) == 3 and row[1] in "tT" and row[2] in names}


def _short(line: str) -> str:
    """Relative to the kernel's tree, whichever folder that was built in."""
    _, arch, rest = line.partition("arch/x86/kvm/")
    if not arch:
        return line
    return rest.removeprefix("../../../") if rest.startswith("../../../") else arch + rest
