"""Rule 13: L2 switches its own EPTP."""

from kvmharness.litmus.named.entry import tests

TESTS = tests(
    13,
    (
        "vmfunc",
        "a guest that switches its own EPTP would stay where it was",
        """
        L1 enter G0 E0
        L2 read p0
        L2 vmfunc E1
        L2 read p0
        L2 write p0
        L2 vmfunc E2
        L2 read p0
        L2 vmfunc E0
        L2 read p0
        L1 peek d96
        L1 enter G0 E0
        L2 read p0
        """,
    ),
)
