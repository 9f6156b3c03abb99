"""The device itself, lifetimes of what comes from it, and what is left behind: nothing."""

import errno
import gc
import os

import pytest

from kvmharness.abi.constants import Cap
from kvmharness.abi.errors import DeviceError, IoctlError
from kvmharness.errors import ExitCode
from kvmharness.kvm import Kvm, exits
from kvmharness.kvm.system import cannot_open
from tests.kvm import real_mode as guests
from tests.kvm.test_resources import assert_closed, mapped


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EACCES, "adduser"),
        (errno.ENOENT, "modprobe kvm_intel"),
        (errno.ENXIO, "driver"),
        (errno.EMFILE, "ulimit"),
    ],
)
def test_hints_for_the_device(code, words):
    error = cannot_open("/dev/kvm", code)
    assert words in error.hint
    assert error.errno == code
    assert error.exit_code == ExitCode.SKIPPED
    assert errno.errorcode[code] in str(error)


def test_no_device():
    with pytest.raises(DeviceError, match=r"cannot open /nonexistent/kvm: ENOENT \(2\)") as caught:
        Kvm.open("/nonexistent/kvm")
    assert caught.value.exit_code is ExitCode.SKIPPED
    assert "modprobe" in caught.value.hint


def test_another_device():
    with pytest.raises(DeviceError, match=r"/dev/null is not KVM: KVM_GET_API_VERSION .*ENOTTY"):
        Kvm.open("/dev/null")


@pytest.mark.skipif(os.geteuid() != 0, reason="as root, to make a file that nobody else may open")
def test_no_permission(tmp_path):
    device = tmp_path / "kvm"
    device.touch(mode=0)
    tmp_path.chmod(0o755)
    child = os.fork()  # root may open everything: a child gives its rights up
    if child == 0:
        try:
            for folder in reversed(tmp_path.parents):
                if folder.stat().st_mode & 0o001 == 0:
                    os._exit(77)  # nobody cannot even reach it
            os.setuid(65534)
            Kvm.open(str(device))
        except DeviceError as error:
            os._exit(0 if error.errno == errno.EACCES and "adduser" in error.hint else 2)
        except BaseException:
            os._exit(3)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (0, 77)


@pytest.mark.needs("kvm")
class TestDevice:
    def test_version_and_capabilities(self, kvm):
        assert kvm.get_api_version() == 12
        assert kvm.check_extension(Cap.USER_MEMORY) == 1
        assert kvm.check_extension(Cap.NR_MEMSLOTS) >= 32
        assert kvm.get_vcpu_mmap_size() % 4096 == 0

    def test_lists(self, kvm):
        assert 0x10 in kvm.get_msr_index_list()  # the TSC
        features = kvm.get_msr_feature_index_list()
        assert list(kvm.get_feature_msrs(features[:1])) == features[:1]

    def test_vm_capabilities_may_differ(self, kvm, vm):
        assert vm.check_extension(Cap.NR_VCPUS) > 0
        with pytest.raises(IoctlError):
            vm.enable_cap(0xFFFF)


@pytest.mark.needs("kvm")
class TestLifetimes:
    def test_closing_the_device_closes_everything(self):
        kvm = Kvm.open()
        vm = kvm.create_vm()
        memory = vm.add_memory(0, 0x4000)
        vcpu = vm.create_vcpu()
        numbers = [kvm.fd, vm.fd, vcpu.fd, vm.get_stats_fd(), vcpu.get_stats_fd()]
        addresses = [memory.hva, vcpu.kvm_run_address]
        kvm.close()
        kvm.close()
        vm.close()
        for number in numbers:
            assert_closed(number)
        assert not any(map(mapped, addresses))
        assert (vm.fd, vcpu.fd, vcpu.kvm_run) == (-1, -1, None)

    def test_a_forgotten_vm_warns_and_is_closed(self, kvm):
        vm = kvm.create_vm()
        number = vm.fd
        with pytest.warns(ResourceWarning, match=rf"VM \(fd {number}\) was never closed"):
            del vm
        assert_closed(number)

    def test_a_vcpu_may_be_closed_before_its_vm(self, vm):
        vcpu = vm.create_vcpu()
        vcpu.close()
        with pytest.raises(IoctlError) as caught:
            vcpu.get_regs()
        assert caught.value.errno == errno.EBADF
        assert "closed" in caught.value.hint

    def test_the_same_id_twice(self, vm):
        vm.create_vcpu(0)
        vm.create_vcpu(1)
        with pytest.raises(IoctlError) as caught:
            vm.create_vcpu(1)
        assert caught.value.errno == errno.EEXIST
        assert [vcpu.id for vcpu in vm.vcpus] == [0, 1]

    def test_slots_are_reused(self, vm):
        first = vm.add_memory(0, 0x1000)
        second = vm.add_memory(0x1000, 0x1000)
        assert (first.slot, second.slot) == (0, 1)
        vm.delete_memory(0)
        assert vm.add_memory(0x8000, 0x1000).slot == 0
        with pytest.raises(ValueError, match="memslot 1 is in use"):
            vm.add_memory(0x9000, 0x1000, slot=1)
        with pytest.raises(ValueError, match="memslot 7 is not one"):
            vm.delete_memory(7)

    def test_overlapping_memory_is_refused_and_not_kept(self, vm):
        vm.add_memory(0, 0x2000)
        with pytest.raises(IoctlError) as caught:
            vm.add_memory(0x1000, 0x1000)
        assert caught.value.errno == errno.EEXIST
        assert "overlaps" in caught.value.hint
        assert list(vm.memory) == [0]


ODD_BYTES = 0x5B7000  # a length that hardly anything else has


def left_behind():
    gc.collect()
    with open("/proc/self/maps") as maps:
        lines = maps.read().splitlines()
    return {
        "fds": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "shared pages": sum("kvm-vcpu" in line for line in lines),
        "guest memory": sum(_bytes(line) == ODD_BYTES for line in lines),
        "mappings": len(lines) // 8,  # the interpreter's own heap may take or give back a few
    }


def _bytes(line):
    start, end = (int(part, 16) for part in line.split()[0].split("-"))
    return end - start


@pytest.mark.slow
@pytest.mark.needs("kvm")
def test_a_thousand_vms_leave_nothing_behind(kvm):
    def one():
        with kvm.create_vm() as vm:
            vcpu = guests.load(vm, guests.HLT, memory_bytes=ODD_BYTES)
            vm.get_stats_fd()
            vcpu.get_stats_fd()
            assert vcpu.run() == exits.HltExit()

    for _ in range(20):
        one()
    before = left_behind()
    for _ in range(1000):
        one()
    assert left_behind() == before
    assert before["shared pages"] == 0
