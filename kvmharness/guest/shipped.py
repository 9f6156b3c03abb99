"""The programs that come with the package: where their sources are, and their images.

Assembling takes Keystone, which an emulated host cannot afford to load. A job carries bytes; only where tests make
guests inside are the images made outside handed in by :func:`unpack`.
"""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from kvmharness.errors import UsageError
from kvmharness.guest.image import Image
from kvmharness.guest.layout import Place

if TYPE_CHECKING:
    from pathlib import Path  # costs a fifth of a second where images come unpacked

    from kvmharness.guest.source import Program

_ORIGINS = {
    "hello": Place.REAL_MODE_CODE,
    "mov_cr3": Place.L1_CODE,
    "tick": Place.L1_CODE,
    "faults": Place.FAULTS,
    "l1_vmx": Place.L1_CODE,
    "l2": Place.L2_CODE,
    "l2_calls": Place.L2_CODE,
    "l1_svm": Place.L1_CODE,
    "l2_svm": Place.L2_CODE,
    "l2_calls_svm": Place.L2_CODE,
    "litmus_l1": Place.L1_CODE,
    "litmus_vmx": Place.L1_CODE,
    "litmus_l2": Place.L2_CODE,
    "litmus_svm": Place.L1_CODE,
    "litmus_l2_svm": Place.L2_CODE,
    # Host code without absolute addresses: runs wherever it is mapped.
    "run_loop": 0,
    "serial_loop": 0,
}

_unpacked: dict[str, Image] = {}  # filled by unpack(), once, before anything runs


def names() -> tuple[str, ...]:
    """The programs that come with the package."""
    return tuple(_ORIGINS)


def source_folder() -> "Path":
    """Where the ``.asm`` files are: inside an installed package, or beside it in a checkout."""
    from pathlib import Path

    package = Path(__file__).resolve().parent.parent
    for folder in (package / "guests", package.parent / "guests"):
        if folder.is_dir():
            return folder
    raise UsageError("the guests' sources are missing", f"Reinstall the package; looked in and beside {package}.")


def origin(program: "Program") -> int:
    """The gpa that a program is made for: a shipped one of its name, or somebody's own by its mode."""
    return _ORIGINS.get(program.name, Place.REAL_MODE_CODE if program.bits == 16 else Place.TEST_CODE)


@cache
def image(name: str) -> Image:
    """The image of a shipped program: the one unpacked, otherwise assembled now.

    Raises:
        UsageError: no program has this name.
        AssembleError: its source does not assemble.
    """
    if name not in _ORIGINS:
        raise UsageError(f"no guest program is called {name!r}", f"There are: {', '.join(_ORIGINS)}.")
    if name in _unpacked:
        return _unpacked[name]
    return assemble_file(source_folder() / f"{name}.asm")


def assemble_file(path: "Path") -> Image:
    """Assembles a source file for its place, with all named values.

    Raises:
        AssembleError: naming the file and the line.
    """
    # Not at the top: an emulated host has no Keystone and must not need it.
    from kvmharness.guest.assembler import assemble
    from kvmharness.guest.names import named_values
    from kvmharness.guest.source import parse

    program = parse(path)
    return assemble(program, named_values(), origin(program))


def pack() -> dict[str, Any]:
    """The images of all shipped programs as plain data, for :func:`unpack` elsewhere."""
    return {name: image(name).to_json() for name in _ORIGINS}


def unpack(images: Mapping[str, Any]) -> None:
    """Uses these images from now on, instead of assembling."""
    _unpacked.update({name: Image.from_json(data) for name, data in images.items()})
    image.cache_clear()


def run_loop() -> bytes:
    """The host code of :class:`kvmharness.guest.runloop.RunLoop`."""
    return image("run_loop").code


def serial_loop() -> bytes:
    """The host code of :class:`kvmharness.guest.serialloop.SerialLoop`."""
    return image("serial_loop").code
