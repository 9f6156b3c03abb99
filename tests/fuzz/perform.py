"""Makes the calls of one sequence, in a process that may die of them. Runs inside an emulated host only."""

import os
import signal
from _thread import allocate_lock, start_new_thread

from kvmharness.abi.binding import IOCTLS, VCPU, Fd, ffi, ioctl, ioctl_raw, lib, open_file
from kvmharness.errors import KvmHarnessError
from kvmharness.kvm.resources import Mapping
from tests.fuzz.structs import place, size_of

_PAGE = 0x1000
_MEMORY_BYTES, _ARENA_BYTES = 0x10_0000, 0x1_0000
_RW, _SHARED = lib.PROT_READ | lib.PROT_WRITE, 0x21  # MAP_SHARED | MAP_ANONYMOUS: a forked process writes there, too
_HLT = b"\xf4"
_RUN_S = 0.02  # of the host's own time, for a KVM_RUN that waits
_UNMAPPED, _KERNEL = 0x3000_0000_0000, 0xFFFF_8880_0000_0000
_LEVELS = {"k": 1, "v": 2, "c": 4}


class Performer:
    """The fds of a sequence, and the memory that its calls are about.

    A guest finds nothing but HLT, wherever it goes: what it does is not under test, and one that spins with its
    interrupts off could not be ended in every emulator. What the kernel is given lies before a page that cannot be
    had, so that it writes into nothing else where it writes too much.
    """

    def __init__(self):
        self.fds = {"gone": Fd(-1, 0)}
        for name in ("event", "other event"):
            self.fds[name] = Fd(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), 0)
        self.fds["null"] = Fd(os.open("/dev/null", os.O_RDWR), 0)
        self.runs = {}
        self.memory = _mapping(_MEMORY_BYTES, _HLT)
        self.scratch = _mapping(_ARENA_BYTES)
        self.read_only = _mapping(_PAGE)
        lib.mprotect(ffi.cast("void *", self.read_only.address), _PAGE, lib.PROT_READ)
        self.arena = _mapping(_ARENA_BYTES + _PAGE)
        lib.mprotect(ffi.cast("void *", self.arena.address + _ARENA_BYTES), _PAGE, 0)
        signal.signal(signal.SIGALRM, lambda *_: None)

    def do(self, call):
        """Does one call.

        Returns:
            ``ok``, or the name of the error.

        Raises:
            Whatever the binding raises that is none of its own errors.
        """
        by = {"thread": _in_thread, "process": _in_process}.get(call.get("by"), lambda function: function())
        try:
            made = by(lambda: getattr(self, f"_{call['do']}", self._ioctl)(call))
        except KvmHarnessError as error:
            return str(getattr(error, "errno", type(error).__name__))
        if "makes" in call and isinstance(made, int):
            self._keep(call["makes"], made)
        return "ok"

    def _fd(self, call):
        fd = self.fds.get(call["on"]) or Fd(-1, _LEVELS[call["on"][0]])
        return Fd(fd.number, call["as"]) if "as" in call else fd

    def _keep(self, name, number):
        self.fds[name] = Fd(number, _LEVELS[name[0]])
        if self.fds[name].level == VCPU:
            self.runs[name] = Mapping(3 * _PAGE, _RW, lib.MAP_SHARED, number, "kvm_run")

    def _open(self, call):
        number, errno = open_file("/dev/kvm", lib.O_RDWR)
        assert not errno, "the host has no /dev/kvm"
        return number

    def _close(self, call):
        fd = self.fds.get(call["on"])
        if fd and fd.number >= 0:
            lib.close(fd.number)
            fd.number = -1

    def _dup(self, call):
        fd = self._fd(call)
        return os.dup(fd.number) if fd.number >= 0 else None

    def _protect(self, call):
        """Takes the guest's memory away from under it, or gives it back."""
        lib.mprotect(ffi.cast("void *", self.memory.address), _MEMORY_BYTES, call["with"])

    def _poke(self, call):
        """Writes to what a vCPU shares, which the kernel reads when it is run."""
        if mapping := self.runs.get(call["on"]):
            for path, value in call["with"].items():
                self._put(mapping.view, "struct kvm_run", path, value)

    def _ioctl(self, call):
        op, fd = IOCTLS[call["do"]], self._fd(call)
        argument = call.get("with", 0)
        if op.struct and isinstance(argument, dict):
            argument = ffi.cast(op.pointer, self._filled(op, fd, argument))
        elif argument == "pointer":
            argument = ffi.new("int *")
        if op.name != "KVM_RUN":
            return ioctl(fd, op, argument)
        # Of a vCPU that is halted, or waits for another: a signal ends it, and ioctl() would go on.
        signal.setitimer(signal.ITIMER_REAL, _RUN_S)
        ret, errno = ioctl_raw(fd, op, argument)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if errno:
            raise KvmRunError(errno)
        return ret

    def _filled(self, op, fd, argument):
        """Where the struct lies."""
        end = self.arena.address + _ARENA_BYTES
        room = argument.get("room", 0)
        size = size_of(op.struct, room)
        if (at := argument.get("at")) is not None:
            here = {"half": end - size // 2, "odd": end - size - 1, "nothing": 0}
            return here[at] if at in here else self._value(at)
        base = argument.get("base", "zeros")
        data = bytearray(b"\xff" * size if base == "ones" else size)
        if base in IOCTLS:
            data = self._answer(IOCTLS[base], fd, room)[:size].ljust(size, b"\0")
        for path, value in argument.get("set", {}).items():
            self._put(data, op.struct, path, value)
        self.arena.view[_ARENA_BYTES - size : _ARENA_BYTES] = data
        return end - size

    def _answer(self, op, fd, room):
        """What the kernel says now, of what is to be set."""
        size = size_of(op.struct, room)
        area = bytearray(size)
        if op.name == "KVM_GET_SUPPORTED_CPUID":
            fd = next((each for name, each in self.fds.items() if name[0] == "k"), fd)
            self._put(area, op.struct, "nent", room)
        if op.name == "KVM_GET_NESTED_STATE":
            self._put(area, op.struct, "size", size)
        if op.levels & fd.level:
            buffer = ffi.from_buffer(area)
            ioctl_raw(fd, op, ffi.cast(op.pointer, buffer))
        return area

    def _put(self, data, struct, path, value):
        at, size = place(struct, path)
        if at + size <= len(data):
            value = self._value(value) & (1 << 8 * size) - 1
            data[at : at + size] = value.to_bytes(size, "little")

    def _value(self, value):
        """A number, or what one of another kind stands for here."""
        if isinstance(value, int):
            return value
        if value in self.fds:
            return self.fds[value].number
        name, _, more = value.partition("+")
        bases = {"memory": self.memory.address, "scratch": self.scratch.address, "read-only": self.read_only.address}
        return {**bases, "unmapped": _UNMAPPED, "kernel": _KERNEL}[name] + int(more or "0", 16)


class KvmRunError(KvmHarnessError):
    """KVM_RUN came back with an errno."""

    def __init__(self, errno):
        super().__init__(f"KVM_RUN: {errno}")
        self.errno = errno


def _mapping(size, filled=b""):
    mapping = Mapping(size, _RW, _SHARED, -1, "memory of a sequence")
    if filled:
        mapping.view[:] = filled * size
    return mapping


def _in_thread(function):
    """Another thread of the same process; what it raises is raised here."""
    done, outcome = allocate_lock(), []

    def body():
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))
        done.release()

    done.acquire()
    start_new_thread(body, ())
    done.acquire()
    made, error = outcome[0]
    if error is not None:
        raise error
    return made


def _in_process(function):
    """A forked process, which has the same fds, and other memory; an fd that it makes is gone with it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            function()
            said = ""
        except KvmHarnessError as error:
            said = str(getattr(error, "errno", type(error).__name__))
        except BaseException as error:
            said = f"!{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 4096).decode()
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    if said.startswith("!") or status:
        raise ForkedError(said or f"it ended by signal {status & 0x7F}")
    if said:
        raise KvmRunError(said)


class ForkedError(Exception):
    """A forked process died of a call, or had an error that is none of the binding's."""
