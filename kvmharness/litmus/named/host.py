"""Rules 6 and 8 to 14: what userspace does between rows, what is not memory, and other vCPUs."""

from kvmharness.litmus.named.entry import tests

DIRTY_LOG = tests(
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

BAD_VALUES = tests(
    8,
    (
        "bad-guest-cr3",
        "a hypervisor's mistake would not be reported to it, or would take it down",
        """
        L1 enter G0 bad=guest
        L1 read p0
        L1 enter G0
        L2 read p0
        """,
    ),
    (
        "bad-guest-cr3-nested",
        "the same with nested tables, where KVM takes another way",
        """
        L1 enter G0 E0 bad=guest
        L1 read p0
        L1 enter G0 E0
        L2 read p0
        L1 enter G0 E0 bad=guest
        L1 enter G1 E1
        L2 read p0
        """,
    ),
    (
        "bad-host-cr3",
        "an exit to nowhere would be let in",
        """
        L1 enter G0 bad=host
        L1 read p0
        L1 enter G0
        L2 read p0
        """,
    ),
    (
        "bad-nested-root",
        "nested tables that the processor refuses would be used",
        """
        L1 enter G0 E0 bad=nested
        L1 read p0
        L1 enter G0 E0
        L2 read p0
        """,
    ),
)

MMIO = tests(
    9,
    (
        "mmio-l1",
        "a device's registers would be taken for another's after a switch of roots",
        """
        L1 map H0 p0 m1
        L1 map H1 p0 m2
        L1 cr3 H0
        L1 read p0
        L1 write p0
        L1 cr3 H1
        L1 read p0
        L1 cr3 H0
        L1 read p0
        L1 map H0 p0 d9
        L1 invlpg p0
        L1 read p0
        """,
    ),
    (
        "mmio-l2",
        "the same for a nested guest",
        """
        L1 map G0 p0 m1
        L1 map G1 p0 m2
        L1 enter G0
        L2 read p0
        L2 write p0
        L2 cr3 G1
        L2 read p0
        L1 enter G0
        L2 read p0
        L1 map G0 p0 d50
        L1 enter G0
        L2 read p0
        """,
    ),
    (
        "mmio-nested",
        "a device that a hypervisor hands to its guest would be another one, or memory",
        """
        L1 emap E0 d32 m3
        L1 emap E1 d32 m4
        L1 enter G0 E0
        L2 read p0
        L2 write p0
        L2 read p1
        L1 enter G0 E1
        L2 read p0
        L1 enter G0 E0
        L2 read p0
        L1 emap E0 d32 d100
        L1 invept all
        L1 enter G0 E0
        L2 read p0
        """,
    ),
    (
        "mmio-edited",
        "a device that is mapped where another one was would not be reached",
        """
        L1 map H0 p0 m1
        L1 cr3 H0
        L1 read p0
        L1 map H0 p0 m2
        L1 cr3 H0
        L1 read p0
        L1 map G0 p0 m3
        L1 enter G0
        L2 read p0
        L1 map G0 p0 m4
        L1 enter G0
        L2 read p0
        L2 map G0 p0 m5
        L2 invlpg p0
        L2 read p0
        """,
    ),
    (
        "mmio-becomes-memory",
        "what KVM remembers of a place without memory would outlive the memslot that is put there",
        """
        host slot delete
        L1 read p0
        L1 read p1
        host slot add
        L1 read p0
        L1 write p1
        L1 peek d1
        """,
    ),
)

MEMSLOTS = tests(
    10,
    (
        "slot-deleted",
        "memory that userspace has taken back would still be the guest's",
        """
        L1 read p0
        L1 write p1
        host slot delete
        L1 read p0
        L1 write p1
        host slot add
        L1 read p0
        """,
    ),
    (
        "slot-moved",
        "a guest would go on in the memory that it was moved away from",
        """
        L1 read p0
        L1 cr3 H1
        L1 read p0
        host slot move
        L1 read p0
        L1 cr3 H0
        L1 read p0
        host slot move
        L1 read p0
        """,
    ),
    (
        "slot-moved-under-l2",
        "the same for a nested guest",
        """
        L1 enter G0
        L2 read p0
        host slot move
        L2 read p0
        L2 write p0
        L1 read p0
        L1 enter G0
        L2 read p0
        host slot delete
        L2 read p0
        host slot add
        L2 read p0
        """,
    ),
    (
        "slot-moved-under-nested",
        "the same where it has nested tables",
        """
        L1 enter G0 E0
        L2 read p0
        host slot move
        L2 read p0
        L1 enter G0 E1
        L2 read p0
        host slot move
        L2 read p0
        L1 enter G0 E0
        L2 read p0
        L1 read p0
        """,
    ),
    (
        "slot-readonly",
        "a guest would write to memory that userspace has made read-only",
        """
        L1 write p0
        host slot readonly
        L1 read p0
        L1 write p0
        L1 peek d0
        host slot writable
        L1 write p0
        L1 peek d0
        """,
    ),
    (
        "slot-readonly-under-l2",
        "the same for a nested guest, with nested tables and without",
        """
        L1 enter G0
        L2 write p0
        host slot readonly
        L2 read p0
        L2 write p0
        host slot writable
        L2 write p0
        L1 peek d32
        """,
    ),
)

NESTED_STATE = tests(
    11,
    (
        "state-in-l1",
        "a hypervisor that is migrated while it runs itself would lose its guest",
        """
        L1 enter G0
        L2 read p0
        L1 read p0
        host nested
        L1 read p0
        host migrate
        L1 read p0
        L1 enter G1
        L2 read p0
        """,
    ),
    (
        "state-in-l2",
        "a hypervisor that is migrated while its guest runs would not go on",
        """
        L1 enter G0
        L2 read p0
        host nested
        L2 read p0
        L2 write p0
        host migrate
        L2 read p0
        L2 cr3 G1
        L2 read p0
        L1 peek d32
        L1 read p0
        L1 enter G0
        L2 read p0
        """,
    ),
    (
        "state-in-l2-nested",
        "the same with nested tables: roots would be those of L1",
        """
        L1 enter G0 E0
        L2 read p0
        L1 enter G1 E1
        L2 read p0
        host nested
        L2 read p0
        host migrate
        L2 read p0
        L2 cr3 G0
        L2 read p0
        L1 read p0
        L1 enter G0 E0
        L2 read p0
        """,
    ),
    (
        "state-then-mmio",
        "an instruction that KVM must emulate first thing after a migration would walk the wrong tables",
        """
        L1 map G1 p0 m5
        L1 enter G0
        L2 read p0
        L2 cr3 G1
        host migrate
        L2 read p0
        L2 write p0
        L2 read p1
        """,
    ),
    (
        "interrupt-in-l2",
        "an interrupt for a nested guest would go to its hypervisor, or leave the wrong tables behind",
        """
        L1 interrupt
        L1 read p0
        L1 enter G0
        L2 read p0
        L2 interrupt
        L2 read p0
        L2 cr3 G1
        L2 interrupt
        L2 read p0
        L1 read p0
        L1 interrupt
        L1 enter G2
        host migrate
        L2 interrupt
        L2 read p0
        """,
    ),
    (
        "sregs-in-l2",
        "userspace that reads and sets registers while L2 runs would change what L2 sees",
        """
        L1 enter G0
        L2 read p0
        L2 cr3 G1
        host sregs
        L2 read p0
        L1 read p0
        host sregs
        L1 read p0
        L1 enter G0
        L2 read p0
        """,
    ),
)

VCPUS = tests(
    12,
    (
        "other-vcpu-unmaps",
        "TLB shootdown between vCPUs would not work",
        """
        V1 read p0
        L1 read p0
        L1 map H0 p0 d40
        L1 invlpg p0
        L1 read p0
        V1 invlpg p0
        V1 read p0
        V1 unmap H0 p0
        V1 invlpg p0
        V1 read p0
        L1 invlpg p0
        L1 read p0
        """,
    ),
    (
        "other-vcpu-switches",
        "one vCPU's switch of roots would disturb another's",
        """
        L1 read p0
        V1 cr3 H1
        V1 read p0
        L1 read p0
        V1 cr3 H2
        L1 cr3 H3
        V1 read p0
        L1 read p0
        V1 cr3 H0
        V1 read p0
        L1 cr3 H1
        L1 read p0
        """,
    ),
    (
        "other-vcpu-slot",
        "a change of memslots would reach only the vCPU that runs",
        """
        L1 read p0
        V1 read p1
        host slot move
        V1 read p1
        L1 read p0
        host slot delete
        L1 read p0
        V1 read p1
        host slot add
        V1 write p1
        L1 peek d1
        """,
    ),
    (
        "other-vcpu-dirty",
        "pages that another vCPU has written would be left out of the log",
        """
        L1 write p0
        V1 write p1
        host dirty start
        V1 write p0
        L1 write p1
        V1 write p2
        host dirty get
        V1 write p0
        host dirty get
        """,
    ),
    (
        "other-vcpu-beside-l2",
        "a nested guest would be disturbed by a vCPU that edits and flushes beside it",
        """
        L1 enter G0 E0
        L2 read p0
        V1 read p0
        V1 emap E0 d32 d100
        V1 read p0
        L1 invept all
        L1 enter G0 E0
        L2 read p0
        V1 map G0 p1 d40
        L1 enter G0 E0
        L2 invlpg p1
        L2 read p1
        """,
    ),
)

WELL = tests(
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
