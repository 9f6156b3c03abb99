from dataclasses import replace
from xml.etree import ElementTree

from kvmharness.cells.cell import Cell, Setup
from kvmharness.report.junit import junit
from kvmharness.results.record import Probes
from kvmharness.results.verdict import ClaimResult, Outcome, Verdict
from tests import builders


def test_claims_and_cells_with_their_outcomes():
    record = builders.record([Cell(Setup.NO_EPT, 3, 3)], ("none", "p1"), turns=1)
    broken = replace(record.results[1], probes=Probes(800, 1))
    verdict = Verdict.of(
        "s",
        (
            ClaimResult("good", "G", Outcome.PASS),
            ClaimResult("bad", "B", Outcome.FAIL, ("2 -> 3 <loads>",)),
            ClaimResult("unsure", "U", Outcome.INCONCLUSIVE),
            ClaimResult("svm", "S", Outcome.SKIPPED, ("no SVM",)),
        ),
        (),
        (),
        untested=("Not on silicon.",),
    )
    claims, cells = ElementTree.fromstring(junit([replace(record, results=(record.results[0], broken))], verdict))
    assert {name: claims.get(name) for name in ("name", "tests", "failures", "skipped")} == {
        "name": "s",
        "tests": "4",
        "failures": "1",
        "skipped": "2",
    }
    assert [(case.get("name"), [child.tag for child in case if child.tag != "system-out"]) for case in claims[:-1]] == [
        ("good", []),
        ("bad", ["failure"]),
        ("unsure", ["skipped"]),
        ("svm", ["skipped"]),
    ]
    assert claims[-1].text == (
        "s: FAIL (fails: bad; 1 holds; 1 undecided: unsure; 1 not checked: svm)\nNot tested: Not on silicon."
    )
    assert claims.find("testcase/failure").get("message") == "2 -> 3 <loads>"
    assert claims[2].find("skipped").get("message") == "INCONCLUSIVE: U"
    assert [case.get("name") for case in cells.findall("testcase")] == ["a:3x3 [none]", "a:3x3 [p1]"]
    assert "stale translation" in cells.find("testcase/failure").get("message")
    assert cells.get("timestamp") == "2024-05-06T07:08:09+00:00"
    assert {entry.get("name") for entry in cells.findall("properties/property")} >= {
        "kernel_release",
        "command",
        "unit",
    }


def test_whatever_the_kernel_printed_the_document_stays_xml():
    record = replace(builders.record([], ("none",)), dmesg=("\x00\x1b[31mBUG: <&> \ud800 \ufffe",))
    (suite,) = ElementTree.fromstring(junit([record]).encode())
    assert "[31mBUG: <&>" in suite.findtext("system-err")


def test_what_fails_comes_with_the_command_that_shows_it():
    made = builders.record([Cell(Setup.NO_EPT, 3, 3)], ("none", "p1"), turns=1)
    record = replace(made, host={**made.host, "emulated": "vmx:skylake"}, results=(made.results[0],))
    broken = replace(record, results=(replace(record.results[0], probes=Probes(800, 1)),))
    claim = ClaimResult("bad", "B.", Outcome.FAIL, ("worse",), ("a:3x3",), ("p1",))
    verdict = Verdict.of("s", (claim,), (), ("kvmharness", "validate", "s"))
    claims, cells = ElementTree.fromstring(junit([broken], verdict))
    told = "this alone: kvmharness run a:3x3 --host vmx:skylake --series {} --variant {}"
    assert claims.findtext("testcase/system-out").endswith(told.format("s", "p1"))
    assert cells.findtext("testcase/system-out").endswith(told.format("fast-cr3-switch", "none"))
