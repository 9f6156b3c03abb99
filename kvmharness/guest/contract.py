"""What a program's header promises, as values: the loader sets registers and memory from here, so it cannot rot."""

from collections.abc import Mapping
from functools import cache

from kvmharness.errors import UsageError
from kvmharness.guest.image import Image
from kvmharness.lean.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """A range of guest physical memory that a program needs."""

    gpa: int
    size_bytes: int
    use: str


def registers(image: Image, names: Mapping[str, int]) -> dict[str, int]:
    """The registers that a program wants at its entry, from the header's ``in``: ``rdi = MAILBOX; r12 = 0x0``.

    Raises:
        UsageError: an entry is not of that form, or names an unknown value.
    """
    text = image.header["in"].strip()
    if text == "none":
        return {}
    wanted = {}
    for entry in text.replace("\n", " ").split(";"):
        register, equals, value = (part.strip() for part in entry.partition("="))
        if not equals:
            raise UsageError(f"{image.name}: header 'in': {entry.strip()!r} is not of the form 'register = value'")
        wanted[register] = _value(image, "in", value, names)
    return wanted


def memory(image: Image, names: Mapping[str, int]) -> tuple[MemoryUse, ...]:
    """The memory that a program needs, from the header's ``memory``: lines ``gpa size use``.

    Only the first line counts for the loader; more text after a ``;`` is for the reader.

    Raises:
        UsageError: a line is not of that form, or names an unknown value.
    """
    uses = []
    for parts in _memory_lines(image.header["memory"]):
        if len(parts) < 3:
            line = " ".join(parts)
            raise UsageError(f"{image.name}: header 'memory': {line!r} is not of the form 'gpa size use'")
        gpa, size, use = parts
        uses.append(MemoryUse(_value(image, "memory", gpa, names), _value(image, "memory", size, names), use))
    return tuple(uses)


@cache  # a program is loaded into many VMs
def _memory_lines(text: str) -> tuple[list[str], ...]:
    return tuple(line.split(maxsplit=2) for line in text.splitlines())


def _value(image: Image, key: str, text: str, names: Mapping[str, int]) -> int:
    if text in names:
        return names[text]
    try:
        return int(text, 16) if text.startswith("0x") else image.symbols[text]
    except (ValueError, KeyError):
        raise UsageError(f"{image.name}: header '{key}': {text!r} is no name, label or 0x number") from None
