"""Dataclasses that cost almost nothing to define.

``@dataclass`` of the standard library writes and compiles the source of each class's methods, and imports ``inspect``
to do so: a fifth of all that a job executes in an emulated host before its first guest runs. The decorator here takes
the same keywords, puts shared methods on the class, and leaves the rest of the standard library to whoever asks for
it: ``dataclasses.fields``, ``asdict``, ``replace`` and ``is_dataclass`` work on its classes.

Two things differ. A base's own ``__repr__`` is kept, and there is no ordering, no ``InitVar`` and no keyword-only
field. Objects that are given all their values by position are made fastest.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing typing costs as much as twenty classes do
if TYPE_CHECKING:  # to a type checker these are the standard library's
    from dataclasses import dataclass, field, fields, replace
    from typing import Any
else:
    from importlib import import_module
    from itertools import repeat

    _MISSING = object()
    _set = object.__setattr__

    class Field:
        """What is known about one field.

        Attributes:
            name: of the attribute.
            default: the value when none is given, or a mark that there is none.
            default_factory: makes the default anew for each object, or the same mark.
        """

        __slots__ = ("default", "default_factory", "name")

        def __init__(self, default: Any, default_factory: Any) -> None:
            self.name, self.default, self.default_factory = "", default, default_factory

        def value(self, owner: type) -> Any:
            """The default. Raises: TypeError, when there is none."""
            if self.default_factory is not _MISSING:
                return self.default_factory()
            if self.default is _MISSING:
                raise TypeError(f"{owner.__name__}() is missing the argument {self.name!r}")
            return self.default

    def field(*, default: Any = _MISSING, default_factory: Any = _MISSING) -> Field:
        """Says more about a field than its plain default can."""
        return Field(default, default_factory)

    def fields(of: Any) -> tuple[Field, ...]:
        """The fields of a class or object made here, in order."""
        return tuple(of.__value_fields__.values())

    def replace(of: Any, /, **changes: Any) -> Any:
        """A copy with some fields changed. Raises: TypeError, for an unknown name."""
        for name in of.__value_fields__:
            if name not in changes:
                changes[name] = getattr(of, name)
        return type(of)(**changes)

    def dataclass(cls: type | None = None, /, *, frozen: bool = False, slots: bool = False) -> Any:
        """Makes a class with annotations one with fields; see the module."""

        def decorate(plain: type) -> type:
            return _made(plain, frozen, slots)

        return decorate if cls is None else decorate(cls)

    def _made(plain: type, frozen: bool, slots: bool) -> type:
        namespace = {**(_FROZEN_METHODS if frozen else _METHODS), **plain.__dict__}
        own = {}
        for name, annotation in _annotations(plain).items():
            if _is_class_variable(annotation):
                continue
            given = namespace.get(name, _MISSING)
            entry = own[name] = given if type(given) is Field else Field(given, _MISSING)
            entry.name = name
            if given is not _MISSING and (slots or entry is given):
                del namespace[name]
                if not slots and entry.default is not _MISSING:
                    namespace[name] = entry.default
        if slots:
            namespace["__slots__"] = tuple(own)
            namespace.pop("__dict__", None)
            namespace.pop("__weakref__", None)
        known = {}
        for base in plain.__mro__[-2:0:-1]:
            known |= base.__dict__.get("__value_fields__", ())
        known |= own
        namespace["__value_fields__"] = known
        namespace["__value_defaults__"] = {
            n: entry.default for n, entry in known.items() if entry.default is not _MISSING
        }
        namespace["__match_args__"] = tuple(known)
        namespace["__dataclass_fields__"] = _STANDARD_FIELDS
        if namespace["__init__"] is _init and hasattr(plain, "__post_init__"):
            namespace["__init__"] = _init_and_check
        if plain.__repr__ is object.__repr__:
            namespace["__repr__"] = _repr
        if namespace["__eq__"] is _eq:
            # A class body with __eq__, or with ours alone, is given __hash__ = None by Python; frozen ones have ours.
            namespace["__hash__"] = _hash if frozen else None
        made = type(plain)(plain.__name__, plain.__bases__, namespace)
        made.__qualname__ = plain.__qualname__
        return made

    def _is_class_variable(annotation: Any) -> bool:
        if type(annotation) is str:  # of a module that evaluates none
            return annotation.startswith("ClassVar")
        typing = sys.modules.get("typing")
        return typing is not None and getattr(annotation, "__origin__", annotation) is typing.ClassVar

    def _annotations(cls: type) -> dict[str, Any]:
        """The class's own; unlike its attribute this does not fall over names that only type checkers see."""
        own = vars(cls).get("__annotations__")
        if own is not None:
            return own
        try:
            import annotationlib  # Python 3.14
        except ImportError:
            return {}
        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)

    def _standard() -> Any:
        """The standard library's, by name and not by an import, for which every image would carry it."""
        return import_module("dataclasses")

    class _StandardFields:
        """``__dataclass_fields__``, made by the standard library on the first use of it."""

        def __get__(self, instance: object, owner: Any) -> dict[str, Any]:
            dataclasses = _standard()
            rows = []
            for entry in owner.__value_fields__.values():
                if entry.default_factory is not _MISSING:
                    standard = dataclasses.field(default_factory=entry.default_factory)
                elif entry.default is not _MISSING:
                    standard = dataclasses.field(default=entry.default)
                else:
                    standard = dataclasses.field()
                rows.append((entry.name, object, standard))
            made = dataclasses.make_dataclass(owner.__name__, rows).__dataclass_fields__
            owner.__dataclass_fields__ = made
            return made

    _STANDARD_FIELDS = _StandardFields()

    def _init(self: Any, *args: Any, **given: Any) -> None:
        names = self.__match_args__
        if given or len(args) != len(names):
            args = _completed(type(self), args, given)
        any(map(_set, repeat(self), names, args))  # a loop without byte code: setting a field gives None

    def _init_and_check(self: Any, *args: Any, **given: Any) -> None:
        _init(self, *args, **given)
        self.__post_init__()

    def _completed(cls: Any, args: tuple[Any, ...], given: dict[str, Any]) -> list[Any]:
        """All values in order, with those given by name and the defaults."""
        names, defaults = cls.__match_args__, cls.__value_defaults__
        if len(args) > len(names):
            raise TypeError(f"{cls.__name__}() takes {len(names)} arguments, not {len(args)}")
        values = list(args)
        for name in names[len(args) :]:
            if name in given:
                values.append(given.pop(name))
            elif name in defaults:
                values.append(defaults[name])
            else:
                values.append(cls.__value_fields__[name].value(cls))
        for name in given:
            why = "twice the" if name in names else "an unexpected"
            raise TypeError(f"{cls.__name__}() got {why} argument {name!r}")
        return values

    def _values(self: Any) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.__match_args__])

    def _repr(self: Any) -> str:
        parts = [f"{name}={getattr(self, name)!r}" for name in self.__match_args__]
        return f"{type(self).__qualname__}({', '.join(parts)})"

    def _eq(self: Any, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _values(self) == _values(other)

    def _hash(self: Any) -> int:
        return hash(_values(self))

    def _reduce(self: Any) -> tuple[type, tuple[Any, ...]]:
        """Copies and pickles are made from the fields: frozen objects do not let themselves be filled later."""
        return type(self), _values(self)

    def _frozen(self: Any, name: str, *_value: Any) -> None:
        raise _standard().FrozenInstanceError(
            f"{type(self).__name__} is frozen: its {name!r} cannot change, use replace()"
        )

    _METHODS = {"__init__": _init, "__eq__": _eq, "__reduce__": _reduce, "__replace__": replace}
    _FROZEN_METHODS = _METHODS | {"__setattr__": _frozen, "__delattr__": _frozen}

__all__ = ["dataclass", "field", "fields", "replace"]
