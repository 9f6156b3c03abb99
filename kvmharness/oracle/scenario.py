"""What one vCPU is made to do, in the only terms that an oracle asks for."""

from math import lcm

from kvmharness.lean.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one vCPU is made to do, round trip by round trip.

    The sequences are orders: round trip r uses ``sequence[r % len(sequence)]``, counted from the VM's creation. Only
    the equality of values matters, apart from the PCID and NOFLUSH bits of a CR3 and the A/D flag of an EPTP.

    Attributes:
        l0_tdp: L0 uses EPT or NPT.
        l1_gives_ept: L1 gives L2 an EPT or NPT; None when L1 is alone.
        host_cr3: L1's CR3 after each round trip: HOST_CR3, or what L1 moves to CR3 when it is alone.
        guest_cr3: L2's CR3 at entry.
        eptp: EPTP12, or the nested CR3 of SVM.
        invept_every: before the entry of every round trip whose number is a multiple of this, L1 executes INVEPT of
            that round trip's EPTP; 0 for never.
        invept_global: INVEPT of all contexts instead.
        l2_mov_cr3: what L2 itself moves to CR3 in each round trip; empty when it does not.
        l1_mov_cr3: L1 moves ``host_cr3`` to CR3 before it enters L2, as it must where the hypervisor instructions keep
            L1's own CR3 (SVM).
        pcid: CR4.PCIDE = 1, in L1 and L2.
        boot_cr3: L1's CR3 when it first runs; None for ``host_cr3[0]``.
        memslot_changes: the round trips before which a memslot is deleted or moved, which frees all roots.
    """

    l0_tdp: bool
    l1_gives_ept: bool | None
    host_cr3: tuple[int, ...]
    guest_cr3: tuple[int, ...] = ()
    eptp: tuple[int, ...] = ()
    invept_every: int = 0
    invept_global: bool = False
    l2_mov_cr3: tuple[int, ...] = ()
    l1_mov_cr3: bool = False
    pcid: bool = False
    boot_cr3: int | None = None
    memslot_changes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.host_cr3:
            raise ValueError("a scenario needs at least one CR3 for L1")
        if self.l1_gives_ept is not None and not self.guest_cr3:
            raise ValueError("a nested scenario needs at least one CR3 for L2")
        if self.l1_gives_ept and not self.eptp:
            raise ValueError("a scenario in which L1 gives L2 an EPT needs at least one EPTP")
        if self.l1_gives_ept and not self.l0_tdp:
            raise ValueError("L1 cannot give L2 an EPT when L0 has none itself")

    @property
    def period(self) -> int:
        """Round trips until all sequences repeat."""
        sequences = (self.host_cr3, self.guest_cr3, self.eptp, self.l2_mov_cr3)
        return lcm(max(1, self.invept_every), *(max(1, len(sequence)) for sequence in sequences))
