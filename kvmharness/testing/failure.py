"""What a kernel developer wants to see of a failed test's guests, as sections of pytest's report.

The code around RIP is disassembled where the report is shown: capstone is no part of an emulated host. Until then it
travels as a line of its own.
"""

import re
import struct
from collections.abc import Callable, Iterator

import pytest

from kvmharness.abi.constants import Cap
from kvmharness.guest.image import Image, Line
from kvmharness.guest.layout import Doorbell, Port
from kvmharness.kvm import nested_state
from kvmharness.kvm.exits import Exit, HardwareUnknownExit, IoExit, decode
from kvmharness.kvm.vcpu import Vcpu
from kvmharness.kvm.vm import Vm
from kvmharness.system.shown import shown
from kvmharness.testing.fixtures.watched import Watched
from kvmharness.vendors.vmx.l1 import TABLE_END, Region
from kvmharness.x86.registers import Cr0, Cr4, Efer

_BEFORE, _AFTER = 4, 4  # lines of a listing around RIP
_CODE_BYTES = 24
_REACH = 0x40  # how far back a label may be for disassembly to start there
_DIFFERENCES = 24
_REGISTERS = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags"
_CODE_LINE = re.compile(
    r"^( *)code: (16|32|64) bit, from (0x[0-9a-f]+), RIP (0x[0-9a-f]+): ([0-9a-f ]+)$", re.MULTILINE
)


def add_sections(report: pytest.TestReport, watched: Watched, *, emulated: bool) -> None:
    """Adds a section for each VM that the test made, and one for what the kernel said.

    Args:
        report: of the phase that failed.
        watched: what the test made.
        emulated: this is the inside of an emulated host, so the code is left for the outside to disassemble.
    """
    for number, (vm, images) in enumerate(watched.vms):
        if lines := list(_vm(vm, images)):
            name = "KVM guest" if len(watched.vms) == 1 else f"KVM guest {number}"
            text = shown("\n".join([*lines, *_doorbells(watched)]))
            report.sections.append((name, text if emulated else render(text)))
    if gained := watched.kernel_log():
        report.sections.append(("Kernel log", shown("\n".join(gained))))


def render(text: str) -> str:
    """The same text with its code disassembled, where capstone is at hand."""
    return _CODE_LINE.sub(_disassembled, text)


def _vm(vm: Vm, images: tuple[Image, ...]) -> Iterator[str]:
    for vcpu in vm.vcpus:
        if vcpu.kvm_run is None:  # closed by the test itself
            continue
        yield f"vCPU {vcpu.id}: {_last_exit(vcpu)}"
        for part in (_registers, _control_registers):
            yield from _guarded(part, vcpu)
        yield from _guarded(lambda one: _code(vm, one, images), vcpu)
        yield from _guarded(lambda one: _nested(vm, one), vcpu)


def _guarded(part: Callable[[Vcpu], Iterator[str]], vcpu: Vcpu) -> Iterator[str]:
    """A part that cannot be had says so, and does not hide the rest: a report must never fail."""
    try:
        yield from part(vcpu)
    except Exception as error:
        yield f"  (not available: {error})"


def _last_exit(vcpu: Vcpu) -> str:
    found = decode(vcpu.kvm_run)
    if isinstance(found, HardwareUnknownExit) and not found.hardware_exit_reason:
        return "no exit so far"
    return f"last exit {found}"


def _registers(vcpu: Vcpu) -> Iterator[str]:
    regs = vcpu.get_regs()
    words = [f"{name:>7} {getattr(regs, name):016x}" for name in _REGISTERS.split()]
    yield from ("".join(words[i : i + 4]) for i in range(0, len(words), 4))


def _control_registers(vcpu: Vcpu) -> Iterator[str]:
    sregs = vcpu.get_sregs()
    yield f"    cr0 {_flags(sregs.cr0, Cr0)}"
    yield f"    cr2 {sregs.cr2:#x}   cr3 {sregs.cr3:#x}   cr8 {sregs.cr8:#x}"
    yield f"    cr4 {_flags(sregs.cr4, Cr4)}"
    yield f"   efer {_flags(sregs.efer, Efer)}"
    yield "     " + "  ".join(f"{name} {getattr(sregs, name).selector:#x}" for name in ("cs", "ss", "ds", "es", "tr"))


def _flags(value: int, kind: type[Cr0] | type[Cr4] | type[Efer]) -> str:
    names = [flag.name or "" for flag in kind if value & flag]
    return f"{value:#x} ({' '.join(names)})"


def _code(vm: Vm, vcpu: Vcpu, images: tuple[Image, ...]) -> Iterator[str]:
    regs, sregs = vcpu.get_regs(), vcpu.get_sregs()
    paging = bool(sregs.cr0 & Cr0.PG)
    rip = regs.rip if sregs.cs.l else sregs.cs.base + regs.rip
    translation = vcpu.translate(rip) if paging else None
    gpa = rip if translation is None else translation.physical_address
    if translation is not None and not translation.valid:
        yield f"  RIP {rip:#x} is not mapped"
        return
    image = next((one for one in images if one.origin <= gpa < one.origin + len(one.code)), None)
    start = gpa
    if image is not None:
        yield f"  RIP is {image.name}:{image.symbol_at(gpa)}"
        if image.lines:
            yield from _listing(image.lines, gpa)
            return
        start = max((at for at in image.symbols.values() if gpa - _REACH <= at <= gpa), default=gpa)
    bits = 64 if sregs.cs.l else 32 if sregs.cs.db else 16
    code = _read(vm, start, gpa - start + _CODE_BYTES)
    yield f"  code: {bits} bit, from {start:#x}, RIP {gpa:#x}: {code.hex(' ')}"


def _listing(lines: tuple[Line, ...], gpa: int) -> Iterator[str]:
    here = next((i for i, line in enumerate(lines) if line.address <= gpa < line.address + line.size_bytes), None)
    if here is None:
        return
    for line in lines[max(0, here - _BEFORE) : here + _AFTER + 1]:
        mark = "=>" if line is lines[here] else "  "
        yield f"  {mark} {line.address:#x}  {line.source.strip():<40}  {line.path}:{line.line}"


def _read(vm: Vm, gpa: int, length: int) -> bytes:
    for memory in vm.memory.values():
        if memory.gpa <= gpa < memory.gpa + memory.size:
            return memory.read(gpa, min(length, memory.gpa + memory.size - gpa))
    raise ValueError(f"gpa {gpa:#x} is in no memslot")


def _disassembled(match: re.Match[str]) -> str:
    indent, bits, start, rip, code = match.groups()
    try:
        import capstone
    except ImportError:
        return match[0]
    modes = {"16": capstone.CS_MODE_16, "32": capstone.CS_MODE_32, "64": capstone.CS_MODE_64}
    engine = capstone.Cs(capstone.CS_ARCH_X86, modes[bits])
    lines = []
    for address, size, mnemonic, operands in engine.disasm_lite(bytes.fromhex(code), int(start, 16)):
        mark = "=>" if address <= int(rip, 16) < address + size else "  "
        lines.append(f"{indent}{mark} {address:#x}  {mnemonic} {operands}".rstrip())
    return "\n".join(lines) or match[0]


def _nested(vm: Vm, vcpu: Vcpu) -> Iterator[str]:
    if not vcpu.kvm.check_extension(Cap.NESTED_STATE):
        return
    state = nested_state.decode(vcpu.get_nested_state())
    if state.vmxon_pa is None and not state.flags:
        return  # the guest is no hypervisor
    yield f"nested state: {state}"
    if state.vmcs12 is None:
        return
    found = nested_state.differences(_loaded_fields(vm), state.vmcs12)
    if found:
        yield "VMCS12 fields that differ from what L1 loaded:"
    for field, loaded, now in found[:_DIFFERENCES]:
        yield f"  {field.name:<32} {now:#x}, loaded as {loaded:#x}"
    if len(found) > _DIFFERENCES:
        yield f"  and {len(found) - _DIFFERENCES} more"


def _loaded_fields(vm: Vm) -> dict[int, int]:
    """The table that L1's program copies into its VMCS, from guest memory; empty for a test's own hypervisor."""
    fields: dict[int, int] = {}
    place = int(Region.VMCS_TABLE)
    for encoding, value in struct.iter_unpack("<QQ", _read(vm, place, 0x1000)):
        if encoding == TABLE_END:
            return fields
        fields[encoding] = value
    return {}


def _doorbells(watched: Watched) -> list[str]:
    return ["last exits to the test: " + ", ".join(map(_exit_name, watched.exits))] if watched.exits else []


def _exit_name(found: Exit) -> str:
    if isinstance(found, IoExit) and found.port == Port.DOORBELL:
        try:
            return f"doorbell {Doorbell(int.from_bytes(found.data[:4], 'little')).name}"
        except ValueError:
            return f"doorbell {found.data.hex()}"
    return str(found)
