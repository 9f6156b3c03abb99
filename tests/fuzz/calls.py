"""Sequences of calls on the fds of KVM, made from a seed: the same ones whatever the machine.

A call is plain JSON, and a list of them can be typed back to be done again:
    do: an ioctl by the kernel's name, or something else that happens to an fd (:data:`OTHERS`).
    on: the fd. The device is k, VMs are v and vCPUs are c with a number; where it is not there, the fd is -1.
    as: the level that the caller takes it for, where that is another one than its own.
    by: who calls, where that is not the thread that made the fd: another "thread", or another "process".
    makes: what the fd that comes of it is called.
    with: the argument, see :class:`tests.fuzz.perform.Arguments`.
"""

from itertools import count
from random import Random

from kvmharness.abi.binding import IOCTLS, SYSTEM, VCPU, VM
from tests.fuzz.structs import COUNTS, a_field, place
from tests.fuzz.values import BEYOND, WORDS, number

LENGTH = 24
"""Calls of a sequence, besides those that make its fds."""

OTHERS = ("open", "close", "dup", "protect", "poke")
_LEVELS = {SYSTEM: "k", VM: "v", VCPU: "c"}
_WRONG = ("null", "event", "gone")
_BAD = ("nothing", "unmapped", "kernel", "read-only", "half", "odd")
# The last ones of a struct that the kernel fills, or reads, beyond its declaration; entries where it ends in an array.
_ROOM = {"KVM_GET_SUPPORTED_CPUID": 256, "KVM_GET_CPUID2": 256, "KVM_GET_EMULATED_CPUID": 256, "KVM_SET_CPUID2": 256}
_ROOM |= {"KVM_GET_MSR_INDEX_LIST": 512, "KVM_GET_MSR_FEATURE_INDEX_LIST": 512, "KVM_SET_SIGNAL_MASK": 8}
_ROOM |= {"KVM_GET_NESTED_STATE": 0x2000, "KVM_SET_NESTED_STATE": 0x2000}
_ROOM |= {"KVM_GET_MSRS": 4, "KVM_SET_MSRS": 4, "KVM_SET_GSI_ROUTING": 4, "KVM_SET_PMU_EVENT_FILTER": 4}
# What has most to do with the other calls.
_OFTEN = ("KVM_SET_USER_MEMORY_REGION", "KVM_SET_USER_MEMORY_REGION", "KVM_SET_SREGS", "KVM_SET_MSRS")
_OFTEN += ("KVM_SET_NESTED_STATE", "KVM_SET_VCPU_EVENTS", "KVM_GET_DIRTY_LOG", "KVM_ENABLE_CAP")
# Where zeros are refused at once: what is not.
_GOOD = {
    "KVM_SET_USER_MEMORY_REGION": {"memory_size": 0x10_0000, "userspace_addr": "memory"},
    "KVM_GET_DIRTY_LOG": {"dirty_bitmap": "scratch"},
    "KVM_CLEAR_DIRTY_LOG": {"dirty_bitmap": "scratch", "num_pages": 256},
    "KVM_IRQFD": {"fd": "event", "gsi": 1},
    "KVM_IOEVENTFD": {"fd": "event", "addr": 0x8000, "len": 4},
    "KVM_REGISTER_COALESCED_MMIO": {"addr": 0x9000, "size": 4},
    "KVM_GET_NESTED_STATE": {"size": 0x2080},
    "KVM_X86_SET_MSR_FILTER": {"ranges.0.nmsrs": 64, "ranges.0.flags": 3, "ranges.0.bitmap": "scratch"},
    "KVM_SET_MSRS": {"entries.0.index": 0x10, "entries.1.index": 0x277},
    "KVM_GET_MSRS": {"entries.0.index": 0x10, "entries.1.index": 0x480},
    "KVM_GET_DEVICE_ATTR": {"addr": "scratch"},
}
# Who answers what a call may set: its own read, or, for CPUID, what is supported.
_READ = {"KVM_SET_CPUID2": "KVM_GET_SUPPORTED_CPUID"}


def sequences(seed, length=LENGTH):
    """One after the other, without end. Every ioctl has its turn before any has it again."""
    turns = _turns(Random(f"{seed}"))
    for position in count():
        yield _Maker(Random(f"{seed}/{position}"), turns).sequence(length)


def _turns(random):
    while True:
        yield from random.sample(list(IOCTLS), len(IOCTLS))


class _Maker:
    """Makes one sequence, with an eye on the fds that are there."""

    def __init__(self, random, turns):
        self.random, self.turns = random, turns
        self.fds = {SYSTEM: [], VM: [], VCPU: []}
        self.calls = []

    def sequence(self, length):
        self._add({"do": "open", "makes": self._made(SYSTEM)})
        self._machine()
        while length:
            self._add(self._call())
            length -= 1
        return self.calls

    def _add(self, call):
        self.calls.append(call)

    def _made(self, level):
        name = f"{_LEVELS[level]}{len(self.fds[level])}"
        self.fds[level].append(name)
        return name

    def _machine(self):
        """A VM with memory and a vCPU that has a CPUID, as nearly everything needs it; in each of the three ways that
        interrupt controllers can be had."""
        vm = self._made(VM)
        self._add({"do": "KVM_CREATE_VM", "on": "k0", "makes": vm})
        chips = self.random.choice(("none", "all", "split"))
        if chips == "all":
            self._add({"do": "KVM_CREATE_IRQCHIP", "on": vm})
        if chips == "split":
            self._add({"do": "KVM_ENABLE_CAP", "on": vm, "with": {"set": {"cap": 121, "args.0": 24}}})
        self._add({"do": "KVM_SET_TSS_ADDR", "on": vm, "with": 0xFFFB_D000})
        flags = self.random.choice((0, 0, 1, 2))
        region = {**_GOOD["KVM_SET_USER_MEMORY_REGION"], "flags": flags}
        self._add({"do": "KVM_SET_USER_MEMORY_REGION", "on": vm, "with": {"set": region}})
        self._add({"do": "KVM_CREATE_VCPU", "on": vm, "makes": self._made(VCPU), "with": 0})
        if self.random.randrange(8):
            self._add({"do": "KVM_SET_CPUID2", "on": "c0", "with": {"base": "KVM_GET_SUPPORTED_CPUID", "room": 256}})
        if self.random.randrange(4):  # the guest begins in its memory, and can be interrupted
            cs = {"cs.base": 0, "cs.selector": 0}
            self._add({"do": "KVM_SET_SREGS", "on": "c0", "with": {"base": "KVM_GET_SREGS", "set": cs}})
            self._add({"do": "KVM_SET_REGS", "on": "c0", "with": {"set": {"rip": 0x1000, "rflags": 0x202}}})

    def _call(self):
        chance = self.random.randrange(10)
        if chance == 0:
            return self._other()
        if chance == 1:
            return {"do": "KVM_RUN", "on": self._one_of(VCPU)}
        if chance == 2:
            return self._ioctl(self.random.choice(_OFTEN))
        return self._ioctl(next(self.turns))

    def _other(self):
        do = self.random.choice(OTHERS)
        if do == "open":
            return {"do": do, "makes": self._made(SYSTEM)}
        if do == "protect":
            return {"do": do, "with": self.random.choice((0, 1, 3, 3))}
        if do == "poke":
            field = a_field(self.random, "struct kvm_run", 0)
            return {"do": do, "on": self._one_of(VCPU), "with": {field: self._number("struct kvm_run", field)}}
        level = self.random.choice(tuple(self.fds))
        call = {"do": do, "on": self._one_of(level)}
        return call | {"makes": self._made(level)} if do == "dup" else call

    def _one_of(self, level):
        return self.random.choice(self.fds[level])

    def _ioctl(self, name):
        op = IOCTLS[name]
        level = self.random.choice([level for level in self.fds if op.levels & level])
        call = {"do": name, "on": self._one_of(level)}
        chance = self.random.randrange(40)
        if chance == 0:
            call |= {"on": self.random.choice(_WRONG), "as": level}
        elif chance == 1:  # the kernel sees an fd of another kind
            call |= {"on": self._one_of(self.random.choice(tuple(self.fds))), "as": level}
        elif chance == 2:  # the binding sees that it is one
            call |= {"as": self.random.choice((0, *self.fds))}
        elif chance < 5:
            call |= {"by": "thread"}
        elif chance < 7:
            call |= {"by": "process"}
        if name in ("KVM_CREATE_VM", "KVM_CREATE_VCPU"):
            call["makes"] = self._made(VM if name == "KVM_CREATE_VM" else VCPU)
        return call | {"with": self._struct(op) if op.struct else self._integer(name)}

    def _integer(self, name):
        if not self.random.randrange(16):
            return self.random.choice((*BEYOND, "text", None, 1.5, "pointer"))
        if name == "KVM_CREATE_VM" and self.random.randrange(4):
            return 0
        if name == "KVM_CREATE_VCPU" and self.random.randrange(2):
            return self.random.randrange(1, 8)
        return self.random.choice(WORDS) if self.random.randrange(2) else number(self.random, "base")

    def _number(self, struct, path):
        _, size = place(struct, path)
        return number(self.random, path or "base", 8 * size)

    def _struct(self, op):
        """How to fill a struct, or a pointer to nothing that can be had."""
        random = self.random
        if not random.randrange(24):
            return {"at": random.choice(_BAD)}
        if not random.randrange(40):
            return random.choice(("text", None, 0, -1, "pointer"))
        made = {"room": _ROOM.get(op.name, 4 if op.struct in COUNTS else 0), "set": dict(_GOOD.get(op.name, {}))}
        if not random.randrange(8):
            made["room"] = random.choice((0, 1, made["room"] + 1))
        read = _READ.get(op.name, op.name.replace("_SET_", "_GET_"))
        if read != op.name and read in IOCTLS and random.randrange(4):
            made["base"] = read
        elif not random.randrange(12):
            made["base"] = "ones"
        if op.struct in COUNTS:
            made["set"][COUNTS[op.struct]] = made["room"]
        for _ in range(random.choice((0, 1, 1, 2, 3, 6))):
            path = a_field(random, op.struct, made["room"])
            made["set"][path] = self._number(op.struct, path)
        return made
