"""Rule 10: a change of memslots is in force at once."""

from kvmharness.litmus.named.entry import tests

TESTS = tests(
    10,
    (
        "slot-deleted",
        "memory that userspace has taken back would still be the guest's",
        """
        L1 read p0
        L1 write p1
        host slot delete
        L1 read p0
        L1 write p1
        host slot add
        L1 read p0
        """,
    ),
    (
        "slot-moved",
        "a guest would go on in the memory that it was moved away from",
        """
        L1 read p0
        L1 cr3 H1
        L1 read p0
        host slot move
        L1 read p0
        L1 cr3 H0
        L1 read p0
        host slot move
        L1 read p0
        """,
    ),
    (
        "slot-moved-under-l2",
        "the same for a nested guest",
        """
        L1 enter G0
        L2 read p0
        host slot move
        L2 read p0
        L2 write p0
        L1 read p0
        L1 enter G0
        L2 read p0
        host slot delete
        L2 read p0
        host slot add
        L2 read p0
        """,
    ),
    (
        "slot-moved-under-nested",
        "the same where it has nested tables",
        """
        L1 enter G0 E0
        L2 read p0
        host slot move
        L2 read p0
        L1 enter G0 E1
        L2 read p0
        host slot move
        L2 read p0
        L1 enter G0 E0
        L2 read p0
        L1 read p0
        """,
    ),
    (
        "slot-readonly",
        "a guest would write to memory that userspace has made read-only",
        """
        L1 write p0
        host slot readonly
        L1 read p0
        L1 write p0
        L1 peek d0
        host slot writable
        L1 write p0
        L1 peek d0
        """,
    ),
    (
        "slot-readonly-under-l2",
        "the same for a nested guest, with nested tables and without",
        """
        L1 enter G0
        L2 write p0
        host slot readonly
        L2 read p0
        L2 write p0
        host slot writable
        L2 write p0
        L1 peek d32
        """,
    ),
)
