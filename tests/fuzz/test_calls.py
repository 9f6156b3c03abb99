"""The sequences of a seed: repeatable, with every ioctl and every method in them, and with values that hurt."""

import json
from inspect import isfunction
from itertools import islice

import pytest

from kvmharness.abi.binding import IOCTLS, SYSTEM, VCPU, VM, ffi
from kvmharness.kvm import Kvm, Memory, Vcpu, Vm
from tests.fuzz import calls, methods
from tests.fuzz.structs import place, size_of
from tests.fuzz.values import GPAS

LEVELS = {"k": SYSTEM, "v": VM, "c": VCPU}
CLASSES = {"k": Kvm, "v": Vm, "c": Vcpu, "m": Memory}


def made(module=calls, seed=1, number=60):
    return list(islice(module.sequences(seed), number))


def every(**more):
    return [call for sequence in made(**more) for call in sequence]


@pytest.mark.parametrize("module", [calls, methods])
def test_a_seed_gives_the_same_again_and_another_one_others(module):
    once, again, other = made(module), made(module), made(module, seed=2)
    assert once == again == json.loads(json.dumps(once))
    assert all(mine != its for mine, its in zip(once, other, strict=True))


def test_a_few_sequences_have_every_row_of_the_table_in_them():
    assert {call["do"] for call in every(number=8)} >= IOCTLS.keys()
    assert {call["do"] for call in every()} == IOCTLS.keys() | set(calls.OTHERS)


def test_every_fd_is_of_the_level_that_the_call_is_for_unless_the_call_says_so():
    for sequence in made():
        names = {"null", "event", "gone"}
        for call in sequence:
            assert call.get("on", "gone") in names
            if call["do"] in IOCTLS and "as" not in call:
                assert IOCTLS[call["do"]].levels & LEVELS[call["on"][0]]
            names |= {call.get("makes", "gone")}


def test_every_way_to_be_wrong_is_tried():
    found = every(number=300)
    arguments = [call["with"] for call in found if call["do"] in IOCTLS and "with" in call]
    assert {each["at"] for each in arguments if isinstance(each, dict) and "at" in each} == set(calls._BAD)
    assert {-1, 1 << 64, (1 << 64) - 1, 0x7FFF_FFFF, 0, 1} <= {each for each in arguments if isinstance(each, int)}
    assert {call.get("by") for call in found} == {None, "thread", "process"}
    filled = [call for call in found if isinstance(call.get("with"), dict) and "set" in call["with"]]
    regions = [call["with"]["set"] for call in filled if call["do"] == "KVM_SET_USER_MEMORY_REGION"]
    gpas = {each["guest_phys_addr"] for each in regions if "guest_phys_addr" in each} & set(GPAS)
    assert any(gpa % 0x1000 for gpa in gpas)
    assert max(gpas) > 1 << 51
    assert {"unmapped", "kernel", "read-only"} <= {each.get("userspace_addr") for each in regions}
    assert len({each.get("slot") for each in regions}) > 5


def test_a_vcpu_outlives_its_vm():
    def after_its_vm(sequence):
        closed = [at for at, call in enumerate(sequence) if call["do"] == "close" and call["on"] == "v0"]
        return closed and any(call.get("on") == "c0" for call in sequence[closed[0] + 1 :])

    assert sum(map(bool, map(after_its_vm, made(number=200)))) > 5


def test_every_method_of_an_object_has_its_turn():
    for kind, owner in CLASSES.items():
        names = {name for each in owner.__mro__ for name, it in vars(each).items() if isfunction(it) and name[0] != "_"}
        assert names - {"supported_cpuid"} == methods.METHODS[kind].keys()
    found = {(call["on"][0], call["do"]) for call in every(module=methods)}
    assert found == {(kind, name) for kind, each in methods.METHODS.items() for name in each}


@pytest.mark.parametrize(
    ("struct", "path", "expected"),
    [
        ("struct kvm_regs", "rip", (128, 8)),
        ("struct kvm_sregs", "gdt.limit", (8 * 24 + 8, 2)),
        ("struct kvm_msrs", "entries.2.data", (8 + 2 * 16 + 8, 8)),
        ("struct kvm_lapic_state", "regs.1023", (1023, 1)),
        ("__u64", "", (0, 8)),
    ],
)
def test_where_a_field_lies(struct, path, expected):
    """<linux/kvm.h>, <asm/kvm.h>."""
    assert place(struct, path) == expected


def test_what_a_struct_ends_in_is_part_of_its_size():
    assert size_of("struct kvm_msrs", 3) == ffi.sizeof("struct kvm_msrs") + 3 * ffi.sizeof("struct kvm_msr_entry")
    assert size_of("struct kvm_nested_state", 0x1000) == 128 + 0x1000
