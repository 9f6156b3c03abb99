from dataclasses import replace

import pytest

from kvmharness.cells.cell import Cell, Setup, with_params
from kvmharness.cells.matrix import matrix, select
from kvmharness.report.commit import commit_lines
from kvmharness.results.record import CellError
from kvmharness.results.verdict import ClaimResult, Outcome, Verdict
from tests import builders

GOLDEN = """\
Root loads (kvm_mmu_load) and time, in instructions (emulated), per
round trip L1 -> L2 -> L1.

Linux 6.1.192, emulated host (bochs 2.7, skylake):

       ----root loads----  ------------time------------
       none  p1  p2  both    none      p1    p2    both
a:3x3     2   0   2     0  20,100  -11.9%  0.0%  -11.9%
a:1x1     0   0   0     0  17,700    0.0%  0.0%    0.0%

a: L2 without nested EPT
n1xn2: so many host CR3s in L1, so many guest CR3s for L2, in turn

fast-cr3-switch: PASS (1 holds)

Reproduce with:
  kvmharness validate fast-cr3-switch
"""


def verdict(*command):
    claims = (ClaimResult("loads", "Loads fall.", Outcome.PASS),)
    return Verdict.of("fast-cr3-switch", claims, builders.VARIANTS, ("kvmharness", "validate", *command))


def test_vendors_have_their_own_words_for_one_set_up():
    intel = builders.record([Cell(Setup.NO_EPT, 3, 3)])
    amd = replace(intel, host={**intel.host, "cpu_vendor": "AuthenticAMD"})
    assert "a: L2 without nested EPT / L2 without nested NPT" in commit_lines([intel, amd])


def test_the_whole_table():
    record = builders.record([Cell(Setup.NO_EPT, 1, 1), Cell(Setup.NO_EPT, 3, 3)])
    assert "\n".join(commit_lines([record], verdict("fast-cr3-switch"))) + "\n" == GOLDEN


@pytest.mark.slow
@pytest.mark.parametrize(
    "variants", [builders.VARIANTS, ("one",), ("none", *(f"prefix-{n}-of-a-series" for n in range(1, 9)), "all" * 20)]
)
def test_never_more_than_72_columns_and_no_variant_lost(variants):
    lines = commit_lines([builders.record(matrix(), variants), builders.record(matrix(), variants, l0_ept=False)])
    assert max(map(len, lines)) <= 72
    text = "\n".join(lines)
    assert all(name[:20] in text for name in variants)


def test_every_set_up_has_a_row_the_largest_effect_first_and_the_controls_last():
    rows = [
        line.split()[0] for line in commit_lines([builders.record(matrix())]) if line[1:2] == ":" and line[2] != " "
    ]
    assert rows == ["a:3x3", "b:5x1", "c:3/AABB", "a:1x1", "b:1x1", "c:5/ABAB", "c:1/AABB", "d:5"]


def test_where_loads_are_the_same_the_time_chooses():
    """The row of a set-up is the cell that takes longest, and of two the one that changes more comes first."""
    record = builders.record(
        [Cell(Setup.NO_EPT, n, 1) for n in (1, 2, 3)] + [Cell(Setup.L1_ALONE, 5, 0)], ("none", "p1")
    )

    def slower(result):
        percent = {("a:2x1", "p1"): 5, ("d:5", "p1"): 20}.get((result.id, result.variant), 0)
        return replace(result, samples=tuple(sample * (100 + percent) // 100 for sample in result.samples))

    lines = commit_lines([replace(record, results=tuple(map(slower, record.results)))])
    assert [line.split()[0] for line in lines if line[1:2] == ":" and line[2] != " "] == ["d:5", "a:2x1", "a:1x1"]


def test_cells_can_be_chosen():
    lines = commit_lines([builders.record(select(("a",)))], cells=("a:4x4", "a:3x3/pcid", "nothing"))
    assert [line.split()[0] for line in lines if line.startswith("a:") and line[2] != " "] == ["a:4x4", "a:3x3/pcid"]


def test_a_count_off_the_oracle_is_marked():
    record = builders.record([Cell(Setup.NO_EPT, 3, 3)])
    counts = {**record.results[0].counts, "kvm_mmu_load": 1}
    lines = commit_lines([replace(record, results=(replace(record.results[0], counts=counts), *record.results[1:]))])
    assert any(line.startswith("a:3x3") and "!" in line for line in lines)
    assert "!: not what the simulated root cache predicts" in lines


def test_a_cell_that_fails_says_so():
    record = builders.record([Cell(Setup.NO_EPT, 3, 3)], ("none", "p1"), turns=1)
    died = replace(record.results[1], error=CellError("KernelPanicError", "x"), counts={}, samples=())
    (line,) = [line for line in commit_lines([replace(record, results=(record.results[0], died))]) if "a:3x3" in line]
    assert line.split() == ["a:3x3", "2", "fails", "20,100", "-"]


def test_a_long_command_is_broken_so_that_it_can_be_pasted():
    lines = commit_lines(
        [builders.record([Cell(Setup.NO_EPT)])], verdict("a b", *(f"--option-{n}=value" for n in range(9)))
    )
    command = lines[lines.index("Reproduce with:") + 1 :]
    assert len(command) > 2
    assert all(line.endswith(" \\") for line in command[:-1])
    assert "'a b'" in command[0]
    assert max(map(len, command)) <= 72


def test_marked_cells_are_shown_where_there_are_no_others():
    marked = [with_params(Cell(Setup.NO_EPT, n, n), {"kvm_intel.enable_shadow_vmcs": "N"}) for n in (1, 3)]
    lines = commit_lines([builders.record(marked)])
    assert any(line.startswith("a:3x3/enable_shadow_vmcs=N") for line in lines)
    both = commit_lines([builders.record([*marked, Cell(Setup.NO_EPT, 3, 3)])])
    assert any(line.startswith("a:3x3 ") for line in both)
    assert not any("enable_shadow_vmcs" in line for line in both)


def test_shadow_paging_has_its_rows_and_idle_moves_give_way_to_them():
    no_ept = {"kvm_intel.ept": "0"}
    cells = [with_params(Cell(Setup.NO_EPT, 3, 3), no_ept), Cell(Setup.L1_ALONE, 5, 0)]
    cells.append(with_params(Cell(Setup.L1_ALONE, 5, 0), no_ept))
    shown = [line.split()[0] for line in commit_lines([builders.record(cells)]) if "ept=0" in line or "d:5" in line]
    assert shown == ["e:3x3/ept=0", "d:5/ept=0"]


def test_skipped_claims_are_no_broken_ones():
    claims = (ClaimResult("a", "A.", Outcome.PASS), ClaimResult("b", "B.", Outcome.SKIPPED))
    answered = Verdict.of("some", claims, builders.VARIANTS, ("kvmharness",))
    assert "some: PASS (1 holds; 1 not checked: b)" in commit_lines([builders.record([Cell(Setup.NO_EPT)])], answered)
