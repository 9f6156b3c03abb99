"""Rule 11: a hypervisor goes on wherever its state is put."""

from kvmharness.litmus.named.entry import tests

TESTS = tests(
    11,
    (
        "state-in-l1",
        "a hypervisor that is migrated while it runs itself would lose its guest",
        """
        L1 enter G0
        L2 read p0
        L1 read p0
        host nested
        L1 read p0
        host migrate
        L1 read p0
        L1 enter G1
        L2 read p0
        """,
    ),
    (
        "state-in-l2",
        "a hypervisor that is migrated while its guest runs would not go on",
        """
        L1 enter G0
        L2 read p0
        host nested
        L2 read p0
        L2 write p0
        host migrate
        L2 read p0
        L2 cr3 G1
        L2 read p0
        L1 peek d32
        L1 read p0
        L1 enter G0
        L2 read p0
        """,
    ),
    (
        "state-in-l2-nested",
        "the same with nested tables: roots would be those of L1",
        """
        L1 enter G0 E0
        L2 read p0
        L1 enter G1 E1
        L2 read p0
        host nested
        L2 read p0
        host migrate
        L2 read p0
        L2 cr3 G0
        L2 read p0
        L1 read p0
        L1 enter G0 E0
        L2 read p0
        """,
    ),
    (
        "state-then-mmio",
        "an instruction that KVM must emulate first thing after a migration would walk the wrong tables",
        """
        L1 map G1 p0 m5
        L1 enter G0
        L2 read p0
        L2 cr3 G1
        host migrate
        L2 read p0
        L2 write p0
        L2 read p1
        """,
    ),
    (
        "interrupt-in-l2",
        "an interrupt for a nested guest would go to its hypervisor, or leave the wrong tables behind",
        """
        L1 interrupt
        L1 read p0
        L1 enter G0
        L2 read p0
        L2 interrupt
        L2 read p0
        L2 cr3 G1
        L2 interrupt
        L2 read p0
        L1 read p0
        L1 interrupt
        L1 enter G2
        host migrate
        L2 interrupt
        L2 read p0
        """,
    ),
    (
        "sregs-in-l2",
        "userspace that reads and sets registers while L2 runs would change what L2 sees",
        """
        L1 enter G0
        L2 read p0
        L2 cr3 G1
        host sregs
        L2 read p0
        L1 read p0
        host sregs
        L1 read p0
        L1 enter G0
        L2 read p0
        """,
    ),
)
