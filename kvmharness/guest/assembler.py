"""Keystone, made safe: named values in, addresses and a listing out, errors with file and line.

Keystone gives neither a symbol table nor the place of an error. So every statement gets a label of our own, the
addresses of all labels are emitted as words behind the program and cut off again, and a failing program is searched
line by line.
"""

import re
from collections.abc import Mapping
from functools import cache
from threading import RLock
from typing import Any

from kvmharness.guest.image import Image, Line
from kvmharness.guest.source import AssembleError, Program, Statement

_NAME = re.compile(r"(?<![\w.$])[A-Za-z_]\w*")
_STRING = re.compile(r'("(?:[^"\\]|\\.)*")')
_WORD_BYTES = 8
_ENGINES_TRIED = 64
# Two threads in Keystone at the same time take the process down.
_ALONE = RLock()


def assemble(program: Program, values: Mapping[str, int], origin: int) -> Image:
    """Assembles a program for one place in guest memory.

    Args:
        program: as parsed.
        values: the named values that the source may use.
        origin: gpa of the first byte.

    Raises:
        AssembleError: naming the file and the line at fault.
    """
    statements = program.statements
    labels = _labels(program)
    text = _source(statements, values, labels)
    hidden = [f"__at_{i}" for i in _listed(statements)]
    words = [*labels, *hidden, "__end"]
    table = "".join(f"\n.quad {name}" for name in words)
    # The words stand behind a label of their own, so that the code's size is one of the addresses.
    with _ALONE:
        raw = _keystone(program, f"{text}\n__end:{table}\n", origin, values, labels)
    addresses = dict(zip(words, _words(raw, len(words)), strict=True))
    code = raw[: addresses["__end"] - origin]
    return Image(
        name=program.name,
        origin=origin,
        code=code,
        symbols={name: addresses[name] for name in labels},
        header=dict(program.header),
        lines=tuple(_lines(statements, addresses, [addresses[name] for name in [*hidden, "__end"]])),
    )


def encode(text: str, bits: int = 64, address: int = 0) -> bytes:
    """Assembles plain source for the host or a test, without contract or symbols.

    Raises:
        AssembleError: Keystone does not take it.
    """
    import keystone  # type: ignore[import-untyped, unused-ignore]

    try:
        with _ALONE:
            return bytes(_engine(bits).asm(text, address, True)[0] or b"")
    except keystone.KsError as e:
        raise AssembleError(str(e), "<inline>", text=text) from e


@cache
def _engine(bits: int) -> Any:
    """A Keystone engine whose number syntax was seen to be right.

    A fresh process reads a bare 10 as decimal, but after any assignment to ``syntax``, even one made by somebody else
    on an engine long gone, as hexadecimal: an engine does not set the base, it finds what was in its memory. Everything
    else it reads is then suspect too. So engines are made, and kept away from the next one, until one is right.
    """
    import keystone

    mode, expected = (
        (keystone.KS_MODE_64, b"\xb8\x0a\0\0\0") if bits == 64 else (keystone.KS_MODE_16, b"\x66\xb8\x0a\0\0\0")
    )
    unfit = []
    for _ in range(_ENGINES_TRIED):
        engine = keystone.Ks(keystone.KS_ARCH_X86, mode)
        if bytes(engine.asm("mov eax, 10", 0, True)[0] or b"") == expected:
            return engine
        unfit.append(engine)
    raise AssembleError(
        "the assembler's self-test failed: it reads numbers in an unexpected base",
        "keystone",
        hint="Some code of this process has set keystone's `syntax`; run the harness in a process of its own.",
    )


def _keystone(program: Program, text: str, origin: int, values: Mapping[str, int], labels: list[str]) -> bytes:
    import keystone

    try:
        raw, _ = _engine(program.bits).asm(text, origin, True)
    except keystone.KsError as e:
        raise _find_fault(program, values, labels, str(e)) from e
    return bytes(raw or b"")


def _labels(program: Program) -> list[str]:
    seen: dict[str, Statement] = {}
    for statement in program.statements:
        if statement.label is None:
            continue
        if first := seen.get(statement.label):
            raise AssembleError(
                f"label {statement.label!r} stands already at {first.path}:{first.line}",
                statement.path,
                statement.line,
                statement.source,
            )
        seen[statement.label] = statement
    return list(seen)


def _listed(statements: tuple[Statement, ...]) -> list[int]:
    """Indices of the statements that get an address: all but what stands inside a ``.rept`` block."""
    listed, inside = [], False
    for i, statement in enumerate(statements):
        if not inside:
            listed.append(i)
        if statement.code.startswith(".rept"):
            inside = True
        elif statement.code.startswith(".endr"):
            inside = False
    return listed


def _source(statements: tuple[Statement, ...], values: Mapping[str, int], labels: list[str]) -> str:
    listed = set(_listed(statements))
    known = set(labels)
    text = []
    for i, statement in enumerate(statements):
        if i in listed:
            text.append(f"__at_{i}:")
        if statement.label:
            text.append(f"{statement.label}:")
        if statement.code:
            text.append(_substitute(statement, values, known))
    return "\n".join(text)


def _substitute(statement: Statement, values: Mapping[str, int], labels: set[str]) -> str:
    """Writes the named values as numbers; an unknown name in capitals is an error, not a symbol for Keystone."""

    def replace(match: re.Match[str]) -> str:
        name = match[0]
        if name in labels or name not in values:
            if name.isupper() and len(name) > 3 and name not in labels:
                raise AssembleError(
                    f"unknown name {name}",
                    statement.path,
                    statement.line,
                    statement.source,
                    "Named values come from kvmharness.guest.layout; labels are written in lower case.",
                )
            return name
        return hex(values[name])

    parts = _STRING.split(statement.code)
    return "".join(part if part.startswith('"') else _NAME.sub(replace, part) for part in parts)


def _find_fault(program: Program, values: Mapping[str, int], labels: list[str], reason: str) -> AssembleError:
    """Finds the line that Keystone refuses, by giving it each one alone with every label known."""
    import keystone

    engine = _engine(program.bits)
    anchors = "".join(f"\n{name}: nop" for name in labels)
    for statement in program.statements:
        if not statement.code or statement.code.startswith((".rept", ".endr")):
            continue
        try:
            engine.asm(_substitute(statement, values, set(labels)) + anchors, 0, True)
        except keystone.KsError as e:
            return AssembleError(str(e), statement.path, statement.line, statement.source)
    return AssembleError(reason, program.path)


def _words(raw: bytes, count: int) -> list[int]:
    tail = raw[len(raw) - count * _WORD_BYTES :]
    return [int.from_bytes(tail[i : i + _WORD_BYTES], "little") for i in range(0, len(tail), _WORD_BYTES)]


def _lines(statements: tuple[Statement, ...], addresses: Mapping[str, int], starts: list[int]) -> list[Line]:
    """The listing: each statement's address, and its size up to the next one's."""
    listed = _listed(statements)
    return [
        Line(addresses[f"__at_{i}"], end - addresses[f"__at_{i}"], s.path, s.line, s.source)
        for i, s, end in zip(listed, (statements[i] for i in listed), starts[1:], strict=True)
    ]
