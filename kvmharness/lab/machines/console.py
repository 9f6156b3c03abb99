"""The serial console of an emulated host: what its kernel says, for as long as that can be kept.

A kernel that is broken may say the same for ever, in one line or in millions: so much is read, and the last of it kept.
"""

from collections import deque
from pathlib import Path

MAX_BYTES = 1 << 26
"""What a host may say before that counts as a fault of its own."""

_PIECE_BYTES = 1 << 20
_LINES = 20_000  # that are kept
_LINE_CHARACTERS = 1 << 13  # a line of the kernel's is shorter than a tenth of it
_LOOKED_AT = 40  # lines that are searched for a panic each time
_PANIC = "Kernel panic - not syncing"
# The last line of a panic; it may not come, when the console itself is what broke.
_PANIC_END = "---[ end Kernel panic"


class Console:
    """The serial console's file as it grows.

    Attributes:
        lines: the last lines so far, without colour codes or carriage returns.
        flooded: it has said more than :data:`MAX_BYTES`, of which the rest is not read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = ""
        self._left_out = 0
        self.lines: deque[str] = deque(maxlen=_LINES)
        self.flooded = False

    def read(self) -> None:
        """Take what was written since the last time."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                while not self.flooded and (data := file.read(_PIECE_BYTES)):
                    self._take(data)
        except FileNotFoundError:
            return

    def _take(self, data: bytes) -> None:
        self._offset += len(data)
        self.flooded = self._offset > MAX_BYTES
        text = self._rest + data.decode(errors="backslashreplace").replace("\r", "")
        *whole, self._rest = text.split("\n")
        if len(self._rest) > _LINE_CHARACTERS:  # and it may not have ended yet
            whole.append(self._rest)
            self._rest = ""
        said = [line[:_LINE_CHARACTERS] for line in whole if line.strip()]
        self._left_out += max(0, len(self.lines) + len(said) - _LINES)
        self.lines += said

    @property
    def whole(self) -> tuple[str, ...]:
        """Every line that is kept, the unfinished one included."""
        left_out = [f"({self._left_out} lines before these are not kept)"] if self._left_out else []
        return (*left_out, *self.lines, *([self._rest] if self._rest.strip() else []))

    @property
    def last(self) -> tuple[str, ...]:
        """The last lines."""
        first = max(0, len(self.lines) - _LOOKED_AT)
        found = (*(self.lines[number] for number in range(first, len(self.lines))), self._rest)
        return tuple(line for line in found if line.strip())[-_LOOKED_AT:]

    def panic(self) -> str:
        """The kernel's own sentence about why it panicked, or an empty string."""
        said = (line.partition(_PANIC)[2].strip(": ") for line in self.last if _PANIC in line)
        return next((why.removesuffix(" ]---") or _PANIC for why in said), "")  # the last line says it once more

    @property
    def panic_is_complete(self) -> bool:
        """Nothing more is to be expected from a panicked kernel."""
        return any(_PANIC_END in line for line in self.last)
