"""Guests without nesting."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.kvm


@pytest.mark.parametrize(("a", "b"), [(1, 2), (0x7FFFFFFF, 1), (0xFFFFFFFF, 1)])
def test_add(run, a, b):
    assert run("add eax, ebx", rax=a, rbx=b).rax == (a + b) % 2**32


@settings(max_examples=4, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**63), st.integers(1, 2**31))
def test_multiply(run, a, b):
    found = run("mul rbx", rax=a, rbx=b)
    assert found.rdx << 64 | found.rax == a * b


def test_vendor_is_the_hosts(run, tmp_path, capsys):
    found = run("xor eax, eax\n cpuid")
    name = b"".join(value.to_bytes(4, "little") for value in (found.rbx, found.rdx, found.rcx)).decode()
    (tmp_path / "vendor").write_text(name)
    with open("/proc/cpuinfo") as file:
        assert any(line.split(":")[1].strip() == name for line in file if line.startswith("vendor_id"))
    print("vendor", (tmp_path / "vendor").read_text())
    assert capsys.readouterr().out == f"vendor {name}\n"


def test_two_vcpus(guest, assemble):
    made = guest(
        assemble("""
            entry:  mov   dword ptr [SAMPLES], 0x1
            wait:   pause
                    cmp   dword ptr [SAMPLES], 0x2
                    jne   wait
                    hlt
            entry1: pause
                    cmp   dword ptr [SAMPLES], 0x1
                    jne   entry1
                    mov   dword ptr [SAMPLES], 0x2
                    hlt
        """),
        vcpus=2,
    )
    made.run_all()
    assert made.memory.read_u64(0x80000) == 2


def test_device(guest, assemble):
    made = guest(assemble("entry: mov eax, [HOLE + 0x20]\n hlt"))
    found = made.run()
    assert (found.phys_addr, found.is_write) == (0x400020, False)
    made.vcpu.set_mmio_data(b"\x07\0\0\0")
    made.run()
    assert made.vcpu.get_regs().rax == 7


def test_page_fault_is_told(run):
    run("mov [0x700008], eax")


def test_triple_fault(run):
    run("lidt [HOLE - 0x10]\n ud2")


def test_hangs(guest, assemble):
    guest(assemble("entry: pause\n jmp entry")).run(timeout_s=1)


def test_hangs_without_interrupts(guest, assemble):
    guest(assemble("entry: cli\n again: jmp again")).run(timeout_s=1)


def test_after_a_hang(run):
    assert run("inc rax", rax=6).rax == 7
