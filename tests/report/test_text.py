import io
from dataclasses import replace

import pytest

from kvmharness.cells.cell import Cell, Order, Setup, with_params
from kvmharness.cells.matrix import matrix
from kvmharness.report import words
from kvmharness.report.rows import rows
from kvmharness.report.text import print_run, remark_lines, run_lines, verdict_lines
from kvmharness.results.record import CellError, OracleView, Probes
from kvmharness.results.verdict import ClaimResult, Outcome, Verdict
from tests import builders

BUSY = Cell(Setup.NO_EPT, 3, 3)


def one_row(**changes):
    record = builders.record([BUSY], ("none",), turns=1)
    return replace(record, results=(replace(record.results[0], **changes),))


def test_what_p1_stands_for_is_said():
    lines = run_lines(builders.record([Cell(Setup.NO_EPT, 3, 3)]))
    assert "p1: Ignore guest CR3 on fast root switch for direct MMU" in lines
    assert not [line for line in lines if line.startswith("both:")]


def test_one_row_has_every_figure():
    (line,) = [line for line in run_lines(builders.record([BUSY], ("none",)), width=200) if line.startswith("a:3x3")]
    assert line.split() == (
        "a:3x3 none 3 3 800 3 2 2 2 20,100 0 VMCALL 1 VMRESUME 1 VMWRITE 1".split()  # noqa: SIM905
    )


@pytest.mark.parametrize("width", [60, 72, 80, 100, 120, 200])
def test_no_line_is_wider_than_asked(width):
    lines = run_lines(builders.record(matrix()), width=width)
    assert max(map(len, lines)) <= width
    assert sum(line.startswith("a:3x3 ") for line in lines) == 4
    assert any("VMRESUME 1" in line for line in lines)


def test_unit_host_and_kernel_stand_above():
    text = "\n".join(run_lines(builders.record([BUSY]))[:2])
    assert "Linux 6.1.192, emulated host (bochs 2.7, skylake)" in text
    assert "instructions (emulated)" in text
    assert "tsc cycles" in "\n".join(run_lines(builders.record([BUSY], emulated=False))[:2])


def test_the_same_cell_is_called_e_without_ept_in_l0():
    assert {row.id for row in rows(builders.record([BUSY], l0_ept=False))} == {"e:3x3"}
    assert {row.id for row in rows(builders.record([with_params(BUSY, {"kvm_intel.ept": "N"})]))} == {"e:3x3/ept=N"}


def test_turns_are_added_up_and_half_a_load_is_kept():
    (row,) = rows(builders.record([Cell(Setup.EPTPS, eptps=5, order=Order.AABB)], ("both",), turns=3))
    assert (row.round_trips, row.loads, row.switches) == (1200, 600, 2400)
    assert words.amount(row.per_round_trip(row.loads)) == "0.5"
    assert row.family == "c/AABB"


def test_a_load_too_many_is_marked_and_fails():
    record = one_row(counts={"kvm_mmu_load": 801, "kvm_mmu_new_pgd": 800})
    text = "\n".join(run_lines(record, width=100))
    assert "! 2 " in text
    assert "FAIL: 801 root loads counted, 800 predicted: a:3x3" in text
    assert rows(record)[0].outcome is Outcome.FAIL


def test_missing_counts_are_dashes_and_no_pass():
    missing = {
        "kvm_mmu_load": "kprobes are not compiled in",
        "kvm_exit": "no tracefs",
        "kvm_nested_vmexit": "no tracefs",
    }
    record = one_row(counts={}, missing=missing)
    (row,) = rows(record)
    assert row.loads is None
    assert row.outcome is Outcome.INCONCLUSIVE
    assert "INCONCLUSIVE: root loads not judged: kvm_mmu_load was not counted: a:3x3" in run_lines(record)
    assert "not counted: kvm_mmu_load: kprobes are not compiled in" in run_lines(record)
    assert "not counted: kvm_exit, kvm_nested_vmexit: no tracefs" in run_lines(record)
    (line,) = [line for line in run_lines(record) if line.startswith("a:3x3")]
    assert line.split()[6] == "-"


@pytest.mark.parametrize(
    ("changes", "outcome", "said"),
    [
        (
            {"skipped": "nested: kvm_intel.nested is N"},
            Outcome.SKIPPED,
            "SKIPPED: nested: kvm_intel.nested is N: a:3x3",
        ),
        ({"error": CellError("EntryFailure", "error 7")}, Outcome.FAIL, "FAIL: EntryFailure: error 7: a:3x3"),
        ({"probes": Probes(800, 3)}, Outcome.FAIL, "FAIL: 3 of 800 probe reads saw a stale translation"),
    ],
)
def test_whatever_is_not_a_pass_says_why(changes, outcome, said):
    record = one_row(**changes)
    assert rows(record)[0].outcome is outcome
    assert said in "\n".join(run_lines(record))
    assert run_lines(record)[-1] == f"1 rows: 1 {outcome.value}"


def test_a_cell_that_was_skipped_has_its_row():
    (line,) = [
        line
        for line in run_lines(one_row(skipped="no nesting", probes=Probes()), width=200)
        if line.startswith("a:3x3")
    ]
    assert line.split() == ["a:3x3", "none", "3", "3", *["-"] * 8]


def test_why_something_is_not_known_is_said_once():
    why = "loads: kprobes are not compiled in"
    claims = [ClaimResult(name, "T.", Outcome.INCONCLUSIVE, (why, "a:3x3 p1: nothing")) for name in ("one", "two")]
    lines = verdict_lines(Verdict.of("series", tuple(claims), (), ()))
    assert sum(why in line for line in lines) == 1
    assert lines[-1].split() == ["as", "for", "one"]


def test_a_stale_translation_is_a_number_though_it_ended_its_cell():
    stale = CellError("StaleTranslation", "L2 read tag 1")
    (line,) = [
        line for line in run_lines(one_row(error=stale, probes=Probes(1, 1)), width=70) if line.startswith("a:3x3")
    ]
    assert line.split()[-1] == "1"


def test_an_empty_run_says_so():
    assert run_lines(builders.record([]))[-1] == "0 rows: nothing was run"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_the_same_figures():
    pytest.importorskip("rich")
    terminal, plain = Terminal(), io.StringIO()
    record = builders.record([BUSY], ("none",))
    print_run(record, terminal)
    print_run(record, plain)
    assert "20,100" in terminal.getvalue()
    assert "1 rows: 1 PASS" in terminal.getvalue()
    assert "\x1b" not in plain.getvalue()


def test_no_color_is_plain_text(monkeypatch):
    """Bold is a colour's companion, which rich by itself would keep."""
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm-256color")
    for value, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", value)
        terminal = Terminal()
        print_run(builders.record([BUSY]), terminal)
        assert ("\x1b[1m" in terminal.getvalue(), "\x1b" in terminal.getvalue()) == (coloured, coloured)


def test_a_terminal_without_rich_gets_plain_lines(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rich.console", None)
    terminal = Terminal()
    print_run(builders.record([BUSY]), terminal)
    assert terminal.getvalue().splitlines() == run_lines(builders.record([BUSY]))


def test_claims_come_with_their_figures():
    claims = (
        ClaimResult("loads", "Loads fall.", Outcome.PASS, ("a:3x3: 2 -> 0",)),
        ClaimResult("t", "T.", Outcome.FAIL),
    )
    lines = verdict_lines(Verdict.of("series", claims, (), ()))
    assert lines == [
        "series: FAIL (fails: t; 1 holds)",
        "",
        "PASS  loads: Loads fall.",
        "        a:3x3: 2 -> 0",
        "FAIL  t: T.",
    ]


def test_what_fails_ends_with_the_command_that_shows_it():
    claim = ClaimResult("loads", "Loads fall.", Outcome.FAIL, ("a:3x3 p1: 2 -> 3",), ("a:3x3",), ("p1",))
    record = builders.record([BUSY], turns=1)
    record = replace(record, host={**record.host, "emulated": "vmx:skylake"})
    verdict = Verdict.of("series", (claim,), (), ("kvmharness", "validate", "series"))
    assert verdict_lines(verdict, (record,))[-1].strip() == (
        "this alone: kvmharness run a:3x3 --host vmx:skylake --series series --variant p1"
    )
    failed = one_row(error=CellError("EntryFailure", "error 7"))
    long = replace(failed, command=("kvmharness", "run", "--source", "/a" * 60))
    (line,) = [line for line in run_lines(long, width=60) if "this alone" in line]
    assert line.endswith("/a" * 60)


def test_what_was_not_tested_stands_below():
    remarks = {"titles": {"p1": "Load less"}, "effects": ("less time",), "untested": ("Not on silicon.",)}
    assert remark_lines(Verdict.of("series", (), ("none", "p1"), (), **remarks)) == [
        *("", "Patches:", "  p1: Load less"),
        *("", "Better than without the series:", "  less time"),
        *("", "Not tested:", "  Not on silicon."),
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0, "0"), (2, "2"), (0.5, "0.5"), (5.344, "5.34"), (0.0044, "0.0044"), (1200, "1200")],
)
def test_amounts(value, shown):
    assert words.amount(value) == shown


def test_small_exits_are_summed_up():
    assert words.exits({"VMRESUME": 1.0, "CPUID": 0.002, "HLT": 0.001}) == "VMRESUME 1 others 0.003"
    assert words.exits({}) == "-"


def test_percent_never_shows_a_signed_zero():
    assert [words.percent(value, 1000) for value in (1000, 999.9, 1000.1, 880, 1005)] == [
        "0.0%",
        "0.0%",
        "0.0%",
        "-12.0%",
        "+0.5%",
    ]


def test_how_the_oracle_sees_a_kernel_is_said_unless_its_source_shows_it():
    record = builders.record([BUSY], ("none", "p1", "both"), turns=1)
    assert words.notes(record) == ()
    views = (
        OracleView("root-cache", {"reuse_current": 1, "previous_roots": 3}, "as it was said"),
        OracleView("root-cache", None, "f() is another one"),
        record.variants[2].oracle,
    )
    variants = tuple(replace(v, oracle=view) for v, view in zip(record.variants, views, strict=True))
    text = "\n".join(run_lines(replace(record, notes=("hot",), variants=variants), width=200))
    assert "note: hot\n" in text
    assert "note: the oracle root-cache predicts for a kernel with reuse_current 1, previous_roots 3, as it was" in text
    assert "note: the oracle root-cache does not describe p1, no prediction: f() is another one\n" in text
    assert "both, no" not in text
