"""Rule 8: what the processor refuses is refused, and L1 goes on."""

from kvmharness.litmus.named.entry import tests

TESTS = tests(
    8,
    (
        "bad-guest-cr3",
        "a hypervisor's mistake would not be reported to it, or would take it down",
        """
        L1 enter G0 bad=guest
        L1 read p0
        L1 enter G0
        L2 read p0
        """,
    ),
    (
        "bad-guest-cr3-nested",
        "the same with nested tables, where KVM takes another way",
        """
        L1 enter G0 E0 bad=guest
        L1 read p0
        L1 enter G0 E0
        L2 read p0
        L1 enter G0 E0 bad=guest
        L1 enter G1 E1
        L2 read p0
        """,
    ),
    (
        "bad-host-cr3",
        "an exit to nowhere would be let in",
        """
        L1 enter G0 bad=host
        L1 read p0
        L1 enter G0
        L2 read p0
        """,
    ),
    (
        "bad-nested-root",
        "nested tables that the processor refuses would be used",
        """
        L1 enter G0 E0 bad=nested
        L1 read p0
        L1 enter G0 E0
        L2 read p0
        """,
    ),
)
