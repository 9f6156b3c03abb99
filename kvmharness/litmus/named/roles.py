"""Rule 7: rights are those of whoever asks, in the mode that it is in."""

from kvmharness.litmus.named.entry import tests

TESTS = tests(
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
