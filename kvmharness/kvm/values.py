"""Small classes of named fields, like dataclasses with slots, at a twentieth of the cost of defining one.

The package is loaded inside an emulated host, where every millisecond of import is a tenth of a second, and
``@dataclass(frozen=True, slots=True)`` takes more than a millisecond a class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from typing import dataclass_transform
else:

    def dataclass_transform(**_options: Any) -> Any:
        """Means something to type checkers only."""
        return lambda cls: cls


_set = object.__setattr__


@dataclass_transform(frozen_default=True, eq_default=True)
class _FrozenMeta(type):
    """Makes slots of a class's annotations, before the class exists, and keeps the defaults aside.

    A module with such classes has ``from __future__ import annotations``, which keeps the annotations in the class
    body's namespace in every Python version.
    """

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _FrozenMeta:
        fields = tuple(field for field in namespace.get("__annotations__", ()) if not field.startswith("_"))
        namespace["_defaults"] = {field: namespace.pop(field) for field in fields if field in namespace}
        namespace["__slots__"] = fields
        namespace["__match_args__"] = namespace["_names"] = fields
        return super().__new__(mcs, name, bases, namespace)


@dataclass_transform(eq_default=True)
class _MutableMeta(_FrozenMeta):
    """The same, for classes whose fields may be assigned to."""


class _Fields:
    """What both kinds share. Fields are those of the class itself: there is no inheriting of fields."""

    __slots__ = ()
    _names: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}  # each class has its own, from the metaclass

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = self._names
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} has {len(names)} fields, not {len(args)}")
        for name, value in zip(names, args, strict=False):
            _set(self, name, value)
        for name in names[len(args) :]:
            if name in kwargs:
                _set(self, name, kwargs.pop(name))
            elif name in self._defaults:
                _set(self, name, self._defaults[name])
            else:
                raise TypeError(f"{type(self).__name__} needs {name}")
        if kwargs:
            raise TypeError(f"{type(self).__name__} does not take {', '.join(kwargs)}")

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        values = {name: getattr(self, name) for name in self._names}
        return type(self)(**(values | changes))

    def _astuple(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self._names])

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._astuple() == other._astuple()

    def __repr__(self) -> str:
        # Addresses and register values are read in hexadecimal.
        parts = []
        for name in self._names:
            value = getattr(self, name)
            text = f"{value:#x}" if type(value) is int and value > 9 else repr(value)
            parts.append(f"{name}={text}")
        return f"{type(self).__name__}({', '.join(parts)})"


class Value(_Fields, metaclass=_FrozenMeta):
    """Base of classes whose objects never change."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: use replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __hash__(self) -> int:
        return hash((type(self), self._astuple()))


class Struct(_Fields, metaclass=_MutableMeta):
    """Base of classes that mirror a struct of the kernel: read, change a field, write back."""

    __hash__ = None  # type: ignore[assignment]
