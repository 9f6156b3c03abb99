"""The results port: bytes out of the emulated host at about one emulated instruction each.

A serial line is paced by its baud rate and /dev/port costs a system call a byte. Port 0xE9 in Bochs
(``port_e9_hack``) and in QEMU (``isa-debugcon``) takes whatever is written, and ``rep outsb`` writes a whole buffer
with one instruction. Two small routines in an executable mapping do it: one asks the kernel for the port, the other
one writes. Only for the inside of an emulated host: on real hardware the port is somebody else's.
"""

import mmap
import os

import _cffi_backend

PORT = 0xE9

# long ioperm(unsigned long from, unsigned long num, int turn_on): the arguments are where the system call wants them.
IOPERM_CODE = bytes.fromhex(
    "b8ad000000"  # mov eax, 173    the number of ioperm
    "0f05"  # syscall
    "c3"  # ret
)
# void write(const char *data, unsigned long count)
WRITE_CODE = bytes.fromhex(
    "4889f1"  # mov rcx, rsi
    "4889fe"  # mov rsi, rdi
    "bae9000000"  # mov edx, 0xe9
    "f36e"  # rep outsb
    "c3"  # ret
)
# void out(unsigned char byte, unsigned short port)
OUT_CODE = bytes.fromhex(
    "89f8"  # mov eax, edi
    "89f2"  # mov edx, esi
    "ee"  # out dx, al
    "c3"  # ret
)
_WRITE_OFFSET, _OUT_OFFSET = 64, 128


class Port:
    """Port 0xE9, opened for this thread and those that it starts later.

    Raises:
        OSError: the kernel refuses the port (not root, or no CONFIG_X86_IOPL_IOPERM).
    """

    def __init__(self) -> None:
        ffi = _cffi_backend.FFI()
        self._ffi = ffi
        # The mapping must outlive the two function pointers into it.
        self._code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._code[: len(IOPERM_CODE)] = IOPERM_CODE
        self._code[_WRITE_OFFSET : _WRITE_OFFSET + len(WRITE_CODE)] = WRITE_CODE
        self._code[_OUT_OFFSET : _OUT_OFFSET + len(OUT_CODE)] = OUT_CODE
        base = int(ffi.cast("uintptr_t", ffi.from_buffer(self._code)))
        self._ioperm = ffi.cast("long (*)(unsigned long, unsigned long, int)", base)
        self._write = ffi.cast("void (*)(const char *, unsigned long)", base + _WRITE_OFFSET)
        self._out = ffi.cast("void (*)(unsigned char, unsigned short)", base + _OUT_OFFSET)
        self._open(PORT)

    def _open(self, number: int) -> None:
        error = -self._ioperm(number, 1, 1)
        if error:
            raise OSError(error, f"ioperm({number:#x}): {os.strerror(error)}")

    def write(self, data: bytes) -> None:
        """Write all of *data*."""
        self._write(self._ffi.from_buffer(data), len(data))

    def out(self, number: int, byte: int) -> None:
        """Write one byte to another port, for what the emulator does at that.

        Raises:
            OSError: the kernel refuses it.
        """
        self._open(number)
        self._out(byte, number)
