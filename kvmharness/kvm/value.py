"""What the objects made of the kernel's structs have besides their fields."""

from typing import Any, Self

from kvmharness.lean.dataclasses import replace


class Value:
    """Base of classes made by :func:`kvmharness.lean.dataclasses.dataclass`."""

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()  # the names of a class's fields, from the decorator

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[type-var]

    def __repr__(self) -> str:
        # Addresses and register values are read in hexadecimal.
        parts = []
        for name in self.__match_args__:
            value = getattr(self, name)
            text = f"{value:#x}" if type(value) is int and value > 9 else repr(value)
            parts.append(f"{name}={text}")
        return f"{type(self).__name__}({', '.join(parts)})"
