"""The table, and the checks before the kernel sees anything."""

import errno
import os

import pytest

from kvmharness.abi.binding import DEVICE, IOCTLS, SYSTEM, VCPU, VM, Fd, ffi, ioctl, ioctl_raw, lib, open_file
from kvmharness.abi.constants import Cap
from kvmharness.abi.errors import IoctlError, SystemCallError
from kvmharness.abi.ioctls import LEVEL_NAMES
from kvmharness.errors import KvmHarnessError
from kvmharness.kvm import Kvm, Vcpu, Vm
from kvmharness.kvm.resources import KernelDevice


# As strace prints them and as `printf("%#x")` of the header's macros gives them on x86-64.
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("KVM_GET_API_VERSION", 0xAE00),
        ("KVM_CREATE_VM", 0xAE01),
        ("KVM_RUN", 0xAE80),
        ("KVM_GET_REGS", 0x8090AE81),
        ("KVM_SET_SREGS", 0x4138AE84),
        ("KVM_SET_USER_MEMORY_REGION", 0x4020AE46),
        ("KVM_GET_MSRS", 0xC008AE88),
        ("KVM_GET_SUPPORTED_CPUID", 0xC008AE05),
        ("KVM_GET_NESTED_STATE", 0xC080AEBE),
        ("KVM_ENABLE_CAP", 0x4068AEA3),
    ],
)
def test_numbers(name, number):
    assert IOCTLS[name].number == number


def test_numbers_are_unique_within_a_level():
    for level in LEVEL_NAMES:
        numbers = [op.number for op in IOCTLS.values() if op.levels & level]
        assert len(numbers) == len(set(numbers))


def test_wrong_level_is_refused_before_the_kernel():
    with pytest.raises(TypeError, match="KVM_RUN is for a vCPU fd, not for a /dev/kvm fd"):
        ioctl(Fd(-1, SYSTEM), IOCTLS["KVM_RUN"])


def test_an_fd_of_no_level_takes_nothing():
    with pytest.raises(TypeError, match="foreign"):
        ioctl_raw(Fd(-1, 0), IOCTLS["KVM_CREATE_VM"])


@pytest.mark.parametrize("argument", [0, "regs", ffi.new("struct kvm_sregs *"), ffi.new("struct kvm_regs[1]")])
def test_wrong_struct_is_refused_before_the_kernel(argument):
    with pytest.raises(TypeError, match="KVM_GET_REGS takes a pointer to struct kvm_regs"):
        ioctl_raw(Fd(-1, VCPU), IOCTLS["KVM_GET_REGS"], argument)


def test_a_pointer_where_an_integer_belongs_is_refused():
    with pytest.raises(TypeError, match="takes an integer"):
        ioctl_raw(Fd(-1, VM), IOCTLS["KVM_CREATE_VCPU"], ffi.new("int *"))


def test_raw_call_answers_errno():
    assert ioctl_raw(Fd(-1, SYSTEM), IOCTLS["KVM_GET_API_VERSION"]) == (-1, errno.EBADF)


def test_checked_call_raises_with_name_errno_and_hint():
    with pytest.raises(IoctlError, match=r"KVM_GET_API_VERSION on /dev/kvm fd -1: EBADF \(9\)") as caught:
        ioctl(Fd(-1, SYSTEM), IOCTLS["KVM_GET_API_VERSION"])
    error = caught.value
    assert error.errno == errno.EBADF
    assert error.ioctl == "KVM_GET_API_VERSION"
    assert "closed" in error.hint
    assert isinstance(error, OSError)
    assert isinstance(error, KvmHarnessError)


def test_a_file_that_is_no_device_answers_enotty():
    number = os.open("/dev/null", os.O_RDONLY)
    try:
        with pytest.raises(IoctlError) as caught:
            ioctl(Fd(number, VM), IOCTLS["KVM_GET_STATS_FD"])
    finally:
        os.close(number)
    assert caught.value.errno == errno.ENOTTY
    assert "too old" in caught.value.hint
    assert "KVM_CAP_BINARY_STATS_FD" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("KVM_CREATE_VM", errno.EBUSY, "another hypervisor"),
        ("KVM_GET_REGS", errno.EIO, "another process"),
        ("KVM_RUN", errno.EAGAIN, "INIT and SIPI"),
        ("KVM_SET_USER_MEMORY_REGION", errno.EEXIST, "overlaps"),
    ],
)
def test_hints(name, code, words):
    assert words in IoctlError(name, code).hint


def test_open_file_answers_errno_and_sets_close_on_exec():
    assert open_file("/nonexistent/kvm", lib.O_RDWR) == (-1, errno.ENOENT)
    number, code = open_file("/dev/null", lib.O_RDONLY)
    assert code == 0
    assert not os.get_inheritable(number)
    os.close(number)


def test_system_call_error_names_the_call():
    assert str(SystemCallError("timer_create", errno.EINVAL)) == "timer_create: EINVAL (22): Invalid argument"


def test_constants_and_calls_of_the_c_library():
    assert lib.syscall(lib.SYS_getpid) == os.getpid()
    signals = ffi.new("sigset_t *")
    assert lib.sigemptyset(signals) == 0
    assert lib.sigaddset(signals, lib.SIGUSR1) == 0
    assert lib.sigismember(signals, lib.SIGUSR1) == 1
    assert lib.sigismember(signals, lib.SIGUSR2) == 0


def _methods(level):
    """The public names of the objects of a level of fd."""
    objects = {SYSTEM: Kvm, VM: Vm, VCPU: Vcpu, DEVICE: KernelDevice}
    return {name for name in dir(objects[level]) if not name.startswith("_")}


NAMED_OTHERWISE = {
    "KVM_RUN": "run",
    "KVM_GET_XSAVE2": "get_xsave",
    "KVM_GET_MSRS on /dev/kvm": "get_feature_msrs",
}
"""Ioctls whose method is not called as they are."""


def test_every_ioctl_has_its_method_on_each_of_its_levels():
    missing = []
    for op in IOCTLS.values():
        for level, where in LEVEL_NAMES.items():
            usual = NAMED_OTHERWISE.get(op.name, op.name.removeprefix("KVM_").lower())
            if op.levels & level and NAMED_OTHERWISE.get(f"{op.name} on {where}", usual) not in _methods(level):
                missing.append(f"{op.name} of a {where}")
    assert missing == []


def test_every_capability_of_the_table_is_one():
    names = {op.needs(level) for op in IOCTLS.values() for level in LEVEL_NAMES if op.levels & level} - {""}
    assert {name for name in names if name.removeprefix("KVM_CAP_") not in Cap.__members__} == set()
