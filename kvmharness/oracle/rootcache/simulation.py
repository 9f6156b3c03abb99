"""How often KVM must load an MMU root, found by simulating its root cache.

Each ``struct kvm_mmu`` keeps the current root and three previous ones. A switch to another root either finds it there
(a hit) or leaves the MMU without a root (a miss), and then the next VM entry calls ``kvm_mmu_load()``. Nothing else
decides the number of loads, so it can be predicted exactly, and counted loads must be *equal* to it.

The algorithm is the one of Linux 6.1; what kernels differ in is :class:`Features`. The guests must not write to page
tables that KVM shadows: an unsynchronised previous root is freed by a guest TLB flush, which is not modelled.

Source: ``fast_pgd_switch()``, ``kvm_mmu_load()`` and ``kvm_mmu_free_roots()`` in arch/x86/kvm/mmu/mmu.c,
``nested_vmx_load_cr3()`` and ``handle_invept()`` in arch/x86/kvm/vmx/nested.c, ``kvm_set_cr3()`` in arch/x86/kvm/x86.c.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from kvmharness.oracle.scenario import Scenario

if TYPE_CHECKING:
    from fractions import Fraction

_PCID_MASK = (1 << 12) - 1
_CR3_NOFLUSH = 1 << 63  # of MOV's operand, with CR4.PCIDE = 1
_EPTP_AD = 1 << 6
_EPTP_TABLE_MASK = (1 << 52) - (1 << 12)  # what INVEPT compares: bits 51:12


class Features(NamedTuple):
    """What the root cache of a kernel is like, as far as kernels differ.

    Attributes:
        ignore_direct_pgd: a direct root is found by its role alone (Linux kernel commit 3651c7fc2bf6, in v5.7).
        reuse_current: the current root is tried before the previous ones (commit 0be44352071d, in v5.7).
        previous_roots: how many of them are kept (KVM_MMU_NUM_PREV_ROOTS).
    """

    ignore_direct_pgd: bool
    reuse_current: bool
    previous_roots: int = 3


class Role(NamedTuple):
    """The part of ``union kvm_mmu_page_role`` in which the roots of one guest can differ.

    Attributes:
        direct: the root maps gpa to hpa and shadows nothing (EPT or NPT, not nested).
        guest_mode: the root serves L2.
        ad_disabled: EPTP12 has its A/D flag clear.
    """

    direct: bool
    guest_mode: bool
    ad_disabled: bool = False


class Root(NamedTuple):
    """A cached root: ``struct kvm_mmu_root_info`` with the role of its page."""

    pgd: int
    role: Role


class RootCache:
    """The roots of one ``struct kvm_mmu``.

    Attributes:
        current: the root in use, None when the next entry has to load one.
        previous: the other roots, most recently used first; None is an empty place.
    """

    __slots__ = ("_features", "current", "previous")

    def __init__(self, features: Features) -> None:
        self._features = features
        self.current: Root | None = None
        self.previous: list[Root | None] = [None] * features.previous_roots

    def switch(self, pgd: int, role: Role) -> bool:
        """Makes the root of ``pgd`` and ``role`` the current one, as ``fast_pgd_switch()`` does.

        Returns:
            True for a hit. After a miss there is no current root.
        """
        if self.current is None:
            return self._find_without_current(pgd, role)
        return self._find_and_keep_current(pgd, role)

    def load(self, pgd: int, role: Role) -> None:
        """Takes a new root, as ``kvm_mmu_load()`` does; the shadow pages below it may be old."""
        ignored = role.direct and self._features.ignore_direct_pgd
        self.current = Root(0 if ignored else pgd, role)

    def free_roots(self, doomed: Callable[[Root], bool], *, current: bool = True) -> None:
        """Empties the places of all previous roots, and with ``current`` of the current one, that are ``doomed``."""
        if current and self.current is not None and doomed(self.current):
            self.current = None
        self.previous = [None if root is None or doomed(root) else root for root in self.previous]

    def _usable(self, root: Root | None, pgd: int, role: Role) -> bool:
        if root is None or root.role != role:
            return False
        return (role.direct and self._features.ignore_direct_pgd) or root.pgd == pgd

    def _find_and_keep_current(self, pgd: int, role: Role) -> bool:
        # Else it is a victim cache: a root can only be found again once a second one like it was made.
        if self._features.reuse_current and self._usable(self.current, pgd, role):
            return True
        for i, root in enumerate(self.previous):
            self.previous[i], self.current = self.current, root
            if self._usable(root, pgd, role):
                return True
        self.current = None  # what was the least recently used one has ended up here
        return False

    def _find_without_current(self, pgd: int, role: Role) -> bool:
        for i, root in enumerate(self.previous):
            if self._usable(root, pgd, role):
                self.current = root
                self.previous[i:] = [*self.previous[i + 1 :], None]
                return True
        return False


class Calls(NamedTuple):
    """How often each function is called.

    Attributes:
        loads: calls of ``kvm_mmu_load()``: the misses.
        switches: calls of ``kvm_mmu_new_pgd()``: hits and misses.
    """

    loads: int
    switches: int

    def __sub__(self, other: "Calls") -> "Calls":
        return Calls(self.loads - other.loads, self.switches - other.switches)


def predict(scenario: Scenario, features: Features, warmup: int, round_trips: int) -> Calls:
    """The exact counts of a window of round trips of a fresh VM.

    Args:
        scenario: what the vCPU does.
        features: of its kernel.
        warmup: round trips before the window.
        round_trips: the window's length. It contains no part of L1's start, even with ``warmup`` 0.
    """
    vcpu = _Vcpu(scenario, features)
    for number in range(warmup):
        vcpu.round_trip(number)
    before = vcpu.counted
    for number in range(warmup, warmup + round_trips):
        vcpu.round_trip(number)
    return vcpu.counted - before


def steady(scenario: Scenario, features: Features) -> "Fraction":
    """Loads per round trip once the cache has reached its cycle; memslot changes are left out."""
    from fractions import Fraction  # brings decimal along: too much for an emulated host, where only predict() is used

    vcpu = _Vcpu(scenario, features, events=False)
    period = scenario.period
    seen: dict[object, tuple[int, Calls]] = {}
    number = 0
    while (state := vcpu.state()) not in seen:
        seen[state] = number, vcpu.counted
        for _ in range(period):
            vcpu.round_trip(number)
            number += 1
    first, counted = seen[state]
    return Fraction((vcpu.counted - counted).loads, number - first)


class _Vcpu:
    """The part of a vCPU that decides about roots: two MMUs, and which of them is in use."""

    def __init__(self, scenario: Scenario, features: Features, *, events: bool = True) -> None:
        self._scenario = scenario
        self._root_mmu = RootCache(features)  # L1, and L2 without EPT12
        self._guest_mmu = RootCache(features)  # L2 with EPT12
        self._l1_role = Role(direct=scenario.l0_tdp, guest_mode=False)
        self._l2_role = Role(direct=scenario.l0_tdp, guest_mode=True)
        self._memslot_changes = frozenset(scenario.memslot_changes if events else ())
        self._loads = self._switches = 0
        self._cr3 = scenario.host_cr3[0] if scenario.boot_cr3 is None else scenario.boot_cr3
        self._enter(self._root_mmu, self._cr3, self._l1_role)

    @property
    def counted(self) -> Calls:
        """Calls since the VM was created."""
        return Calls(self._loads, self._switches)

    def state(self) -> object:
        """All that the future depends on, apart from the position in the sequences."""
        root_mmu, guest_mmu = self._root_mmu, self._guest_mmu
        return (root_mmu.current, *root_mmu.previous, guest_mmu.current, *guest_mmu.previous, self._cr3)

    def round_trip(self, number: int) -> None:
        """L1 is running; it enters L2 and comes back, or only moves to its next CR3."""
        s = self._scenario
        if number in self._memslot_changes:
            self._root_mmu.free_roots(lambda _: True)
            self._guest_mmu.free_roots(lambda _: True)
            self._enter(self._root_mmu, self._cr3, self._l1_role)
        host_cr3 = s.host_cr3[number % len(s.host_cr3)]
        if s.l1_gives_ept is None:
            self._mov_cr3(host_cr3, self._l1_role)
            return
        if s.l1_mov_cr3:
            self._mov_cr3(host_cr3, self._l1_role)
        guest_cr3 = s.guest_cr3[number % len(s.guest_cr3)]
        if s.l1_gives_ept:
            self._enter_l2_with_ept(number, s.eptp[number % len(s.eptp)])
        else:
            self._new_pgd(self._root_mmu, guest_cr3, self._l2_role)
        self._cr3 = guest_cr3
        if s.l2_mov_cr3:
            self._mov_cr3(s.l2_mov_cr3[number % len(s.l2_mov_cr3)], self._l2_role)
        self._new_pgd(self._root_mmu, host_cr3, self._l1_role)  # the nested exit goes back to root_mmu in any case
        self._cr3 = host_cr3

    def _enter_l2_with_ept(self, number: int, eptp: int) -> None:
        s = self._scenario
        if s.invept_every and number % s.invept_every == 0:
            # Whatever the role: INVEPT compares the address of the table only.
            self._guest_mmu.free_roots(lambda root: s.invept_global or not (root.pgd ^ eptp) & _EPTP_TABLE_MASK)
        self._new_pgd(self._guest_mmu, eptp, Role(direct=False, guest_mode=True, ad_disabled=not eptp & _EPTP_AD))

    def _mov_cr3(self, operand: int, role: Role) -> None:
        """MOV to CR3 in L1, or in an L2 that L1 leaves alone: exits only where L0 shadows the guest's tables."""
        cr3 = operand & ~_CR3_NOFLUSH if self._scenario.pcid else operand
        if not self._scenario.l0_tdp:
            changed = cr3 != self._cr3
            hit = not changed or self._switch(self._root_mmu, cr3, role)
            if self._scenario.pcid and not operand & _CR3_NOFLUSH:
                # Frees before the load, so the root that was current until now may go as well.
                self._root_mmu.free_roots(lambda root: not (root.pgd ^ cr3) & _PCID_MASK, current=False)
            if not hit:
                self._enter(self._root_mmu, cr3, role)
        self._cr3 = cr3

    def _new_pgd(self, mmu: RootCache, pgd: int, role: Role) -> None:
        if not self._switch(mmu, pgd, role):
            self._enter(mmu, pgd, role)

    def _switch(self, mmu: RootCache, pgd: int, role: Role) -> bool:
        self._switches += 1
        return mmu.switch(pgd, role)

    def _enter(self, mmu: RootCache, pgd: int, role: Role) -> None:
        """The VM entry after a miss."""
        mmu.load(pgd, role)
        self._loads += 1
