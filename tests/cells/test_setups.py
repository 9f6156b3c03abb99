"""The table of set-ups: whole, and all that it takes to add one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kvmharness
from kvmharness.cells.setups import MARKS, Setup, by_letter
from kvmharness.hosts.needs import check_names


@pytest.mark.parametrize("setup", Setup)
def test_each_row_leaves_no_number_open(setup):
    row = setup.row
    shown = {name for name in ("host_cr3s", "guest_cr3s", "eptps") if f"{{{name}}}" in row.shape}
    open_ones = {"host_cr3s", "guest_cr3s", "eptps"} - set(row.fixed)
    assert shown == open_ones
    assert set(row.rotates) <= shown
    check_names(row.needs)
    assert setup.nested is ("nested" in row.needs)


def test_letters_and_marks_are_told_apart_by_how_they_begin():
    assert len(by_letter()) == len(Setup) + 1
    assert {len(letter) for letter in by_letter()} == {1}
    names = [mark.name for mark in MARKS]
    assert not [(a, b) for a in names for b in names if a != b and b.startswith(a)]


# A set-up that there is not: the CR3s of L2 rotate below several EPTs, in step with them.
ROW = """
    IN_STEP = (
        "z",
        SetupRow(
            shape="{eptps}x{guest_cr3s}",
            words="L2 with several nested {tdp}s and CR3s",
            rotates=("eptps",),
            axis="EPTPs",
            needs=("nested", "tdp"),
            fixed={"host_cr3s": 1},
        ),
    )
"""

USES = """
import json
from kvmharness.oracle.rootcache import simulation as rootcache
from tests.oracle.kernels import BOTH
from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.plan import round_trips
from kvmharness.cells.language import explain
from kvmharness.cells.matrix import named
from kvmharness.cells.rotation import rotation, scenario
from kvmharness.guest import spaces
from kvmharness.vendors.vmx.vmx import VMX
from kvmharness.report import text
from tests import builders

cell = named("z:5x2/invept10/tdp_mmu=N")
order = rotation(cell)
rows = round_trips(order, spaces.build(order.host_roots, order.guest_roots, cell.eptps, VMX.nested_space))
builders.BASE_TICKS[cell.setup], builders.EXITS[cell.setup] = 1000, {"VMRESUME": 1}
record = builders.record([cell], ("none",), turns=1)
print(json.dumps({
    "id": cell.id,
    "back": Cell.from_json(cell.to_json()) == cell == Cell.parse(cell.id),
    "needs": cell.needs,
    "rows": len({(row.guest_cr3, row.eptp) for row in rows}),
    "loads": str(rootcache.steady(scenario(named("z:5x2"), l0_tdp=True), BOTH)),
    "explained": "z:ExN2" in explain() and "several nested EPT (NPT)s" in explain(),
    "table": [line.split()[:4] for line in text.run_lines(record) if line.startswith("z:")],
}))
"""


def test_a_new_set_up_is_one_row(tmp_path):
    """In a copy of the package: the row is added to the table, and cells of it are named, rotated and reported."""
    root = Path(kvmharness.__file__).parent
    shutil.copytree(root, tmp_path / "kvmharness", ignore=shutil.ignore_patterns("__pycache__"))
    table = tmp_path / "kvmharness/cells/setups.py"
    before, methods, after = table.read_text().partition("\n    @property\n    def nested(self)")
    table.write_text(before + ROW + methods + after)
    path = os.pathsep.join([str(tmp_path), str(root.parent)])
    done = subprocess.run(
        [sys.executable, "-c", USES],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "id": "z:5x2/invept10/tdp_mmu=N",
        "back": True,
        "needs": ["kvm", "nested", "tdp", "invept", "tlb_tags"],
        "rows": 10,
        "loads": "1",
        "explained": True,
        "table": [["z:5x2/invept10/tdp_mmu=N", "none", "1", "5"]],
    }
