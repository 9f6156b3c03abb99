"""The vCPU ioctls that get and set state; :class:`kvmharness.kvm.vcpu.Vcpu` adds running."""

from collections.abc import Iterable, Mapping
from errno import E2BIG
from typing import Any

from kvmharness.abi.binding import IOCTLS, ffi, ioctl, ioctl_error, ioctl_raw
from kvmharness.abi.constants import Cap, GuestDebug, MpState
from kvmharness.kvm.arguments import typed_errors
from kvmharness.kvm.lists import CpuidEntry, cpuid_entries, get_msrs, pack_cpuid, read_cpuid, set_msrs
from kvmharness.kvm.resources import Level
from kvmharness.kvm.state import DebugRegs, Fpu, Regs, Sregs, Sregs2, Translation, VcpuEvents

_GET_REGS, _SET_REGS = IOCTLS["KVM_GET_REGS"], IOCTLS["KVM_SET_REGS"]
_NESTED_FIRST_BYTES = 128 + 2 * 4096  # header and both VMCSs: the most that KVM has asked for so far


@typed_errors
class VcpuState(Level):
    """What is inside a vCPU. Each method is one ioctl, named in lower case.

    Raises:
        IoctlError: from every method, when the kernel refuses.
        ArgumentError: from every method with arguments, when it cannot be asked.
    """

    __slots__ = ()

    def get_regs(self) -> Regs:
        """General registers."""
        return Regs.from_struct(self.get_struct("KVM_GET_REGS"))

    def set_regs(self, regs: Regs) -> None:
        """Sets all general registers."""
        struct = ffi.new(_SET_REGS.pointer)
        regs.to_struct(struct)
        ioctl(self.handle, _SET_REGS, struct)

    def get_sregs(self) -> Sregs:
        """Segment, control and system registers."""
        return Sregs.from_struct(self.get_struct("KVM_GET_SREGS"))

    def set_sregs(self, sregs: Sregs) -> None:
        """Sets all of them; EINVAL when they contradict each other or the CPUID."""
        self._set("KVM_SET_SREGS", sregs)

    def get_sregs2(self) -> Sregs2:
        """As get_sregs(), with the PDPTRs. Needs KVM_CAP_SREGS2."""
        return Sregs2.from_struct(self.get_struct("KVM_GET_SREGS2"))

    def set_sregs2(self, sregs: Sregs2) -> None:
        """As set_sregs(), with the PDPTRs. Needs KVM_CAP_SREGS2."""
        self._set("KVM_SET_SREGS2", sregs)

    def get_fpu(self) -> Fpu:
        """x87 and SSE registers. KVM leaves MXCSR out, in both directions: see get_xsave()."""
        return Fpu.from_struct(self.get_struct("KVM_GET_FPU"))

    def set_fpu(self, fpu: Fpu) -> None:
        """Sets them."""
        self._set("KVM_SET_FPU", fpu)

    def get_xsave(self) -> bytes:
        """The XSAVE area, standard format, as long as this VM's KVM_CAP_XSAVE2 says (4096 bytes without it)."""
        area, struct = self._xsave_area()
        name = "KVM_GET_XSAVE2" if self._xsave_bytes() else "KVM_GET_XSAVE"
        ioctl(self.handle, IOCTLS[name], struct)
        return bytes(ffi.buffer(area))

    def set_xsave(self, data: bytes) -> None:
        """Sets it. Raises: ArgumentError when the length is not what get_xsave() gives."""
        area, struct = self._xsave_area()
        if len(data) != len(area):
            raise ValueError(f"XSAVE area of {len(data)} bytes: this VM's has {len(area)}")
        ffi.memmove(area, data, len(data))
        ioctl(self.handle, IOCTLS["KVM_SET_XSAVE"], struct)

    def get_xcrs(self) -> dict[int, int]:
        """Extended control registers by number: XCR0 is 0."""
        struct = self.get_struct("KVM_GET_XCRS")
        return {xcr.xcr: xcr.value for xcr in struct.xcrs[0 : struct.nr_xcrs]}

    def set_xcrs(self, values: Mapping[int, int]) -> None:
        """Sets them."""
        rows = [(number, 0, value) for number, value in values.items()]
        self.set_struct("KVM_SET_XCRS", ffi.new("struct kvm_xcrs *", {"nr_xcrs": len(rows), "xcrs": rows}))

    def get_msrs(self, indices: Iterable[int]) -> dict[int, int]:
        """MSR values by index. Raises: MsrError for the first that KVM refuses."""
        return get_msrs(self.handle, indices)

    def set_msrs(self, values: Mapping[int, int]) -> None:
        """Writes MSRs in the order given, as the host: read-only ones may be allowed. Raises: MsrError."""
        set_msrs(self.handle, values)

    def get_cpuid2(self) -> list[CpuidEntry]:
        """What CPUID answers in this vCPU."""
        return cpuid_entries(read_cpuid(self.handle, IOCTLS["KVM_GET_CPUID2"]))

    def set_cpuid2(self, entries: Any) -> None:
        """Sets what CPUID answers; before the first run.

        Args:
            entries: CpuidEntry objects, or a ready ``struct kvm_cpuid2 *``.
        """
        table = entries if isinstance(entries, ffi.CData) else pack_cpuid(entries)
        ioctl(self.handle, IOCTLS["KVM_SET_CPUID2"], table)

    def get_vcpu_events(self) -> VcpuEvents:
        """Pending and injected exceptions, interrupts, NMIs, SMIs."""
        return VcpuEvents.from_struct(self.get_struct("KVM_GET_VCPU_EVENTS"))

    def set_vcpu_events(self, events: VcpuEvents) -> None:
        """Sets them; `events.flags` says which of the optional fields count."""
        self._set("KVM_SET_VCPU_EVENTS", events)

    def get_debugregs(self) -> DebugRegs:
        """DR0 to DR3, DR6, DR7."""
        return DebugRegs.from_struct(self.get_struct("KVM_GET_DEBUGREGS"))

    def set_debugregs(self, registers: DebugRegs) -> None:
        """Sets them."""
        self._set("KVM_SET_DEBUGREGS", registers)

    def set_guest_debug(self, control: int | GuestDebug, debugreg: tuple[int, ...] = ()) -> None:
        """Breakpoints and single stepping by the host.

        Args:
            control: GuestDebug bits; 0 ends it.
            debugreg: DR0 to DR7 for USE_HW_BP.
        """
        struct = ffi.new("struct kvm_guest_debug *")
        struct.control = control
        struct.arch.debugreg[0 : len(debugreg)] = debugreg
        self.set_struct("KVM_SET_GUEST_DEBUG", struct)

    def get_mp_state(self) -> MpState:
        """Running, halted, or waiting for INIT or SIPI."""
        return MpState(self.get_struct("KVM_GET_MP_STATE").mp_state)

    def set_mp_state(self, state: MpState) -> None:
        """Sets it. Other states than RUNNABLE need interrupt controllers in the kernel."""
        self.set_struct("KVM_SET_MP_STATE", ffi.new("struct kvm_mp_state *", (state,)))

    def get_lapic(self) -> bytes:
        """The local APIC's registers, 1024 bytes. Needs interrupt controllers in the kernel."""
        return bytes(ffi.buffer(self.get_struct("KVM_GET_LAPIC")))

    def set_lapic(self, registers: bytes) -> None:
        """Sets them. Raises: ArgumentError when it is not 1024 bytes."""
        struct = ffi.new("struct kvm_lapic_state *")
        if len(registers) != ffi.sizeof(struct[0]):
            raise ValueError(f"local APIC of {len(registers)} bytes: it has {ffi.sizeof(struct[0])}")
        ffi.memmove(struct, registers, len(registers))
        self.set_struct("KVM_SET_LAPIC", struct)

    def interrupt(self, vector: int) -> None:
        """Queues an external interrupt (KVM_INTERRUPT); for VMs without interrupt controllers in the kernel."""
        self.set_struct("KVM_INTERRUPT", ffi.new("struct kvm_interrupt *", (vector,)))

    def nmi(self) -> None:
        """Queues an NMI."""
        ioctl(self.handle, IOCTLS["KVM_NMI"])

    def get_tsc_khz(self) -> int:
        """Frequency of this vCPU's TSC, in kHz."""
        return ioctl(self.handle, IOCTLS["KVM_GET_TSC_KHZ"])

    def set_tsc_khz(self, khz: int) -> None:
        """Sets it, in kHz; EINVAL when the processor cannot scale."""
        ioctl(self.handle, IOCTLS["KVM_SET_TSC_KHZ"], khz)

    def translate(self, gva: int) -> Translation:
        """Walks the vCPU's present page tables."""
        struct = ffi.new("struct kvm_translation *", {"linear_address": gva})
        ioctl(self.handle, IOCTLS["KVM_TRANSLATE"], struct)
        rights = bool(struct.writeable), bool(struct.usermode)
        return Translation(struct.physical_address, bool(struct.valid), *rights)

    def get_nested_state(self) -> bytes:
        """``struct kvm_nested_state`` with all its data. Needs KVM_CAP_NESTED_STATE."""
        op = IOCTLS["KVM_GET_NESTED_STATE"]
        size = _NESTED_FIRST_BYTES
        for _ in range(2):
            area = ffi.new("char[]", size)
            struct = ffi.cast(op.pointer, area)
            struct.size = size
            _, errno = ioctl_raw(self.handle, op, struct)
            if not errno:
                return bytes(ffi.buffer(area, struct.size))
            if errno != E2BIG:
                break
            size = struct.size  # the kernel has put the right one here
        raise ioctl_error(self.handle, op, errno, f"with {size} bytes")

    def set_nested_state(self, state: bytes) -> None:
        """Puts back what get_nested_state() gave. Raises: ArgumentError when it is shorter than its header."""
        op = IOCTLS["KVM_SET_NESTED_STATE"]
        if len(state) < ffi.sizeof(op.struct):
            raise ValueError(f"nested state of {len(state)} bytes: its header alone has {ffi.sizeof(op.struct)}")
        area = ffi.new("char[]", state)
        ioctl(self.handle, op, ffi.cast(op.pointer, area))

    def _set(self, name: str, values: Any) -> None:
        op = IOCTLS[name]
        struct = ffi.new(op.pointer)
        values.to_struct(struct)
        ioctl(self.handle, op, struct)

    def _xsave_bytes(self) -> int:
        assert self.handle.vm is not None, "a vCPU has a VM"
        return ioctl(self.handle.vm, IOCTLS["KVM_CHECK_EXTENSION"], Cap.XSAVE2)

    def _xsave_area(self) -> tuple[Any, Any]:
        """Bytes of the right length (the first keeps the second alive), and the same as a struct."""
        area = ffi.new("char[]", max(self._xsave_bytes(), ffi.sizeof("struct kvm_xsave")))
        return area, ffi.cast("struct kvm_xsave *", area)
