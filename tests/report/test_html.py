import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.matrix import select
from kvmharness.errors import HostRequirementError
from kvmharness.report.rows import rows
from kvmharness.results.record import CellError
from kvmharness.results.tests import TestResult
from kvmharness.results.verdict import Asked, ClaimResult, Outcome, Verdict
from tests import builders

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from kvmharness.report.html import page
from kvmharness.report.plots import cost_of_a_load, panels

pytestmark = pytest.mark.slow  # matplotlib

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Outline(HTMLParser):
    """Checks nesting, and collects ids, references and text."""

    def __init__(self, document):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.references, self.words = [], [], [], []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            elif name in ("src", "href", "xlink:href", "data", "action"):
                self.references.append(value)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def record():
    return builders.record(select(("a:?x?", "b:?x?", "c:[135]/AABB")), turns=1)


@pytest.fixture(scope="module")
def document(record):
    claims = (
        ClaimResult("loads", "Root loads equal the oracle.", Outcome.PASS, ("88 of 88 cells",)),
        ClaimResult("evil", "<script>alert(1)</script>", Outcome.PASS),
    )
    verdict = Verdict.of("fast-cr3-switch", claims, builders.VARIANTS, ("kvmharness", "validate", "a b"))
    return page([record, builders.record(select(("a:?x?",)), l0_ept=False, turns=1)], verdict)


def test_well_formed_and_self_contained(document):
    outline = Outline(document)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    assert all(reference.startswith("#") and reference[1:] in outline.ids for reference in outline.references)
    assert set(re.findall(r"url\(#([^)]+)\)", document)) <= set(outline.ids)
    assert "<script" not in document
    assert "@import" not in document


def test_two_runs_of_the_same_cells_share_no_id(record):
    ids = Outline(page([record, record])).ids
    assert ids
    assert len(ids) == len(set(ids))


def test_verdict_claims_command_and_facts_are_there(document):
    text = Outline(document).text
    for said in (
        "fast-cr3-switch PASS",
        "Root loads equal the oracle.",
        "88 of 88 cells",
        "<script>alert(1)</script>",
        "'a b'",
        "Linux 6.1.192",
        "bochs 2.7, skylake",
        "Ignore guest CR3 on fast root switch for direct MMU",
        "kvm_intel.ept=Y",
        "-11.9%",
        "e:3x3",
        "One root load costs about 1,200 instructions (emulated).",
        "4 roots fit",
    ):
        assert said in text, said


def test_drawings_take_their_colours_from_the_page(document):
    for svg in re.findall(r"<svg.*?</svg>", document, flags=re.DOTALL):
        assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == set()
        assert "var(--ink)" in svg
    assert document.count("<svg") == 2 * 4
    for name in set(re.findall(r"var\((--\w+)\)", document)):
        assert f"{name}: " in document, name


def test_the_same_run_makes_the_same_page(record):
    assert page([record]) == page([record])


def test_the_cost_of_a_load_is_found_in_the_differences(record):
    members = [row for row in rows(record) if row.family == "a"]
    assert cost_of_a_load(members) == pytest.approx(builders.MISS_TICKS, rel=0.01)
    assert cost_of_a_load([row for row in members if row.variant == "none"]) is None


def test_families_too_small_for_a_curve_are_not_plotted(record):
    few = builders.record([Cell(Setup.NO_EPT, n) for n in (1, 5)])
    assert panels(few, rows(few)) == []
    assert [panel.family for panel in panels(record, rows(record))] == ["a", "b", "c/AABB"]


def test_failures_stand_above_the_figures():
    record = builders.record([Cell(Setup.NO_EPT, 3, 3)], turns=1)
    failed = replace(
        record.results[0], error=CellError("EntryFailure", "VM-instruction error 7"), samples=(), counts={}
    )
    text = Outline(page([replace(record, results=(failed, *record.results[1:]), dmesg=("WARNING: mmu.c",))])).text
    assert "KVM run FAIL" in text
    assert "EntryFailure: VM-instruction error 7" in text
    assert "WARNING: mmu.c" in text


@pytest.mark.parametrize("host", [{}, {"cpu_flags": ["x"] * 200, "l0_ept": None, "mitigations": {"spectre_v2": "off"}}])
def test_a_host_that_tells_little_or_much(host):
    record = replace(builders.record([Cell(Setup.NO_EPT, 3, 3)], ("host",), emulated=False), host=host)
    assert "unknown CPU" in Outline(page([record])).text


def test_an_empty_run_still_makes_a_page():
    assert "KVM run SKIPPED" in Outline(page([builders.record([])])).text


@pytest.mark.parametrize("name", ["jinja2", "matplotlib"])
def test_a_missing_extra_says_what_to_install(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    with pytest.raises(HostRequirementError, match="the HTML report needs") as caught:
        page([builders.record([])])
    assert "kvmharness[report]" in caught.value.hint


def test_tests_are_shown_with_their_evidence():
    failed = TestResult("selftests", "x86_64/smm_test", "p1", outcome="fail", why="line <3>", table=("a & b",))
    run = replace(builders.record([], ("none", "p1")), tests=(failed, replace(failed, variant="none", outcome="pass")))
    html = page([run])
    assert "fail: x86_64/smm_test: line &lt;3&gt;" in html
    assert "a &amp; b" in html
    assert "1 passed, 0 failed, 0 skipped" in html
    assert "<title>KVM run: FAIL</title>" in html


def test_what_maintainers_ask_for_is_a_table():
    rows = (Asked("KVM selftests", "vmx: 36 passed", "PASS"), Asked("On hardware", because="emulated hosts only"))
    html = page([builders.record([], ("none",))], Verdict.of("s", (), (), (), checklist=rows))
    assert "What KVM's maintainers ask for" in html
    assert "emulated hosts only" in html
    assert "Not tested: On hardware" in " ".join(html.split())
