"""Assembling what somebody else has written: in a process of its own, with limits.

Keystone is a C++ library that a source can take down or keep busy for hours (``.rept 0x3b9aca00``, ``.space`` of a
terabyte, a thousand parentheses). Whatever it does, it does to a child that has so much time and so much memory, and
the answer is an error with the file and the line. The programs that come with the package need none of that.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from kvmharness.errors import LostMachineError
from kvmharness.guest.assembler import assemble
from kvmharness.guest.image import Image, Line
from kvmharness.guest.source import AssembleError, Program, Statement
from kvmharness.system.programs import die_with_parent

CPU_S = 1
MEMORY_BYTES = 1 << 30  # of address space
CODE_BYTES = 1 << 22  # as much as the memory that a guest has
_WALL_S = 20.0  # on a busy machine processor time comes slowly
_PIECE_S = 0.5  # of processor time for a statement alone, when the one at fault is looked for
_NAME = re.compile(r"[A-Za-z_]\w*")
_WHOLE, _SEARCH = "whole", "search"


def assemble_apart(program: Program, values: Mapping[str, int], origin: int) -> Image:
    """As :func:`kvmharness.guest.assembler.assemble`, for a program that is not trusted.

    Raises:
        AssembleError: also when the assembler does not come to an end, wants too much memory, or crashes.
        LostMachineError: the child cannot be started, or is itself at fault.
    """
    return _assembled(json.dumps([_packed(program), dict(values), origin]))


@cache  # a test with many parameters assembles the same text each time
def _assembled(request: str) -> Image:
    status, said, complaint = _child(_WHOLE, request)
    if status == 0:
        return _image(json.loads(said))
    if status > 0:
        raise LostMachineError(f"the assembler's own process failed: {complaint.strip().rpartition(chr(10))[2]}")
    program = _unpacked(json.loads(request)[0])
    status, said, _ = _child(_SEARCH, request)
    # A search that itself took too long, or found nothing, says nothing about the statement where it was.
    found = said.split()[-1:] if status < 0 and status != -signal.SIGKILL else []
    at = program.statements[int(found[0])] if found else None
    raise AssembleError(
        f"the assembler did not survive this: it took more than {CPU_S} s or {MEMORY_BYTES >> 20} MiB, or crashed",
        at.path if at else program.path,
        at.line if at else 0,
        at.source[:200] if at else "",
        f"A guest has {CODE_BYTES >> 20} MiB of memory; make counts and sizes smaller, and expressions simpler.",
    )


def _child(task: str, request: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a child that does *task*."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    argv = [*die_with_parent(), sys.executable, "-P", "-m", __name__, task]
    try:
        done = subprocess.run(
            argv,
            input=request,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": path},
            encoding="utf-8",
            errors="replace",
            timeout=_WALL_S,
        )
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL, "", ""
    except OSError as error:
        raise LostMachineError(f"cannot start {argv[0]} for the assembler: {error.strerror}") from error
    return done.returncode, done.stdout, done.stderr


def _packed(program: Program) -> list[Any]:
    rows = [(s.path, s.line, s.source, s.label, s.code) for s in program.statements]
    return [program.name, program.path, program.header, rows]


def _unpacked(row: list[Any]) -> Program:
    name, path, header, statements = row
    return Program(name, path, header, tuple(Statement(*each) for each in statements))


def _image(answer: dict[str, Any]) -> Image:
    if "error" in answer:
        raise AssembleError(*answer["error"])
    return replace(Image.from_json(answer["image"]), lines=tuple(Line(*each) for each in answer["lines"]))


def _answer(program: Program, values: Mapping[str, int], origin: int) -> dict[str, Any]:
    try:
        image = assemble(program, values, origin)
        if len(image.code) > CODE_BYTES:
            raise AssembleError(f"makes {len(image.code)} bytes, more than a guest has memory", program.path)
    except AssembleError as error:
        return {"error": [error.reason, error.path, error.line, error.text, error.hint]}
    lines = [(each.address, each.size_bytes, each.path, each.line, each.source) for each in image.lines]
    return {"image": image.to_json(), "lines": lines}


def _search(program: Program, values: Mapping[str, int], origin: int) -> None:
    """Assembles each statement alone, or block that is repeated, having said which: the last one said is at fault."""
    places = {s.label: replace(s, code="nop") for s in program.statements if s.label}
    for start, end in _pieces(program):
        print(start, flush=True)
        piece = program.statements[start:end]
        # The labels that it names are to be known; where they are makes no difference here.
        named = set(_NAME.findall("\n".join(each.code for each in piece))) - {each.label for each in piece}
        labels = (places[name] for name in named & places.keys())
        signal.setitimer(signal.ITIMER_VIRTUAL, _PIECE_S)  # ends the process, also while it is in Keystone
        _answer(replace(program, statements=(*piece, *labels)), values, origin)


def _pieces(program: Program) -> Iterator[tuple[int, int]]:
    start, depth = 0, 0
    for place, statement in enumerate(program.statements):
        start = start if depth else place
        depth += statement.code.startswith(".rept") - statement.code.startswith(".endr")
        if depth <= 0:
            depth = 0
            if statement.code:
                yield start, place + 1
    if depth:
        yield start, len(program.statements)


def _main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    packed, values, origin = json.load(sys.stdin)
    try:
        if sys.argv[1] == _SEARCH:
            _search(_unpacked(packed), values, origin)
        else:
            print(json.dumps(_answer(_unpacked(packed), values, origin)))
    except MemoryError:
        os.abort()  # as if Keystone itself had noticed


if __name__ == "__main__":
    _main()
