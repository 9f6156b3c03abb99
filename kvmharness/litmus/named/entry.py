"""How named tests are written down."""

from kvmharness.litmus.program import Program, program

RULES = {
    1: "edit and switch",
    2: "PCID",
    3: "VPID and ASID",
    4: "nested flushes",
    5: "A and D bits",
    6: "dirty log",
    7: "roles",
    8: "bad values",
    9: "MMIO",
    10: "memslots",
    11: "nested state",
    12: "several vCPUs",
    13: "EPTP switching",
    14: "the kernel stays well",
}


def tests(rule: int, *entries: tuple[str, str, str]) -> tuple[Program, ...]:
    """Cases of one rule: name, what is lost when it fails, rows."""
    return tuple(program(name, rows, rule=rule, why=why) for name, why, rows in entries)
