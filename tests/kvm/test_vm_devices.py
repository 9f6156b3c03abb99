"""Interrupts, timers, event fds and devices of a VM, on the local device."""

import errno
import os

import pytest

from kvmharness.abi.constants import Cap, Irqchip
from kvmharness.abi.errors import IoctlError
from kvmharness.abi.interrupts import (
    DeviceType,
    IoeventfdFlag,
    IrqfdFlag,
    PitFlag,
    Routing,
    VfioFile,
    VfioGroup,
)
from kvmharness.kvm import exits
from tests.kvm import real_mode as guests
from tests.kvm.capabilities import require

pytestmark = pytest.mark.needs("kvm")

LAPIC = 0xFEE0_0000
LINE = 5
VECTOR = 0x45


@pytest.fixture
def chips(vm):
    """The VM with interrupt controllers."""
    vm.create_irqchip()
    return vm


@pytest.fixture
def event():
    number = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield number
    os.close(number)


def _requests(vm):
    """Lines that the first 8259A has seen go up."""
    return vm.get_irqchip(Irqchip.PIC_MASTER).chip.pic.irr


def _pending(vcpu, vector):
    """Whether the local APIC's IRR, which begins at 0x200, has a vector: 32 of them every 16 bytes."""
    word = vcpu.get_lapic()[0x200 + vector // 32 * 16 :][:4]
    return bool(int.from_bytes(word, "little") >> vector % 32 & 1)


def _accepting(vm):
    """A vCPU whose local APIC is enabled: bit 8 of the spurious-vector register at 0xf0."""
    vcpu = vm.create_vcpu()
    registers = bytearray(vcpu.get_lapic())
    registers[0xF0:0xF2] = (0x1FF).to_bytes(2, "little")
    vcpu.set_lapic(bytes(registers))
    return vcpu


def test_an_irqchip_s_state_comes_back(chips):
    chip = chips.get_irqchip(Irqchip.PIC_MASTER)
    chip.chip.pic.imr = 0x5A
    chips.set_irqchip(chip)
    assert chips.get_irqchip(Irqchip.PIC_MASTER).chip.pic.imr == 0x5A
    assert chips.get_irqchip(Irqchip.IOAPIC).chip.ioapic.base_address == 0xFEC0_0000


def test_a_line_s_status(chips):
    require(chips, Cap.IRQ_INJECT_STATUS)
    assert chips.irq_line_status(LINE, 1) > 0
    assert _requests(chips) & 1 << LINE
    chips.irq_line_status(LINE, 0)
    assert not chips.get_irqchip(Irqchip.PIC_MASTER).chip.pic.last_irr & 1 << LINE  # the line itself


@pytest.mark.parametrize("kind", [1, 2])
def test_a_pit_s_channels_come_back(chips, kind):
    require(chips, Cap.PIT if kind == 1 else Cap.PIT_STATE2)
    create, get, put = (
        (chips.create_pit, chips.get_pit, chips.set_pit)
        if kind == 1
        else (chips.create_pit2, chips.get_pit2, chips.set_pit2)
    )
    create()
    state = get()
    assert state.channels[0].count == 0x10000  # as after reset: the longest period
    state.channels[2].count = 0x1234
    if kind == 2:
        state.flags |= PitFlag.HPET_LEGACY
    put(state)
    assert get().channels[2].count == 0x1234
    assert kind == 1 or chips.get_pit2().flags & PitFlag.HPET_LEGACY


def test_no_pit_without_interrupt_controllers(vm):
    require(vm, Cap.PIT)
    with pytest.raises(IoctlError, match="KVM_CREATE_PIT"):
        vm.create_pit()


def test_a_message_reaches_the_local_apic(chips):
    require(chips, Cap.SIGNAL_MSI)
    vcpu = _accepting(chips)
    assert not _pending(vcpu, VECTOR)
    assert chips.signal_msi(LAPIC, VECTOR)
    assert _pending(vcpu, VECTOR)
    assert not chips.signal_msi(LAPIC | 7 << 12, VECTOR)  # there is no APIC 7


def test_an_eventfd_is_routed_as_the_table_says(chips, event):
    require(chips, Cap.IRQFD, Cap.IRQ_ROUTING)
    vcpu = _accepting(chips)
    chips.set_gsi_routing(
        [{"gsi": 24, "type": Routing.MSI, "u": {"msi": {"address_lo": LAPIC, "address_hi": 0, "data": VECTOR}}}]
    )
    chips.irqfd(event, 24)
    os.eventfd_write(event, 1)
    assert _pending(vcpu, VECTOR)
    chips.irqfd(event, 24, IrqfdFlag.DEASSIGN)
    os.eventfd_write(event, 1)
    assert os.eventfd_read(event) == 1  # nobody took it


def test_a_port_writes_to_an_eventfd(vm, event):
    require(vm, Cap.IOEVENTFD)
    vm.ioeventfd(event, 0x3F8, 1, IoeventfdFlag.PIO | IoeventfdFlag.DATAMATCH, ord("A"))
    vcpu = guests.load(vm, guests.OUT_AL_HLT)
    vcpu.set_regs(vcpu.get_regs().replace(rax=ord("A")))
    assert vcpu.run() == exits.HltExit()
    assert os.eventfd_read(event) == 1
    vm.ioeventfd(event, 0x3F8, 1, IoeventfdFlag.PIO | IoeventfdFlag.DATAMATCH | IoeventfdFlag.DEASSIGN, ord("A"))
    guests.point(vcpu)
    assert isinstance(vcpu.run(), exits.IoExit)


def test_coalesced_mmio_begins_and_ends(vm):
    require(vm, Cap.COALESCED_MMIO)
    vm.register_coalesced_mmio(0x8_0000, 0x1000)
    vcpu = guests.load(vm, guests.WRITE_FAR_WORD)
    assert vcpu.run() == exits.HltExit()
    vm.unregister_coalesced_mmio(0x8_0000, 0x1000)
    guests.point(vcpu)
    assert vcpu.run() == exits.MmioExit(0x8_0004, b"\xcd\xab", True)


def test_the_boot_processor_is_chosen_before_the_first_vcpu(chips):
    require(chips, Cap.SET_BOOT_CPU_ID)
    chips.set_boot_cpu_id(1)
    assert chips.create_vcpu(1).get_msrs([0x1B])[0x1B] & 1 << 8  # IA32_APIC_BASE.BSP
    assert not chips.create_vcpu(0).get_msrs([0x1B])[0x1B] & 1 << 8
    with pytest.raises(IoctlError) as caught:
        chips.set_boot_cpu_id(0)
    assert caught.value.errno == errno.EBUSY


def test_a_device_has_attributes(vm):
    require(vm, Cap.DEVICE_CTRL)
    if not vm.has_device(DeviceType.VFIO):
        pytest.skip("this KVM has no VFIO device: it comes with CONFIG_KVM_VFIO")
    with vm.create_device(DeviceType.VFIO) as device:
        assert device.has_device_attr(VfioGroup.FILE, VfioFile.ADD)
        assert not device.has_device_attr(VfioGroup.FILE, 99)
        with open(os.devnull) as other, pytest.raises(IoctlError, match="KVM_SET_DEVICE_ATTR on device fd"):
            device.set_device_attr(VfioGroup.FILE, VfioFile.ADD, other.fileno().to_bytes(4, "little"))


def test_a_device_that_there_is_not(vm):
    require(vm, Cap.DEVICE_CTRL)
    assert not vm.has_device(9999)
    with pytest.raises(IoctlError, match="KVM_CREATE_DEVICE") as caught:
        vm.create_device(9999)
    assert "no such device" in caught.value.hint
