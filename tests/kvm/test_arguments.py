"""What a call cannot be made with: one type of error, whoever notices it, and the kernel is not asked."""

import pytest

from kvmharness.abi.binding import IOCTLS, VM, ArgumentError, Fd, ioctl, open_file
from kvmharness.kvm.arguments import typed_errors
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.state import DebugRegs, Regs

U32, U64 = 1 << 32, 1 << 64


@pytest.mark.parametrize("number", [-1, U64, 10**30, 1.5, None, "0"])
def test_an_integer_that_ioctl_has_no_room_for(number):
    with pytest.raises(ArgumentError, match="KVM_CREATE_VCPU takes an integer of 64 bits without a sign, not "):
        ioctl(Fd(-1, VM), IOCTLS["KVM_CREATE_VCPU"], number)


@pytest.mark.parametrize("path", ["/dev/kvm\0", None, 5, "\ud800"])
def test_what_is_no_files_name(path):
    with pytest.raises(ArgumentError, match="is no file's name"):
        open_file(path, 0)


@pytest.mark.parametrize(
    "call",
    [
        lambda vm, vcpu: vm.check_extension("text"),
        lambda vm, vcpu: vm.enable_cap(-1),
        lambda vm, vcpu: vm.enable_cap(1, 1, 2, 3, 4, 5),
        lambda vm, vcpu: vm.enable_cap(1, U64),
        lambda vm, vcpu: vm.set_user_memory_region(U32, 0, 0x1000, 0),
        lambda vm, vcpu: vm.set_user_memory_region(0, 0, -1, 0),
        lambda vm, vcpu: vm.add_memory("text", 0x1000),
        lambda vm, vcpu: vm.add_memory(0, U64),
        lambda vm, vcpu: vm.add_memory(0, 0x1001),
        lambda vm, vcpu: vm.clear_dirty_log(0, 0, 8, None),
        lambda vm, vcpu: vm.set_clock("now"),
        lambda vm, vcpu: vcpu.set_regs(Regs(rax=-1)),
        lambda vm, vcpu: vcpu.set_regs(None),
        lambda vm, vcpu: vcpu.set_debugregs(DebugRegs(db=(0, 0, 0, U64))),
        lambda vm, vcpu: vcpu.set_debugregs(DebugRegs(db=(0,) * 5)),
        lambda vm, vcpu: vcpu.set_guest_debug(0, (0,) * 9),
        lambda vm, vcpu: vcpu.set_xcrs(dict.fromkeys(range(17), 0)),
        lambda vm, vcpu: vcpu.get_msrs([U32]),
        lambda vm, vcpu: vcpu.get_msrs(None),
        lambda vm, vcpu: vcpu.set_msrs({0x10: U64}),
        lambda vm, vcpu: vcpu.set_cpuid2([None]),
        lambda vm, vcpu: vcpu.get_struct("KVM_NONSENSE"),
        lambda vm, vcpu: vcpu.set_nested_state(5),
        lambda vm, vcpu: vcpu.interrupt(U32),
    ],
)
@pytest.mark.needs("kvm")
def test_a_value_that_does_not_fit(vm, call):
    with pytest.raises(ArgumentError) as caught:
        call(vm, vm.create_vcpu())
    assert caught.value.hint


@pytest.mark.needs("kvm")
@pytest.mark.parametrize("method", ["coalesced", "set_io_data", "set_mmio_data"])
def test_the_shared_page_of_a_closed_vcpu_is_not_touched(vm, method):
    vcpu = vm.create_vcpu()
    vcpu.close()
    with pytest.raises(ArgumentError, match="vCPU 0 is closed"):
        getattr(vcpu, method)(*([b""] if "set" in method else []))


def test_memory():
    with Memory(0x1000, 0x1000, 0) as memory:
        for gpa, data in ((0xFFF, b"1"), (0x1FFF, b"12"), (1.5, b"1"), (0x1000, None)):
            with pytest.raises(ArgumentError):
                memory.write(gpa, data)
        with pytest.raises(ArgumentError):
            memory.write_u64(0x1000, U64)
    with pytest.raises(ArgumentError, match="closed"):
        memory.read(0x1000, 1)


def test_what_the_error_comes_from_is_kept():
    @typed_errors
    class Owner:
        def divides(self, number):
            return 1 // number

        def run(self):
            raise ValueError("of a signal handler")

    with pytest.raises(ArgumentError, match=r"Owner\.divides: ") as caught:
        Owner().divides(0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(ValueError, match="of a signal handler") as caught:
        Owner().run()
    assert not isinstance(caught.value, ArgumentError)
