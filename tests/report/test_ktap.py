from dataclasses import replace

from kvmharness.cells.cell import Cell, Setup
from kvmharness.report.ktap import run_ktap, verdict_ktap
from kvmharness.results.verdict import ClaimResult, Outcome, Verdict
from tests import builders

# Written by hand from the result lines, directives and nesting that ktap.rst describes.
GOLDEN = """\
KTAP version 1
1..1
  KTAP version 1
  1..4
  # Loads fall.
  # a:3x3: 2 -> 0
  ok 1 loads
  # T.
  # +3.1 % in a:1x1
  not ok 2 time # +3.1 % in a:1x1
  # U.
  not ok 3 unsure # SKIP inconclusive
  # S.
  # no SVM host
  ok 4 svm # SKIP no SVM host
# my series #2: FAIL (fails: time; 1 holds; 1 undecided: unsure; 1 not checked: svm)
# Not tested: Not on silicon.
not ok 1 my series no.2
"""


def test_a_verdict():
    verdict = Verdict.of(
        "my series #2",
        (
            ClaimResult("loads", "Loads\nfall.", Outcome.PASS, ("a:3x3: 2 -> 0",)),
            ClaimResult("time", "T.", Outcome.FAIL, ("+3.1 % in a:1x1",)),
            ClaimResult("unsure", "U.", Outcome.INCONCLUSIVE),
            ClaimResult("svm", "S.", Outcome.SKIPPED, ("no SVM host",)),
        ),
        (),
        (),
        untested=("Not on silicon.",),
    )
    assert "\n".join(verdict_ktap(verdict)) + "\n" == GOLDEN


def test_a_run_without_verdict():
    record = builders.record([Cell(Setup.NO_EPT, 3, 3), Cell(Setup.L1_ALONE, 2, guest_cr3s=0)], ("none",), turns=1)
    skipped = replace(record.results[1], skipped="no /dev/kvm")
    lines = run_ktap([replace(record, results=(record.results[0], skipped)), record])
    assert lines == [
        "KTAP version 1",
        "1..2",
        "  KTAP version 1",
        "  1..2",
        "  ok 1 a:3x3 none",
        "  ok 2 d:2 none # SKIP no /dev/kvm",
        "ok 1 Linux 6.1.192, emulated host (bochs 2.7, skylake)",
        "  KTAP version 1",
        "  1..2",
        "  ok 1 a:3x3 none",
        "  ok 2 d:2 none",
        "ok 2 Linux 6.1.192, emulated host (bochs 2.7, skylake)",
    ]
