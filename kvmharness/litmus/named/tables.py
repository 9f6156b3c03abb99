"""Rules 1, 5 and 7: what is edited is used, A and D are kept, and rights are those of whoever asks."""

from kvmharness.litmus.named.entry import tests

EDITS = tests(
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

ACCESSED_DIRTY = tests(
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

ROLES = tests(
    7,
    (
        "wp",
        "copy on write in a guest would write to the shared page, or fault for ever",
        """
        L1 map H0 p0 d9 ro
        L1 invlpg p0
        L1 write p0
        L1 set cr0.wp=0
        L1 write p0
        L1 peek d9
        L1 set cr0.wp=1
        L1 write p0
        L1 read p0
        L1 set cr0.wp=0
        L1 write p0
        L1 set cr0.wp=1
        L1 write p0
        """,
    ),
    (
        "nx",
        "pages for data only could be executed in a guest",
        """
        L1 map H0 p0 d9 nx
        L1 invlpg p0
        L1 fetch p0
        L1 read p0
        L1 map H0 p0 d9
        L1 invlpg p0
        L1 fetch p0
        L1 map H0 p0 d9 nx
        L1 cr3 H0
        L1 fetch p0
        L1 write p0
        L1 fetch p1
        """,
    ),
    (
        "nxe",
        "a guest that switches NX off and on would fault for ever, or execute what it must not",
        """
        L1 map H0 p0 d9 nx
        L1 cr3 H0
        L1 fetch p0
        L1 set efer.nxe=0
        L1 cr3 H0
        L1 fetch p1
        L1 map H0 p1 d10
        L1 invlpg p1
        L1 fetch p1
        L1 set efer.nxe=1
        L1 cr3 H0
        L1 read p0
        L1 fetch p0
        """,
    ),
    (
        "smep",
        "a guest kernel could be made to execute user pages",
        """
        L1 map H0 p0 d9 us
        L1 invlpg p0
        L1 fetch p0
        L1 set cr4.smep=1
        L1 fetch p0
        L1 read p0
        L1 ufetch p0
        L1 set cr4.smep=0
        L1 fetch p0
        """,
    ),
    (
        "smep-without-wp",
        "a guest kernel that may write to read-only pages could execute user pages that it has written",
        """
        L1 map H0 p0 d9 us ro
        L1 invlpg p0
        L1 set cr4.smep=1
        L1 set cr0.wp=0
        L1 write p0
        L1 fetch p0
        L1 ufetch p0
        L1 uwrite p0
        L1 write p0
        L1 fetch p0
        """,
    ),
    (
        "smap",
        "a guest kernel could be made to read user pages",
        """
        L1 map H0 p0 d9 us
        L1 invlpg p0
        L1 read p0
        L1 set cr4.smap=1
        L1 read p0
        L1 write p0
        L1 uread p0
        L1 set cr4.smap=0
        L1 write p0
        """,
    ),
    (
        "user",
        "user mode in a guest could reach the kernel's pages",
        """
        L1 uread p0
        L1 uwrite p0
        L1 map H0 p1 d9 us
        L1 map H0 p2 d10 us ro
        L1 map H0 p3 d11 us nx
        L1 cr3 H0
        L1 uread p1
        L1 uwrite p1
        L1 ufetch p1
        L1 uwrite p2
        L1 write p2
        L1 ufetch p3
        L1 uread p3
        """,
    ),
    (
        "wp-of-each-level",
        "L1 would run with the write protection of its guest, or L2 with its hypervisor's",
        """
        L1 map H0 p0 d9 ro
        L1 map G0 p0 d50 ro
        L1 invlpg p0
        L1 set cr0.wp=0
        L1 write p0
        L1 enter G0
        L2 write p0
        L2 set cr0.wp=0
        L2 write p0
        L1 write p0
        L1 set cr0.wp=1
        L1 write p0
        L1 enter G0
        L2 write p0
        L2 set cr0.wp=1
        L2 write p0
        L1 write p0
        """,
    ),
    (
        "smep-of-each-level",
        "L2 would get around SMEP that only it has switched on, or L1 suffer it",
        """
        L1 map H0 p0 d9 us
        L1 map G0 p0 d50 us
        L1 invlpg p0
        L1 enter G0
        L2 fetch p0
        L2 set cr4.smep=1
        L2 fetch p0
        L1 fetch p0
        L1 enter G0
        L2 fetch p0
        L2 set cr4.smep=0
        L2 fetch p0
        """,
    ),
    (
        "rights-of-l2",
        "L2's own rights would be those of a page's first user",
        """
        L1 map G0 p0 d50 us
        L1 map G0 p1 d51 us ro
        L1 map G0 p2 d52 nx
        L1 enter G0
        L2 uread p0
        L2 uwrite p0
        L2 uwrite p1
        L2 write p1
        L2 fetch p2
        L2 read p2
        L2 uread p2
        """,
    ),
    (
        "one-cr3-for-both",
        "L1 and a guest that runs on L1's own tables would share what they must not",
        """
        L1 read p0
        L1 enter H0
        L2 read p0
        L2 map H0 p0 d12 ro
        L2 invlpg p0
        L2 read p0
        L2 write p0
        L2 set cr0.wp=0
        L2 write p0
        L1 invlpg p0
        L1 read p0
        L1 write p0
        L1 enter H0
        L2 write p0
        """,
    ),
    (
        "nested-rights",
        "L2 could write or execute what its hypervisor has forbidden",
        """
        L1 emap E0 d32 d100 r
        L1 emap E0 d33 d101 rw
        L1 emap E0 d34 d102 rx
        L1 enter G0 E0
        L2 read p0
        L2 write p0
        L2 write p1
        L2 fetch p1
        L2 fetch p2
        L2 write p2
        L1 emap E0 d32 d100 rwx
        L1 invept all
        L1 enter G0 E0
        L2 write p0
        L2 fetch p0
        """,
    ),
)
