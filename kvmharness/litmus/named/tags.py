"""Rules 2, 3, 4 and 13: what each flush must flush, and what each tag keeps apart."""

from kvmharness.litmus.named.entry import tests

PCIDS = tests(
    2,
    (
        "pcid-noflush",
        "moves to a CR3 that promise to keep translations would show those of another address space",
        """
        L1 set cr4.pcide=1
        L1 read p0
        L1 cr3 H1 pcid=1
        L1 read p0
        L1 cr3 H0 noflush
        L1 read p0
        L1 cr3 H2 pcid=2
        L1 read p0
        L1 cr3 H1 pcid=1 noflush
        L1 read p0
        L1 cr3 H1 pcid=2
        L1 read p0
        """,
    ),
    (
        "pcid-flush",
        "a move to a CR3 without NOFLUSH would keep what its PCID had",
        """
        L1 set cr4.pcide=1
        L1 cr3 H1 pcid=1
        L1 read p0
        L1 cr3 H0
        L1 map H1 p0 d40
        L1 cr3 H1 pcid=1
        L1 read p0
        L1 cr3 H0
        L1 map H1 p0 d41
        L1 cr3 H1 pcid=1 noflush
        L1 read p0
        L1 cr3 H1 pcid=1
        L1 read p0
        """,
    ),
    (
        "invpcid-addr",
        "TLB shootdown in a guest with PCIDs would leave the page behind",
        """
        L1 set cr4.pcide=1
        L1 cr3 H1 pcid=1
        L1 read p0
        L1 cr3 H0
        L1 map H1 p0 d40
        L1 invpcid addr pcid=1 p0
        L1 cr3 H1 pcid=1 noflush
        L1 read p0
        L1 map H1 p0 d41
        L1 invpcid addr pcid=1 p0
        L1 read p0
        """,
    ),
    (
        "invpcid-one",
        "flushing a whole address space by its PCID would leave some of it",
        """
        L1 set cr4.pcide=1
        L1 cr3 H1 pcid=1
        L1 read p0
        L1 read p1
        L1 cr3 H0
        L1 map H1 p0 d40
        L1 map H1 p1 d41
        L1 invpcid one pcid=1
        L1 cr3 H1 pcid=1 noflush
        L1 read p0
        L1 read p1
        """,
    ),
    (
        "invpcid-all",
        "a global flush would leave another PCID's translations, or global ones",
        """
        L1 set cr4.pcide=1
        L1 set cr4.pge=1
        L1 map H0 p2 d42 g
        L1 cr3 H0
        L1 read p2
        L1 cr3 H1 pcid=1
        L1 read p0
        L1 cr3 H0
        L1 map H1 p0 d40
        L1 map H0 p2 d43 g
        L1 invpcid all
        L1 read p2
        L1 cr3 H1 pcid=1 noflush
        L1 read p0
        """,
    ),
    (
        "invpcid-keepglobal",
        "a flush that may keep global translations would keep others too",
        """
        L1 set cr4.pcide=1
        L1 cr3 H1 pcid=1
        L1 read p0
        L1 cr3 H0
        L1 read p0
        L1 map H1 p0 d40
        L1 map H0 p0 d41
        L1 invpcid keepglobal
        L1 read p0
        L1 cr3 H1 pcid=1 noflush
        L1 read p0
        """,
    ),
    (
        "global",
        "global pages of a guest kernel would outlive the switch of CR4.PGE that flushes them",
        """
        L1 set cr4.pge=1
        L1 map H0 p0 d40 g
        L1 cr3 H0
        L1 read p0
        L1 map H0 p0 d41 g
        L1 cr3 H0
        L1 read p0
        L1 invlpg p0
        L1 read p0
        L1 map H0 p0 d42 g
        L1 set cr4.pge=0
        L1 read p0
        """,
    ),
    (
        "pcide-on",
        "what a guest cached before it had PCIDs, and flushed, would be there again once it has them",
        """
        L1 cr3 H1
        L1 read p0
        L1 cr3 H0
        L1 map H1 p0 d40
        L1 set cr4.pcide=1
        L1 cr3 H1 noflush
        L1 read p0
        """,
    ),
    (
        "pcide-off",
        "what a guest cached under PCIDs would be there after it has switched them off",
        """
        L1 set cr4.pcide=1
        L1 cr3 H1 pcid=1
        L1 read p0
        L1 cr3 H0
        L1 read p0
        L1 map H0 p0 d40
        L1 map H1 p0 d41
        L1 set cr4.pcide=0
        L1 read p0
        L1 cr3 H1
        L1 read p0
        """,
    ),
    (
        "pcid-l2",
        "a nested guest's PCIDs would be mixed up",
        """
        L1 enter G0
        L2 set cr4.pcide=1
        L2 read p0
        L2 cr3 G1 pcid=1
        L2 read p0
        L2 cr3 G0 noflush
        L2 read p0
        L2 map G1 p0 d50
        L2 cr3 G1 pcid=1
        L2 read p0
        L2 cr3 G1 pcid=2
        L2 read p0
        """,
    ),
    (
        "invpcid-l2",
        "TLB shootdown in a nested guest with PCIDs would leave the page behind",
        """
        L1 enter G0
        L2 set cr4.pcide=1
        L2 cr3 G1 pcid=1
        L2 read p0
        L2 cr3 G0
        L2 map G1 p0 d50
        L2 invpcid one pcid=1
        L2 cr3 G1 pcid=1 noflush
        L2 read p0
        L2 map G1 p0 d51
        L2 invpcid all
        L2 read p0
        """,
    ),
)

TAGS = tests(
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

NESTED = tests(
    4,
    (
        "invept-one",
        "a hypervisor that remaps its guest's memory would have the guest use the old",
        """
        L1 enter G0 E0 tag=1
        L2 read p0
        L1 emap E0 d32 d100
        L1 invept one E0
        L1 enter G0 E0 tag=1
        L2 read p0
        L1 emap E0 d32 d101
        L1 invept one E1
        L1 enter G0 E0 tag=1
        L2 read p0
        L1 invept one E0
        L1 enter G0 E0 tag=1
        L2 read p0
        """,
    ),
    (
        "invept-previous-root",
        "memory of a guest that is not the last one that ran would be remapped in vain",
        """
        L1 enter G0 E0 tag=1
        L2 read p0
        L1 enter G0 E1 tag=2
        L2 read p0
        L1 enter G0 E2 tag=3
        L2 read p0
        L1 emap E0 d32 d100
        L1 invept one E0
        L1 enter G0 E1 tag=2
        L2 read p0
        L1 enter G0 E0 tag=1
        L2 read p0
        """,
    ),
    (
        "invept-other-ad",
        "INVEPT would miss a root because its EPTP differs in more than the address, which alone counts",
        """
        L1 enter G0 E0 ad
        L2 read p0
        L1 emap E0 d32 d100
        L1 invept one E0
        L1 enter G0 E0 ad
        L2 read p0
        """,
    ),
    (
        "invept-all",
        "a hypervisor that flushes all nested tables would have left one out",
        """
        L1 enter G0 E0
        L2 read p0
        L1 enter G0 E1
        L2 read p0
        L1 emap E0 d32 d100
        L1 emap E1 d32 d101
        L1 invept all
        L1 enter G0 E0
        L2 read p0
        L1 enter G0 E1
        L2 read p0
        """,
    ),
    (
        "nested-unmap",
        "a page that a hypervisor has taken away would still be its guest's",
        """
        L1 enter G0 E0 tag=1
        L2 write p0
        L1 eunmap E0 d32
        L1 invept one E0
        L1 enter G0 E0 tag=1
        L2 read p0
        L2 write p0
        L2 read p1
        L1 emap E0 d32 d102
        L1 enter G0 E0 tag=1
        L2 read p0
        """,
    ),
    (
        "nested-split",
        "a huge page of nested tables that is split would keep its old mapping",
        """
        L1 esize E1 big
        L1 enter G0 E1
        L2 read p0
        L2 read p1
        L1 emap E1 d32 d105
        L1 esize E1 small
        L1 invept all
        L1 enter G0 E1
        L2 read p0
        L2 read p1
        L1 esize E1 big
        L1 invept all
        L1 enter G0 E1
        L2 read p0
        """,
    ),
    (
        "nested-roots-in-turn",
        "two guests of L1's would see each other's memory",
        """
        L1 enter G0 E0 tag=1
        L2 read p0
        L2 write p0
        L1 enter G0 E1 tag=2
        L2 read p0
        L2 write p0
        L1 enter G0 E2 tag=3
        L2 read p0
        L1 enter G0 E0 tag=1
        L2 read p0
        L1 peek d32
        L1 peek d96
        L1 peek d160
        """,
    ),
    (
        "nested-by-flush",
        "the same with SVM, where an entry flushes by ASID",
        """
        L1 enter G0 E0 tag=1
        L2 read p0
        L1 emap E0 d32 d100
        L1 enter G0 E0 tag=1 flush=all
        L2 read p0
        L1 emap E0 d32 d102
        L1 enter G0 E0 tag=2
        L2 read p0
        L1 eunmap E0 d33
        L1 enter G0 E0 tag=2 flush=all
        L2 read p1
        """,
    ),
    (
        "nested-by-flush-of-one",
        "the same where it flushes one ASID",
        """
        L1 enter G0 E0 tag=1
        L2 read p0
        L1 emap E0 d32 d101
        L1 enter G0 E0 tag=1 flush=one
        L2 read p0
        """,
    ),
    (
        "nested-edit-under-l2",
        "a root of nested tables whose guest runs on would not see what L2's own tables lead to",
        """
        L1 enter G0 E0
        L2 read p0
        L2 map G0 p0 d40
        L2 invlpg p0
        L2 read p0
        L1 emap E0 d40 d103
        L1 invept all
        L1 enter G0 E0
        L2 read p0
        """,
    ),
)

EPTP_SWITCHING = tests(
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
