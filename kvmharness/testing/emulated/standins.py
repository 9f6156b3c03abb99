"""Stand-ins for modules that pytest imports at its start and does not use inside an emulated host.

They are a third of what its start costs there, seconds in all. A stand-in has the names that are imported from it, and
makes way for the real module as soon as anything else is asked of it.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

_STAND_INS: dict[str, dict[str, Any]] = {
    # Entry points are not looked for: the plugins are given by name.
    "importlib.metadata": {"Distribution": object, "distributions": lambda: ()},
    # Nothing is coloured.
    "pygments": {},
    "pygments.formatters.terminal": {"TerminalFormatter": object},
    "pygments.lexer": {"Lexer": object},
    "pygments.lexers.diff": {"DiffLexer": object},
    "pygments.lexers.python": {"PythonLexer": object},
}


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system looks for
            raise AttributeError(name)
        for other in [one for one in _STAND_INS if isinstance(sys.modules.get(one), _StandIn)]:
            if other.partition(".")[0] == self.__name__.partition(".")[0]:
                del sys.modules[other]
        return getattr(import_module(self.__name__), name)


def run(emit: Callable[[dict[str, Any]], None], **arguments: Any) -> None:
    """Runs tests, see :func:`kvmharness.testing.emulated.inside.run`: what a job calls."""
    install()
    from kvmharness.testing.emulated import inside

    inside.run(emit, **arguments)


def install() -> None:
    """Puts the stand-ins in the place of modules that are not loaded yet."""
    for name, known in _STAND_INS.items():
        if name not in sys.modules:
            sys.modules[name] = module = _StandIn(name)
            vars(module).update(known)
            package, _, own_name = name.rpartition(".")
            if package in sys.modules:  # what the import system does when it has loaded a module
                setattr(sys.modules[package], own_name, module)
