"""One type of error for arguments that a call cannot be made with, whoever notices it: cffi, Python, or a method."""

from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar

from kvmharness.abi.errors import ArgumentError
from kvmharness.errors import KvmHarnessError

_Class = TypeVar("_Class", bound=type)

# What cffi and Python say of a number that is too large for its field, and of a value of another kind.
_NOTICED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
# Where Python's signal handlers run, what they raise is theirs.
_LEFT = frozenset(("run", "close"))


def typed_errors(owner: _Class) -> _Class:
    """A class decorator: what its public methods are given and cannot use becomes an ArgumentError."""
    for name, member in list(vars(owner).items()):
        if isinstance(member, FunctionType) and not name.startswith("_") and name not in _LEFT:
            setattr(owner, name, _typed(member))
    return owner


def _typed(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **named: Any) -> Any:
        try:
            return method(*args, **named)
        except KvmHarnessError:
            raise
        except _NOTICED as error:
            raise ArgumentError(f"{method.__qualname__}: {error}") from error

    return call
