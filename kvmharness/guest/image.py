"""An assembled guest: bytes, symbols and contract, which can be made on one machine and run on another."""

from collections.abc import Mapping
from typing import Any

from kvmharness.lean.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """One statement of the source, where it ended up."""

    address: int  # gpa of its first byte
    size_bytes: int
    path: str
    line: int
    source: str


@dataclass(frozen=True, slots=True)
class Image:
    """What the assembler makes of a program.

    Attributes:
        name: the program's name.
        origin: gpa of the first byte.
        code: the bytes to place there.
        symbols: label -> gpa.
        header: the program's contract, key -> text.
        lines: the listing, in order of address.
    """

    name: str
    origin: int
    code: bytes
    symbols: Mapping[str, int]
    header: Mapping[str, str]
    lines: tuple[Line, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything a run needs, as JSON; the listing stays behind."""
        return {
            "name": self.name,
            "origin": self.origin,
            "code": self.code.hex(),
            "symbols": dict(self.symbols),
            "header": dict(self.header),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Image":
        """The inverse of :meth:`to_json`."""
        return cls(data["name"], data["origin"], bytes.fromhex(data["code"]), data["symbols"], data["header"])

    def symbol_at(self, address: int) -> str:
        """The nearest label at or below an address, as ``label+0x5``, for messages."""
        below = [(value, name) for name, value in self.symbols.items() if value <= address]
        if not below or address >= self.origin + len(self.code):
            return hex(address)
        value, name = max(below)
        return name if value == address else f"{name}+{address - value:#x}"
