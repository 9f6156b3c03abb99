"""Rule 2: what each flush of PCIDs must flush, and what may stay."""

from kvmharness.litmus.named.entry import tests

TESTS = tests(
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
