"""Rule 6: what was written is in the dirty log."""

from kvmharness.litmus.named.entry import tests

TESTS = tests(
    6,
    (
        "dirty-l1",
        "live migration would leave out pages that the guest has written",
        """
        L1 write p0
        host dirty start
        L1 write p0
        L1 write p1
        L1 read p2
        host dirty get
        L1 write p1
        host dirty get
        host dirty get
        host dirty stop
        L1 write p2
        """,
    ),
    (
        "dirty-l2",
        "live migration would leave out pages that a nested guest has written",
        """
        L1 enter G0
        L2 write p0
        host dirty start
        L2 write p0
        L2 write p1
        L2 read p2
        host dirty get
        L2 write p1
        L1 write p0
        host dirty get
        """,
    ),
    (
        "dirty-l2-nested",
        "the same where it has nested tables",
        """
        L1 enter G0 E0
        L2 write p0
        L2 write p1
        host dirty start
        L2 write p0
        L2 read p1
        host dirty get
        L2 write p0
        L2 write p1
        L2 write p2
        host dirty get
        L1 enter G0 E1
        L2 write p0
        host dirty get
        """,
    ),
    (
        "dirty-nested-huge",
        "a huge page would be logged as a whole, or its pieces not at all",
        """
        L1 esize E0 big
        L1 enter G0 E0
        L2 write p0
        host dirty start
        L2 write p0
        L2 write p3
        L1 write p0
        host dirty get
        L1 enter G0 E0
        L2 write p1
        host dirty get
        """,
    ),
    (
        "dirty-manual",
        "live migration that clears the log by hand would leave out what was written in between",
        """
        host dirty manual
        host dirty start
        L1 write p0
        L1 enter G0
        L2 write p0
        host dirty get
        host dirty get
        L2 write p1
        host dirty clear
        L2 write p0
        host dirty get
        host dirty clear
        L1 write p0
        host dirty get
        host dirty automatic
        host dirty stop
        """,
    ),
    (
        "dirty-huge-l1",
        "the same for a huge page in the guest's own tables",
        """
        L1 size H0 big
        L1 invlpg q0
        L1 write q0
        host dirty start
        L1 write q0
        L1 write p1
        host dirty get
        L1 write q0
        host dirty get
        """,
    ),
)
