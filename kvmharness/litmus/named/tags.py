"""Rule 3: VPIDs and ASIDs keep apart what they tag."""

from kvmharness.litmus.named.entry import tests

TESTS = tests(
    3,
    (
        "untagged",
        "a hypervisor without VPID counts on every transition to flush, and L2 would run on old tables",
        """
        L1 enter G0
        L2 read p0
        L1 map G0 p0 d50
        L1 enter G0
        L2 read p0
        L1 map H0 p0 d9
        L1 enter G0
        L2 read p0
        L1 read p0
        L1 map G0 p0 d51
        L1 enter G0
        L2 read p0
        """,
    ),
    (
        "new-tag",
        "a VPID or ASID used for the first time would begin with another one's translations",
        """
        L1 enter G0 tag=1
        L2 read p0
        L1 map G0 p0 d50
        L1 enter G0 tag=2
        L2 read p0
        L1 map G0 p0 d51
        L1 enter G0 tag=3
        L2 read p0
        L1 map G0 p0 d52
        L1 enter G0 tag=4
        L2 read p0
        """,
    ),
    (
        "tags-in-turn",
        "two of L1's vCPUs with VPIDs of their own would see each other's memory",
        """
        L1 enter G0 tag=1
        L2 read p0
        L1 enter G1 tag=2
        L2 read p0
        L1 enter G0 tag=1
        L2 read p0
        L1 enter G2 tag=2
        L2 cr3 G2
        L2 read p0
        L1 enter G1 tag=1
        L2 cr3 G1
        L2 read p0
        """,
    ),
    (
        "invvpid-addr",
        "a hypervisor that flushes one page of its guest's would not have done it",
        """
        L1 enter G0 tag=1
        L2 read p0
        L1 map G0 p0 d50
        L1 invvpid addr tag=1 p0
        L1 enter G0 tag=1
        L2 read p0
        L1 invvpid addr tag=0 p0
        """,
    ),
    (
        "invvpid-one",
        "a hypervisor that flushes its guest by VPID would not have done it",
        """
        L1 enter G0 tag=1
        L2 read p0
        L2 read p1
        L1 map G0 p0 d50
        L1 map G0 p1 d51
        L1 invvpid one tag=1
        L1 enter G0 tag=1
        L2 read p0
        L2 read p1
        L1 map G0 p0 d52
        L1 invvpid one tag=2
        L1 enter G0 tag=1
        L2 read p0
        """,
    ),
    (
        "invvpid-all",
        "a hypervisor that flushes all guests at once would have left one out",
        """
        L1 enter G0 tag=1
        L2 read p0
        L1 enter G1 tag=2
        L2 read p0
        L1 map G0 p0 d50
        L1 map G1 p0 d51
        L1 invvpid all
        L1 enter G1 tag=2
        L2 read p0
        L1 enter G0 tag=1
        L2 read p0
        """,
    ),
    (
        "invvpid-keepglobal",
        "a flush that may keep global translations would keep others too",
        """
        L1 enter G0 tag=1
        L2 read p0
        L1 map G0 p0 d50
        L1 invvpid keepglobal tag=1
        L1 enter G0 tag=1
        L2 read p0
        L1 invvpid keepglobal tag=0
        """,
    ),
    (
        "tag-does-not-flush-l1",
        "L1's own tables would be read as they were before its guest ran",
        """
        L1 read p0
        L1 enter G0 tag=1
        L2 read p0
        L1 map H0 p0 d9
        L1 invlpg p0
        L1 enter G0 tag=1
        L2 read p0
        L1 read p0
        L1 enter G0 tag=1 host=H1
        L1 read p0
        L1 cr3 H1
        L1 read p0
        """,
    ),
    (
        "asid-flush",
        "a hypervisor that flushes its guest with TLB_CONTROL would not have done it",
        """
        L1 enter G0 tag=1
        L2 read p0
        L1 map G0 p0 d50
        L1 enter G0 tag=1 flush=all
        L2 read p0
        """,
    ),
    (
        "asid-flush-one",
        "the same where it flushes one ASID",
        """
        L1 enter G0 tag=1
        L2 read p0
        L1 map G0 p0 d51
        L1 enter G0 tag=1 flush=one
        L2 read p0
        L1 map G0 p0 d52
        L1 enter G0 tag=1 flush=keepglobal
        L2 read p0
        """,
    ),
    (
        "invlpga",
        "a hypervisor that flushes one page of its guest's would not have done it",
        """
        L1 enter G0 tag=1
        L2 read p0
        L1 map G0 p0 d50
        L1 invlpga p0 tag=1
        L1 enter G0 tag=1
        L2 read p0
        """,
    ),
)
