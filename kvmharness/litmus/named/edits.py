"""Rule 1: what is edited is used, at the next switch or flush at the latest."""

from kvmharness.litmus.named.entry import tests

TESTS = tests(
    1,
    (
        "edit-l1-invlpg",
        "a guest kernel that remaps a page and invalidates it would go on reading the old one",
        """
        L1 read p0
        L1 map H0 p0 d9
        L1 invlpg p0
        L1 read p0
        L1 unmap H0 p0
        L1 invlpg p0
        L1 read p0
        L1 map H0 p0 d10
        L1 read p0
        """,
    ),
    (
        "edit-l1-previous-root",
        "a process whose tables changed while another one ran would run with its old memory",
        """
        L1 read p0
        L1 read p1
        L1 cr3 H1
        L1 read p0
        L1 map H0 p0 d40
        L1 cr3 H2
        L1 read p0
        L1 map H0 p1 d41
        L1 cr3 H3
        L1 read p0
        L1 cr3 H0
        L1 read p0
        L1 read p1
        L1 cr3 H1
        L1 read p0
        """,
    ),
    (
        "edit-l1-five-roots-back",
        "a root that left the cache of previous roots and came back would show tables as they were before",
        """
        L1 read p2
        L1 map H0 p2 d42
        L1 cr3 H1
        L1 cr3 H2
        L1 cr3 H3
        L1 read p2
        L1 map H1 p2 d43
        L1 cr3 H1
        L1 read p2
        L1 cr3 H0
        L1 read p2
        """,
    ),
    (
        "split-l1",
        "a huge page that is split, or pages that are collapsed, would keep their old mapping",
        """
        L1 read q0
        L1 size H0 big
        L1 invlpg q0
        L1 read q0
        L1 map H0 q0 d44
        L1 size H0 small
        L1 invlpg q0
        L1 read q0
        L1 cr3 H1
        L1 size H0 big
        L1 cr3 H0
        L1 read q0
        """,
    ),
    (
        "edit-l2-invlpg",
        "the same for the kernel of a nested guest",
        """
        L1 enter G0
        L2 read p0
        L2 map G0 p0 d50
        L2 invlpg p0
        L2 read p0
        L2 unmap G0 p0
        L2 invlpg p0
        L2 read p0
        L2 map G0 p0 d51
        L2 read p0
        """,
    ),
    (
        "edit-l2-by-l1",
        "a hypervisor that shadows its guest's tables could not change them",
        """
        L1 enter G0
        L2 read p0
        L1 map G0 p0 d52
        L1 enter G0
        L2 read p0
        L1 map G0 p0 d53 ro
        L1 enter G0
        L2 read p0
        L2 write p0
        L1 peek d53
        """,
    ),
    (
        "edit-l2-previous-root",
        "L2's processes would see memory from before they were switched away",
        """
        L1 enter G0
        L2 read p0
        L2 cr3 G1
        L2 read p0
        L2 map G0 p0 d54
        L2 cr3 G2
        L2 read p0
        L2 cr3 G0
        L2 read p0
        L1 enter G1
        L2 read p0
        L1 map G1 p0 d55
        L1 enter G2
        L2 read p0
        L1 enter G1
        L2 read p0
        L1 enter G0
        L2 read p0
        """,
    ),
    (
        "edit-l2-tagged",
        "with a VPID or ASID, what L2 flushes by moving to a CR3 would stay",
        """
        L1 enter G0 tag=1
        L2 read p0
        L2 map G0 p0 d56
        L2 cr3 G0
        L2 read p0
        L1 map G0 p0 d57
        L1 enter G0 tag=1
        L2 cr3 G0
        L2 read p0
        """,
    ),
    (
        "split-l2",
        "a huge page of L2's that is split would keep its old mapping",
        """
        L1 enter G0
        L2 read q0
        L2 size G0 big
        L2 cr3 G0
        L2 read q0
        L2 map G0 q0 d58
        L2 size G0 small
        L2 invlpg q0
        L2 read q0
        """,
    ),
    (
        "host-cr3-edited",
        "L1 would come back from its guest to tables that it has changed meanwhile",
        """
        L1 enter G0 host=H1
        L2 read p0
        L1 read p0
        L1 map H2 p0 d45
        L1 enter G0 host=H2
        L2 read p0
        L1 read p0
        L1 map H1 p0 d46
        L1 enter G1 host=H1
        L2 read p0
        L1 read p0
        L1 enter G1 host=H2
        L1 read p0
        """,
    ),
)
