"""IntEnum and IntFlag that cost almost nothing to define.

The standard library's take some 60,000 instructions a member. The architecture and the kernel's ABI have hundreds of
names, and the package is loaded in emulated hosts at 50 million instructions a second. These behave alike in all that
is used here: members are integers with a name, found by value or name, iterated in the order of their definition; flags
combine, print as ``A|B``, and keep bits that have no name. They are not instances of ``enum.Enum``, and there is no
``auto()``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # to a type checker these are the standard library's
    from enum import IntEnum, IntFlag
else:
    from collections.abc import Iterator
    from types import MappingProxyType
    from typing import Any

    class _EnumType(type):
        """Makes the public integers of a class body members of the class."""

        def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
            values = {key: value for key, value in namespace.items() if type(value) is int and key[0] != "_"}
            for key in values:
                del namespace[key]
            cls = super().__new__(mcs, name, bases, namespace)
            cls._by_name, cls._by_value = {}, {}
            for key, value in values.items():
                member = cls._by_value.get(value)
                if member is None:
                    member = cls._by_value[value] = int.__new__(cls, value)
                    member.name = key
                cls._by_name[key] = member
                setattr(cls, key, member)
            return cls

        @property
        def __members__(cls) -> MappingProxyType[str, Any]:
            return MappingProxyType(cls._by_name)

        def __call__(cls, value: int) -> Any:
            found = cls._by_value.get(value)
            return cls._unnamed(value) if found is None else found

        def __getitem__(cls, name: str) -> Any:
            return cls._by_name[name]

        def __contains__(cls, value: object) -> bool:
            return value in cls._by_value

        def __iter__(cls) -> Iterator[Any]:
            return iter(cls._listed())

        def __reversed__(cls) -> Iterator[Any]:
            return reversed(cls._listed())

        def __len__(cls) -> int:
            return len(cls._listed())

    class IntEnum(int, metaclass=_EnumType):
        """An integer that is one of a few, and has a name."""

        name: str

        @classmethod
        def _unnamed(cls, value: int) -> Any:
            raise ValueError(f"{value!r} is not a valid {cls.__qualname__}")

        @classmethod
        def _listed(cls) -> list[Any]:
            return list(cls._by_value.values())

        @property
        def value(self) -> int:
            """The plain integer."""
            return int(self)

        def __repr__(self) -> str:
            return f"<{type(self).__name__}.{self.name}: {int(self)}>"

        def __str__(self) -> str:
            return int.__repr__(self)

        __format__ = int.__format__

        def __reduce__(self) -> tuple[Any, ...]:
            return type(self), (int(self),)

        def __copy__(self) -> Any:
            return self

        def __deepcopy__(self, memo: Any) -> Any:
            return self

    class IntFlag(IntEnum):
        """A combination of bits, some of which have a name."""

        @classmethod
        def _unnamed(cls, value: int) -> Any:
            if value < 0:
                value += max(cls._all_bits() + 1, 1 << value.bit_length())
            known = cls._by_value.get(value)
            if known is not None:
                return known
            return int.__new__(cls, value)

        def __getattr__(self, attribute: str) -> Any:
            """The name of a combination, made when somebody asks for it."""
            if attribute != "name":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {attribute!r}")
            names = [member.name for member in self]
            rest = int(self) & ~self._all_named()
            self.name = "|".join([*names, str(rest)] if rest else names) or None
            return self.name

        @classmethod
        def _listed(cls) -> list[Any]:
            return [member for value, member in cls._by_value.items() if value and not value & value - 1]

        @classmethod
        def _all_named(cls) -> int:
            bits = 0
            for value in cls._by_value:
                bits |= value
            return bits

        @classmethod
        def _all_bits(cls) -> int:
            """Ones up to the highest bit that has a name."""
            return (1 << cls._all_named().bit_length()) - 1

        def __iter__(self) -> Iterator[Any]:
            return (member for member in sorted(self._listed(), key=int) if int.__and__(member, self))

        def __contains__(self, other: int) -> bool:
            return int(self) & other == other

        def __or__(self, other: int) -> Any:
            return type(self)(int.__or__(self, other)) if isinstance(other, int) else NotImplemented

        def __and__(self, other: int) -> Any:
            return type(self)(int.__and__(self, other)) if isinstance(other, int) else NotImplemented

        def __xor__(self, other: int) -> Any:
            return type(self)(int.__xor__(self, other)) if isinstance(other, int) else NotImplemented

        __ror__, __rand__, __rxor__ = __or__, __and__, __xor__

        def __invert__(self) -> Any:
            return type(self)(int.__invert__(self))

        def __repr__(self) -> str:
            name = f"{type(self).__name__}.{self.name}" if self.name else type(self).__name__
            return f"<{name}: {int(self)}>"


__all__ = ["IntEnum", "IntFlag"]
