"""asm: the listing of a guest program, with its contract and its labels."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output
from kvmharness.errors import ExitCode, UsageError
from kvmharness.guest.image import Image, Line

_BYTES_A_ROW = 8


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "asm",
        read,
        act,
        "print the listing of a guest program",
        "Needs no KVM. Where capstone is installed, what the bytes decode to is shown beside the source.",
        examples=(
            "kvmharness asm l1_vmx",
            "kvmharness asm guests/l1_vmx.asm --json",
        ),
    )
    made.add_argument("file", metavar="FILE", help="an .asm file, or the name of a program that comes with the package")
    made.add_argument("--json", action="store_true", help="print one JSON document instead: contract, labels, code")


@dataclass(frozen=True, slots=True)
class Request:
    """A program to list.

    Attributes:
        file: its path, or the name of one that comes with the package.
        as_json: prints JSON.
    """

    file: str
    as_json: bool


def read(options: argparse.Namespace) -> Request:
    """What is asked for."""
    return Request(options.file, options.json)


def act(request: Request, output: Output) -> int:
    """Prints the listing."""
    image = _image(request.file)
    if request.as_json:
        output.document(json.dumps(_document(image), indent=1))
        return ExitCode.PASS
    for line in _contract(image):
        output.result(line)
    for line in listing(image):
        output.result(line)
    return ExitCode.PASS


def _image(name: str) -> Image:
    from kvmharness.guest import shipped as programs
    from kvmharness.guest.apart import assemble_apart
    from kvmharness.guest.names import named_values
    from kvmharness.guest.source import DEFAULTS, parse

    path = Path(name)
    if path.suffix or path.exists():
        program = parse(path, DEFAULTS)
        return assemble_apart(program, named_values(), programs.origin(program))
    if name in programs.names():
        return programs.assemble_file(programs.source_folder() / f"{name}.asm")
    raise UsageError(f"{name} is neither a file nor a program", f"Programs: {', '.join(programs.names())}.")


def _contract(image: Image) -> list[str]:
    width = max(map(len, image.header))
    lines = [f"{image.name}: {len(image.code)} bytes at {image.origin:#x}"]
    for key, text in image.header.items():
        first, *more = text.split("\n")
        lines.append(f"  {key:<{width}}  {first}")
        lines += [f"  {'':<{width}}  {line}" for line in more]
    return [*lines, ""]


def listing(image: Image) -> list[str]:
    """One line a statement: address, bytes, what they decode to, and the source they come from."""
    decoder = _decoder(image)
    lines = []
    file = None
    for line in image.lines:
        if line.path != file:
            file = line.path
            lines.append(f"{file}:")
        lines += _statement(image, line, decoder)
    return lines


def _statement(image: Image, line: Line, decoder: Any) -> list[str]:
    start = line.address - image.origin
    code = image.code[start : start + line.size_bytes]
    rows = [code[i : i + _BYTES_A_ROW] for i in range(0, len(code), _BYTES_A_ROW)] or [b""]
    decoded = _decoded(code, line.address, decoder)
    made = [f"{line.address:8x}  {rows[0].hex(' '):<{3 * _BYTES_A_ROW}} {line.line:4}  {line.source.rstrip()}"]
    # Long data (.rept, .asciz) is shown by its first row only.
    if len(rows) > 1:
        made.append(f"{line.address + _BYTES_A_ROW:8x}  {rows[1].hex(' ')}" + (" ..." if len(rows) > 2 else ""))
    if decoded and not line.source.lstrip().startswith("."):
        made[0] = f"{made[0]:<100}  = {decoded}"
    return made


def _decoder(image: Image) -> Any:
    """A capstone disassembler for the program's mode, None where capstone is not installed."""
    try:
        import capstone
    except ImportError:
        return None
    mode = capstone.CS_MODE_16 if image.header["mode"].startswith("real16") else capstone.CS_MODE_64
    return capstone.Cs(capstone.CS_ARCH_X86, mode)


def _decoded(code: bytes, address: int, decoder: Any) -> str:
    if decoder is None or not code:
        return ""
    found = list(decoder.disasm_lite(code, address))
    # Data, or several instructions behind one statement: the bytes say enough.
    if len(found) != 1 or found[0][1] != len(code):
        return ""
    return f"{found[0][2]} {found[0][3]}".rstrip()


def _document(image: Image) -> dict[str, Any]:
    lines = [
        {
            "address": line.address,
            "size_bytes": line.size_bytes,
            "line": line.line,
            "path": line.path,
            "source": line.source,
        }
        for line in image.lines
    ]
    return image.to_json() | {"lines": lines}
