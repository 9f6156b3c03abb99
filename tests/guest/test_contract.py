"""Header contracts: what they promise must be readable, and true of the program."""

import re

import pytest

from kvmharness.errors import UsageError
from kvmharness.guest import contract
from kvmharness.guest import shipped as programs
from kvmharness.guest.contract import MemoryUse
from kvmharness.guest.image import Image
from kvmharness.guest.names import named_values
from kvmharness.kvm.state import Regs

NAMES = {"MAILBOX": 0x2000, "BYTES": 0x400000}
GUESTS = [name for name in programs.names() if not name.endswith("_loop")]


def image(**header: str) -> Image:
    return Image("some", 0x1000, b"", {"here": 0x1004}, header)


def test_registers():
    wanted = contract.registers(image(**{"in": "rdi = MAILBOX; rsp = 0x4000\n; rip = here"}), NAMES)
    assert wanted == {"rdi": 0x2000, "rsp": 0x4000, "rip": 0x1004}
    assert contract.registers(image(**{"in": " none "}), NAMES) == {}


@pytest.mark.parametrize("text", ["rdi MAILBOX", "rdi = NOWHERE", "rdi = 16", "rdi =", "rdi = 0xzz"])
def test_registers_that_cannot_be_read(text):
    with pytest.raises(UsageError, match="some: header 'in'"):
        contract.registers(image(**{"in": text}), NAMES)


def test_memory():
    uses = contract.memory(image(memory="0x0 BYTES code and text\nMAILBOX 0x1000 words"), NAMES)
    assert uses == (MemoryUse(0, 0x400000, "code and text"), MemoryUse(0x2000, 0x1000, "words"))


@pytest.mark.parametrize("text", ["0x0 BYTES", "0x0 MANY all", "zero BYTES all"])
def test_memory_that_cannot_be_read(text):
    with pytest.raises(UsageError, match="some: header 'memory'"):
        contract.memory(image(memory=text), NAMES)


@pytest.mark.parametrize("name", GUESTS)
def test_shipped_contracts_can_be_kept(name):
    made = programs.image(name)
    use = contract.memory(made, named_values())[0]
    assert use.gpa <= made.origin
    assert made.origin + len(made.code) <= use.gpa + use.size_bytes
    if not name.startswith("l2"):  # its registers come from L1
        assert set(contract.registers(made, named_values())) <= set(Regs.__slots__)
    assert "entry" in made.symbols


@pytest.mark.parametrize("name", GUESTS)
def test_exits_happen_at_the_labels_that_the_header_names(name):
    """`exits` says "io out DOORBELL at ring_ready": that label stands on an OUT."""
    made = programs.image(name)
    labels = re.findall(r"\bat ([a-z_0-9, ]+)", made.header["exits"])
    named = [label.strip() for group in labels for label in group.split(",") if len(label.split()) == 1]
    assert named
    for label in named:
        line = next(line for line in made.lines if line.address == made.symbols[label] and line.size_bytes)
        assert re.search(r"\b(out|hlt|vmcall|vmmcall)\b", line.source), line.source
