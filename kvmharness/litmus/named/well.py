"""Rule 14: the kernel stays well."""

from kvmharness.litmus.named.entry import tests

TESTS = tests(
    14,
    (
        "everything-in-turn",
        "a mixture of all of it would leave the kernel with a warning, or a page too few",
        """
        L1 enter G0 tag=1
        L2 write p0
        host dirty start
        L1 cr3 H1
        L1 write p0
        L1 enter G1
        L2 write p0
        host dirty get
        host slot move
        L2 read p0
        L1 enter G2 host=H2
        host nested
        L2 read p0
        host slot readonly
        L2 write p0
        L1 map H2 p0 m1
        L1 invlpg p0
        L1 read p0
        host slot writable
        host migrate
        L1 read p1
        L1 enter G3
        L2 size G3 big
        L2 cr3 G3
        L2 write q0
        """,
    ),
)
