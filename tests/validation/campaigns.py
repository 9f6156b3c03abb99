"""A run of two variants and two cells on the fake machine, and ways in which it goes down."""

from pathlib import Path

from kvmharness.cells.cell import Cell, Setup, with_params
from kvmharness.lab.job import KernelPanicError
from kvmharness.results.record import VariantId
from kvmharness.validation.campaign import Variant, run_in
from tests import builders

NO_EPT, ALONE = Cell(Setup.NO_EPT, 3, 3), Cell(Setup.L1_ALONE, 2, guest_cr3s=0)
NO_TDP_MMU = with_params(NO_EPT, {"kvm.tdp_mmu": "N"})
NONE = Variant(VariantId("none", "6.1 without the series", oracle=builders.view("none")), Path("/modules/none"))
BOTH = Variant(VariantId("both", "6.1", oracle=builders.view("both")), Path("/modules/both"))


def run(machine, order, cells, **options):
    heard = []
    record = run_in(
        machine,
        (NONE, BOTH),
        order,
        cells,
        command=("kvmharness", "validate"),
        on_result=lambda result, number, total: heard.append((result.id, number, total)),
        **options,
    )
    return record, heard


OOPS = ("[    1.5] Oops: 0000 [#1] PREEMPT", "[    1.6] RIP: 0010:bad+0x1/0x9")


def panics(variant, cell, passing="counting"):
    """Takes the host down in that cell of that variant."""

    def dies_in(*now):
        if now == (variant, cell, passing):
            raise KernelPanicError("panicked", console=OOPS)

    return dies_in
