"""What the tests of this folder share."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--nested-only", action="store_true", help="run every test on a host with nesting")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--nested-only"):
        for item in items:
            item.add_marker(pytest.mark.needs("nested"))


@pytest.fixture
def run(guest, assemble):
    """Runs a piece of code up to its HLT, and gives the registers."""

    def go(code, **registers):
        program = assemble(f"entry: {code}\n hlt", registers="; ".join(f"{n} = {v:#x}" for n, v in registers.items()))
        made = guest(program)
        assert type(made.run()).__name__ == "HltExit"
        return made.vcpu.get_regs()

    return go


@pytest.fixture
def counting_l2(assemble):
    """Code for L2 that counts its calls in memory, and writes to a page further on."""
    return assemble("""
        entry:  mov   rcx, 0x50000
                inc   qword ptr [rcx]
                mov   rdx, [rcx]
                mov   [rcx + 0x10000], rdx
                ret
    """)
