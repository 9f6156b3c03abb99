"""Where the kernel has put the sections of its modules, as a debugger wants to know it."""

import os
from collections.abc import Callable, Sequence

_ROOT = "/sys/module"
# What a debugger takes; what a module's beginning needed is gone by now.
_SECTIONS = (".text", ".data", ".bss", ".rodata", ".data..percpu", ".noinstr.text", ".text.unlikely")


def sections(emit: Callable[[dict[str, object]], None], *, modules: Sequence[str]) -> None:
    """Emits, for each of the modules that is loaded, ``{"module": name, "sections": {name: address}}``.

    Source: Documentation/ABI/testing/sysfs-module, /sys/module/MODULENAME/sections.
    """
    for module in modules:
        found = {}
        for name in _SECTIONS:
            path = f"{_ROOT}/{module}/sections/{name}"
            if os.path.exists(path):
                with open(path) as file:
                    found[name] = int(file.read(), 16)
        if found:
            emit({"module": module, "sections": found})
