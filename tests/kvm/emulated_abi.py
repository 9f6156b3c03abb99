"""What this KVM may not have, on the kernel of an emulated host: started by :mod:`tests.emulated.test_abi`."""

import pytest

from kvmharness.abi.features import TscAttribute
from tests.kvm import test_dirty_ring, test_extensions

pytestmark = pytest.mark.kvm_hosts("vmx:skylake")

logged = test_dirty_ring.logged
test_a_full_ring = test_dirty_ring.test_a_full_ring_stops_the_guest_until_it_is_collected
test_a_filtered_msr = test_extensions.test_a_filtered_msr_is_an_exit
test_a_machine_check = test_extensions.test_a_machine_check_is_injected
test_an_smi = test_extensions.test_an_smi_is_queued
test_hyper_v_s_cpuid = test_extensions.test_hyper_v_s_cpuid
test_hyper_v_s_events = test_extensions.test_hyper_v_s_events
test_what_is_not_there = test_extensions.test_what_a_kvm_has_not_is_one_error_that_names_it


def test_a_tsc_s_offset_stays(vm):
    offset = (1 << 40).to_bytes(8, "little")
    vcpu = vm.create_vcpu()
    vcpu.set_device_attr(TscAttribute.CTRL, TscAttribute.OFFSET, offset)
    assert vcpu.get_device_attr(TscAttribute.CTRL, TscAttribute.OFFSET) == offset
