"""Makes the calls of one sequence on the objects of the package, in a process that may die of them. Runs inside an
emulated host only."""

import signal

from kvmharness.errors import KvmHarnessError
from kvmharness.kvm.system import Kvm
from kvmharness.lean.dataclasses import replace

_RUN_S = 0.02
_UNMAPPED, _KERNEL = 0x3000_0000_0000, 0xFFFF_8880_0000_0000


class Invoker:
    """The objects of a sequence, by their names."""

    def __init__(self):
        self.objects = {"k0": Kvm.open()}
        signal.signal(signal.SIGALRM, lambda *_: None)

    def do(self, call):
        """Does one call; see :meth:`tests.fuzz.perform.Performer.do`."""
        owner = self.objects.get(call["on"])
        if owner is None:
            return "no object"
        positional = [self.value(value, owner) for value in call["with"]]
        named = {name: self.value(value, owner) for name, value in call.get("named", {}).items()}
        if call["do"] == "run":
            signal.setitimer(signal.ITIMER_REAL, _RUN_S)
        try:
            made = getattr(owner, call["do"])(*positional, **named)
        except KvmHarnessError as error:
            return str(getattr(error, "errno", type(error).__name__))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if "makes" in call:
            self.objects[call["makes"]] = made
            if call["do"] == "add_memory" and made.size <= 0x10_0000:
                made.buffer[:] = b"\xf4" * made.size  # HLT: see tests.fuzz.perform
        return "ok"

    def value(self, value, owner):
        """What JSON stands for: bytes of a length, a mapping, an address, an object that a method of the owner gives
        with some of its fields changed."""
        if isinstance(value, list):
            return [self.value(each, owner) for each in value]
        if value in ("memory", "memory+0x1", "memory+0x1000", "memory+0xff000", "read-only", "unmapped", "kernel"):
            return self._address(value)
        if not isinstance(value, dict):
            return value
        if "bytes" in value:
            return b"\xf4" * value["bytes"]
        if "map" in value:
            return {self.value(key, owner): self.value(each, owner) for key, each in value["map"]}
        if not hasattr(owner, value["object"]):
            return object()
        try:
            made = getattr(owner, value["object"])()
        except KvmHarnessError:
            return None
        return self._changed(made, value, owner)

    def _changed(self, made, value, owner):
        """It with a few of its fields, and of those of its fields, set to a value."""
        new = self.value(value["to"], owner)
        for turn in range(value["changes"]):
            if isinstance(made, list):
                return [self._changed(each, value, owner) for each in made[:20]]
            names = made.__match_args__
            name = names[(value["pick"] + 7 * turn) % len(names)]
            inner = getattr(made, name)
            if hasattr(inner, "__match_args__") and value["pick"] & 1:
                inner_names = inner.__match_args__
                made = replace(made, **{name: replace(inner, **{inner_names[value["pick"] % len(inner_names)]: new})})
            else:
                made = replace(made, **{name: new})
        return made

    def _address(self, name):
        memory = next((each for key, each in self.objects.items() if key[0] == "m" and each.address), None)
        base = {"unmapped": _UNMAPPED, "kernel": _KERNEL}.get(name)
        if base is not None or memory is None:
            return base or _UNMAPPED
        _, _, more = name.partition("+")
        return memory.address + int(more or "0", 16)
