"""Records as a real run would write them, from a few words: the figures follow the project's own table of misses.

The table (misses per round trip in steady state, by set-up and by which of the two patches is in) is written down here
by hand from the series' description, so that nothing under test computes its own expectation.
"""

from collections.abc import Iterable, Sequence
from random import Random

from kvmharness.cells.cell import Cell, Order, Setup
from kvmharness.measure.clock import UNIT_EMULATED, UNIT_TSC
from kvmharness.results.record import (
    FROM_SOURCE,
    CellResult,
    OracleView,
    Prediction,
    Probes,
    Record,
    VariantId,
    When,
)

NONE, P1, P2, BOTH = "none", "p1", "p2", "both"
VARIANTS = (NONE, P1, P2, BOTH)
PATCHES = {
    NONE: (),
    P1: ("Ignore guest CR3 on fast root switch for direct MMU",),
    P2: ("Reuse the current root if possible for fast switch",),
    BOTH: (
        "Ignore guest CR3 on fast root switch for direct MMU",
        "Reuse the current root if possible for fast switch",
    ),
}

BASE_TICKS = {Setup.NO_EPT: 17_700, Setup.ONE_EPTP: 16_900, Setup.EPTPS: 18_200, Setup.L1_ALONE: 1_310}
MISS_TICKS = 1_200

EXITS = {
    Setup.NO_EPT: {"VMRESUME": 1, "VMCALL": 1, "VMWRITE": 1},
    Setup.ONE_EPTP: {"VMRESUME": 1, "VMCALL": 1, "VMWRITE": 1},
    Setup.EPTPS: {"VMRESUME": 1, "VMCALL": 1, "VMWRITE": 2},
    Setup.L1_ALONE: {"CR_ACCESS": 1},
}


def view(variant: str) -> OracleView:
    """How the oracle sees a kernel of the series."""
    p1, p2 = int(variant in (P1, BOTH)), int(variant in (P2, BOTH))
    features = {"ignore_direct_pgd": p1, "reuse_current": p2, "previous_roots": 3}
    return OracleView("root-cache", features, FROM_SOURCE)


def misses(cell: Cell, variant: str, *, l0_ept: bool = True) -> float:
    """Root loads per round trip in steady state."""
    direct_fixed = variant in (P1, BOTH)
    reuses_current = variant in (P2, BOTH)
    match cell.setup:
        case Setup.NO_EPT:
            if direct_fixed and l0_ept:
                return 0
            roots = cell.host_cr3s + cell.guest_cr3s
            if roots <= 4:
                return 0
            return 2 if cell.host_cr3s >= 3 and cell.guest_cr3s >= 3 else 1
        case Setup.ONE_EPTP:
            events = (1 if reuses_current else 2) / cell.invept_every if cell.invept_every else 0
            return events + (0 if direct_fixed or cell.host_cr3s <= 4 else 1)
        case Setup.EPTPS if cell.order is Order.AABB and reuses_current:
            return 0 if cell.eptps <= 4 else 0.5
        case Setup.EPTPS if cell.order is Order.AABB:
            return 0 if cell.eptps <= 2 else 1
        case Setup.EPTPS:
            return 0 if cell.eptps <= 4 else 1
        case _:
            return 0 if l0_ept or cell.host_cr3s <= 4 else 1


def switches(cell: Cell) -> int:
    """Root switches per round trip."""
    return 1 if cell.setup is Setup.L1_ALONE else 2


def result(
    cell: Cell,
    variant: str = NONE,
    *,
    turn: int = 0,
    l0_ept: bool = True,
    round_trips: int = 400,
    noise: float = 0.0,
    slower: float = 0.0,
    samples: int = 12,
    seed: object = 0,
) -> CellResult:
    """One cell under one variant: *noise* and *slower* as shares of the time."""
    random = Random(f"{seed} {cell.id} {variant} {turn}")
    per_trip = misses(cell, variant, l0_ept=l0_ept)
    ticks = (BASE_TICKS[cell.setup] + MISS_TICKS * per_trip) * (1 + slower)
    batch = 50
    return CellResult(
        id=cell.id,
        cell=cell.to_json(),
        variant=variant,
        turn=turn,
        params=dict(cell.params),
        round_trips=round_trips,
        exits={name: count * round_trips for name, count in EXITS[cell.setup].items()},
        counts={
            "kvm_mmu_load": round(per_trip * round_trips),
            "kvm_mmu_new_pgd": switches(cell) * round_trips,
            "kvm_exit": sum(EXITS[cell.setup].values()) * round_trips,
            "kvm_nested_vmexit": round_trips if cell.nested else 0,
        },
        stats={"nested_run": round_trips if cell.nested else 0, "tlb_flush": 0 if cell.vpid else 2 * round_trips},
        predicted=Prediction(round(per_trip * round_trips), switches(cell) * round_trips),
        batch_round_trips=batch,
        samples=tuple(round(batch * ticks * (1 + abs(random.gauss(0, noise)))) for _ in range(samples)),
        probes=Probes(2 * round_trips, 0),
    )


def record(
    cells: Iterable[Cell],
    variants: Sequence[str] = VARIANTS,
    *,
    turns: int = 2,
    l0_ept: bool = True,
    emulated: bool = True,
    noise: float = 0.0,
    slower: float = 0.0,
    seed: object = 0,
) -> Record:
    """A whole run, the turns in ABBA order."""
    cells = tuple(cells)
    results = []
    for turn in range(turns):
        for variant in variants if turn % 2 == 0 else tuple(reversed(variants)):
            results += [
                result(cell, variant, turn=turn, l0_ept=l0_ept, noise=noise, slower=slower, seed=seed) for cell in cells
            ]
    return Record(
        tool_version="0.1.0",
        command=("kvmharness", "validate", "fast-cr3-switch", "--host", "vmx"),
        when=When("2024-05-06T07:08:09+00:00", 81.5),
        host={
            "kernel_release": "6.1.192",
            "config_hash": "5d1f00c0ffee",
            "cpu": "Intel(R) Core(TM) i7-7800X CPU @ 3.50GHz" if l0_ept else "Intel(R) Core(TM)2 Duo CPU T9600",
            "microcode": "0x2000065",
            "mitigations": "off",
            "emulator": "bochs 2.7, skylake" if emulated else None,
            "l0_ept": l0_ept,
            "module_parameters": {"kvm.tdp_mmu": "Y", "kvm_intel.ept": "Y", "kvm_intel.vpid": "Y"},
        },
        unit=UNIT_EMULATED if emulated else UNIT_TSC,
        variants=tuple(
            VariantId(
                name,
                "linux-source-6.1 6.1.192-1",
                PATCHES.get(name, ()),
                "5d1f00c0ffee",
                f"{index:040x}",
                view(name),
            )
            for index, name in enumerate(variants)
        ),
        results=tuple(results),
    )
