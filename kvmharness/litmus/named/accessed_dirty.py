"""Rule 5: A and D bits, in tables of each level and in nested ones."""

from kvmharness.litmus.named.entry import tests

TESTS = tests(
    5,
    (
        "ad-l1",
        "page reclaim in a guest would drop pages that are in use, or lose what was written",
        """
        L1 map H0 p0 d9 old
        L1 map H0 p1 d10 old
        L1 cr3 H0
        L1 look H0 p0
        L1 read p0
        L1 look H0 p0
        L1 write p1
        L1 look H0 p1
        L1 write p0
        L1 look H0 p0
        L1 map H0 p0 d9 old
        L1 invlpg p0
        L1 write p0
        L1 look H0 p0
        """,
    ),
    (
        "ad-l2",
        "the same for a nested guest's tables",
        """
        L1 map G0 p0 d50 old
        L1 map G0 p1 d51 old
        L1 enter G0
        L2 read p0
        L2 write p1
        L2 look G0 p0
        L2 look G0 p1
        L2 write p0
        L1 look G0 p0
        """,
    ),
    (
        "ad-l2-under-nested",
        "the same where the nested guest has nested tables as well",
        """
        L1 map G0 p0 d50 old
        L1 enter G0 E0
        L2 write p0
        L2 look G0 p0
        L1 peek d50
        """,
    ),
    (
        "nested-ad-off",
        "a hypervisor that uses those bits of its EPT entries for itself would find them changed",
        """
        L1 enter G0 E0
        L2 read p0
        L2 write p0
        L1 elook E0 d32
        L1 enter G0 E1
        L2 write p1
        L1 elook E1 d33
        """,
    ),
    (
        "nested-ad-on",
        "live migration inside L1 would miss pages that L2 has written",
        """
        L1 enter G0 E0 ad
        L2 read p0
        L2 write p1
        L1 elook E0 d32
        L1 elook E0 d33
        L1 emap E0 d33 d33
        L1 invept all
        L1 enter G0 E0 ad
        L2 read p1
        L1 enter G0 E0 ad
        L2 write p1
        L1 elook E0 d33
        """,
    ),
    (
        "nested-ad-toggled",
        "two EPTPs that differ in bit 6 alone would share a root, and with it who keeps A and D",
        """
        L1 enter G0 E0
        L2 write p0
        L1 elook E0 d32
        L1 enter G0 E0 ad
        L2 write p1
        L1 elook E0 d33
        L1 enter G0 E0
        L2 write p2
        L1 elook E0 d34
        L1 enter G0 E0 ad
        L2 write p3
        L1 elook E0 d35
        """,
    ),
)
