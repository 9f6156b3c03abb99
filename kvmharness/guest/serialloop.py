"""Runs a vCPU whose guest prints on a serial port, a byte an exit: the bytes are gathered where the exits are.

The port is one that is always ready: what it is sent is taken, and its line status says so. Everything else about it,
and every other exit, is for Python to see.
"""

from typing import Any

from kvmharness.abi.binding import address_of, ffi
from kvmharness.abi.constants import Cap, IoDirection
from kvmharness.guest.loopcontext import SERIAL_READY, Context
from kvmharness.guest.runloop import RunLoop
from kvmharness.kvm.exits import Exit, IoExit
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.kvm.vm import Vm

COM1 = 0x3F8
"""The data register of the first serial port of a PC; its line status register is five further."""
_LINE_STATUS = COM1 + 5
_BUFFER_BYTES = 512  # what is not a line yet, and would be lost with the host
_LINE_END = 0x0A


class SerialLoop(RunLoop):
    """The run loop of one vCPU.

    Args:
        vcpu: its owner keeps it open.
        code: the assembled loop, see :func:`kvmharness.guest.shipped.serial_loop`; None for Python's.
        coalesced: the kernel keeps what is sent, see :meth:`kvmharness.kvm.vm.Vm.coalesce_port`; there is an exit only
            where it has no room for another byte.
    """

    def __init__(self, vcpu: Vcpu, code: bytes | None, *, coalesced: bool = False) -> None:
        super().__init__(vcpu, code)
        self._coalesced = coalesced
        self._buffer: Any = ffi.new("char[]", _BUFFER_BYTES)
        self._start = address_of(self._buffer)
        self._set(Context.SERIAL_NEXT, self._start)
        # A byte that makes an exit comes behind those that the kernel has kept by then, and before any later one.
        self._set(Context.SERIAL_END, self._start + (1 if coalesced else _BUFFER_BYTES))
        self._set(Context.SERIAL_DATA_OUT, _access(IoDirection.OUT, COM1))
        self._set(Context.SERIAL_STATUS_IN, _access(IoDirection.IN, _LINE_STATUS))

    def printed(self) -> bytes:
        """What the guest has printed since this was asked last; after an exit that is :func:`printing`, to be asked."""
        kept = self.vcpu.coalesced() if self._coalesced else b""
        used = self._get(Context.SERIAL_NEXT) - self._start
        self._set(Context.SERIAL_NEXT, self._start)
        return kept + bytes(ffi.buffer(self._buffer, used))

    def _leaves(self, run: Any) -> bool:
        """What ``serial_loop.asm`` does with an access to a port, one for one."""
        access = ffi.cast("uint64_t *", ffi.addressof(run, "io"))[0]
        data = ffi.cast("char *", run) + run.io.data_offset
        if access == self._get(Context.SERIAL_STATUS_IN):
            data[0] = bytes((SERIAL_READY,))
            return False
        if access != self._get(Context.SERIAL_DATA_OUT):
            return True
        following = self._get(Context.SERIAL_NEXT)
        self._buffer[following - self._start] = data[0]
        self._set(Context.SERIAL_NEXT, following + 1)
        return ord(data[0]) == _LINE_END or following + 1 == self._get(Context.SERIAL_END)


def printing(exit_: Exit) -> bool:
    """Whether the run came back because a line, or the buffer, is full."""
    return isinstance(exit_, IoExit) and (exit_.direction, exit_.size, exit_.port) == (IoDirection.OUT, 1, COM1)


def _access(direction: IoDirection, port: int) -> int:
    """The first word of ``kvm_run.io``, of an access to one byte."""
    return direction | 1 << 8 | port << 16 | 1 << 32


def coalesce(vm: Vm) -> bool:
    """Has the kernel keep what is sent to the port, where it can; whether it does."""
    if able := bool(vm.check_extension(Cap.COALESCED_PIO)):
        vm.coalesce_port(COM1)
    return able
