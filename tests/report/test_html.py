import gzip
import re
import sys
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.matrix import select
from kvmharness.errors import HostRequirementError
from kvmharness.report.exits import exit_table
from kvmharness.report.rows import rows
from kvmharness.results.document import load_answered
from kvmharness.results.incidents import KernelReport
from kvmharness.results.record import CellError
from kvmharness.results.tests import TestResult
from kvmharness.results.verdict import NO_MORE_WORK, Asked, ClaimResult, Outcome, Verdict
from tests import builders

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from kvmharness.report.html import page
from kvmharness.report.plots import cost_of_a_load, mark, panels

pytestmark = pytest.mark.slow  # matplotlib

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Outline(HTMLParser):
    """Checks nesting, and collects ids, references, text, and the class of what each table stands in."""

    around = ""  # the class of the last element that began

    def __init__(self, document):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.references, self.words, self.tables = [], [], [], [], []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append(self.around)
        self.around = dict(attributes).get("class", "")
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
        ClaimResult("loads", "Root loads equal the oracle.", Outcome.PASS, ("88 of 88 cells",), group=NO_MORE_WORK),
        ClaimResult("evil", "<script>alert(1)</script>", Outcome.PASS),
    )
    verdict = Verdict.of("fast-cr3-switch", claims, builders.VARIANTS, ("kvmharness", "validate", "a b"))
    other = builders.record(select(("a:?x?",)), l0_ept=False, turns=1)
    return page([record, replace(other, host={**other.host, "name": "vmx:penryn"})], verdict)


def test_well_formed_and_self_contained(document):
    outline = Outline(document)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    local = [reference for reference in outline.references if not reference.startswith("data:application/gzip;base64,")]
    assert len(local) == len(outline.references) - 1  # the record
    assert all(reference.startswith("#") and reference[1:] in outline.ids for reference in local)
    assert "default-src 'none'; style-src 'unsafe-inline'" in document
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
        "fast-cr3-switch PASS With the series nothing is worse than without it; 2 claims hold",
        "p1 Ignore guest CR3 on fast root switch for direct MMU root loads: 2 fewer a round trip (a:3x3 2 → 0), and in",
        "p2 Reuse the current root if possible for fast switch root loads: 1 fewer a round trip (c:3/AABB 1 → 0), and",
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
        "cells on 2 hosts",
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
    """What there is stands in one plot then, unless it is too much for one."""
    few = builders.record([Cell(Setup.NO_EPT, n) for n in (1, 5)])
    (panel,) = panels(few, rows(few), builders.VARIANTS)
    assert (panel.family, panel.time) == ("cells", "")
    assert "a:5x1" in panel.loads
    assert [panel.family for panel in panels(record, rows(record), builders.VARIANTS)] == ["a", "b", "c/AABB"]


def test_the_largest_effect_is_plotted_first():
    run = builders.record(select(("b:?x1", "a:?x?")))
    assert [(panel.family, panel.effect) for panel in panels(run, rows(run), builders.VARIANTS)] == [("a", 2), ("b", 1)]


def test_variants_keep_apart_however_many_there_are():
    assert len({mark(index) for index in range(64)}) == 64
    names = [f"v{index}" for index in range(14)]
    run = builders.record([Cell(Setup.NO_EPT, n, 1) for n in (1, 3, 5)], names, turns=1)
    (panel,) = panels(run, rows(run), names)
    xs = sorted(float(x) for x in re.findall(r'<use xlink:href="#\S+" x="([0-9.]+)"', panel.loads))
    gaps = [later - earlier for earlier, later in pairwise(xs)]
    assert sum(gap > 2 * min(each for each in gaps if each) for gap in gaps) == 2  # three places, and room between


def test_failures_stand_above_the_figures():
    record = builders.record([Cell(Setup.NO_EPT, 3, 3)], turns=1)
    failed = replace(
        record.results[0], error=CellError("EntryFailure", "VM-instruction error 7"), samples=(), counts={}
    )
    text = Outline(page([replace(record, results=(failed, *record.results[1:]), dmesg=("WARNING: mmu.c",))])).text
    assert "fast-cr3-switch FAIL Of 4 cells and variants: 1 fail, 3 are as they must be." in text
    assert "EntryFailure: VM-instruction error 7" in text
    assert "WARNING: mmu.c" in text


@pytest.mark.parametrize("host", [{}, {"cpu_flags": ["x"] * 200, "l0_ept": None, "mitigations": {"spectre_v2": "off"}}])
def test_a_host_that_tells_little_or_much(host):
    record = replace(builders.record([Cell(Setup.NO_EPT, 3, 3)], ("host",), emulated=False), host=host)
    assert "unknown CPU" in Outline(page([record])).text


def test_an_empty_run_still_makes_a_page():
    assert "fast-cr3-switch SKIPPED Nothing was run." in Outline(page([builders.record([])])).text


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
    assert "<title>fast-cr3-switch: FAIL</title>" in html


def test_what_maintainers_ask_for_is_a_table():
    rows = (Asked("KVM selftests", "vmx: 36 passed", "PASS"), Asked("On hardware", because="emulated hosts only"))
    html = page([builders.record([], ("none",))], Verdict.of("s", (), (), (), checklist=rows))
    assert "What KVM's maintainers ask for" in html
    assert "emulated hosts only" in html
    assert "Not tested: On hardware" in " ".join(html.split())


@pytest.fixture(scope="module")
def failing(record):
    """A series that fails, holds and leaves open, each in one claim."""
    claims = (
        ClaimResult("held", "It holds.", Outcome.PASS, ("44 cells",), group=NO_MORE_WORK),
        ClaimResult("stale", "No stale reads.", Outcome.FAIL, ("a:3x3 both: stale: L2",), ("a:3x3",), ("both",)),
        ClaimResult("table", "Litmus.", Outcome.FAIL, ("x both: row 3\n0 | L1 | read p0",)),
        ClaimResult("open", "It is open.", Outcome.INCONCLUSIVE, ("loads: no kprobes",)),
        ClaimResult("too", "It is open, too.", Outcome.INCONCLUSIVE, ("loads: no kprobes",)),
        ClaimResult("not", "Not looked at.", Outcome.SKIPPED, ("not asked for",)),
    )
    told = {"untested": ("Not on silicon.",), "broken": "patch 2 of 2, Reuse, breaks stale"}
    command = ("kvmharness", "validate", "fast-cr3-switch", "--host", "vmx")
    emulated = replace(record, host={**record.host, "name": "vmx", "emulated": "vmx:skylake"})
    return page([emulated], Verdict.of("fast-cr3-switch", claims, builders.VARIANTS, command, **told))


def test_the_story_is_told_in_order(failing):
    text = Outline(failing).text
    parts = (
        "fast-cr3-switch FAIL Patch 2 of 2, Reuse, breaks stale; 1 claim holds, 2 are undecided (open, too), 1",
        "p1 Ignore guest CR3",
        "4 roots fit",
        "Root loads and time per round trip",
        "What failed FAIL No stale reads.",
        "a:3x3 both: stale: L2",
        "INCONCLUSIVE It is open.",
        "What holds KVM does no more work, and takes no longer: 1 hold",
        "What was tested, and what was not",
        "Not on silicon.",
        "Not checked",
        "Host and kernels",
        "Exits per round trip, by set-up and variant",
        " cells and variants cell variant round trips",
        "fast-cr3-switch.json.gz : the record and the verdict.",
    )
    places = [text.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places)


def test_what_fails_comes_with_the_command_that_shows_it(failing):
    (command,) = re.findall(r'This alone:</p>\s*<pre class="command">(.*?)</pre>', failing.partition("Litmus.")[0])
    assert command == "kvmharness run a:3x3 --host vmx --series fast-cr3-switch --variant both"
    assert re.search(r'<pre class="figures">x both: row 3\n0 \| L1', failing)


def test_why_something_is_open_is_said_once(failing):
    assert failing.count("loads: no kprobes") == 1
    assert "as for open" in failing


def test_the_record_in_the_page_makes_the_page_again(failing, tmp_path):
    (packed,) = re.findall(r'href="data:application/gzip;base64,([^"]+)"', failing)
    (tmp_path / "x.json").write_bytes(gzip.decompress(b64decode(packed)))
    assert page(*load_answered(tmp_path / "x.json")) == failing


def test_nothing_is_wider_than_a_telephone(document):
    """What may be wide lies in something that scrolls, and no width is fixed."""
    outline = Outline(document)
    assert set(outline.tables) == {"scroll"}
    assert not re.search(r"<(?:svg|table|img|div|td|th)[^>]* width=", document)
    style = document.partition("<style>")[2].partition("</style>")[0]
    assert all(
        float(size) <= 15 for size in re.findall(r"(?<!max-)width: ([0-9.]+)rem", style.replace("(max-width", "("))
    )
    assert "pre { background" in style
    assert "overflow-x: auto" in style


def test_dark_is_for_screens_and_print_opens_what_is_folded(document):
    assert "@media screen and (prefers-color-scheme: dark)" in document
    assert "details.printed::details-content" in document.partition("@media print")[2]


def test_exits_are_told_by_variant():
    run = builders.record([Cell(Setup.NO_EPT, 3, 3)], ("none", "both"), turns=1)
    more = replace(run.results[1], exits={**run.results[1].exits, "VMREAD": 800})
    table = exit_table(rows(replace(run, results=(run.results[0], more))), ("none", "both"))
    assert table.reasons == ["VMCALL", "VMREAD", "VMRESUME", "VMWRITE"]
    assert table.lines == [("a", "none", ["1", "0", "1", "1"]), ("a", "both", ["1", "2", "1", "1"])]


def test_a_series_of_many_patches_shows_what_grows():
    titles = tuple(f"Patch {number}" for number in range(1, 7))
    names = ["none", *(f"p{n}" for n in range(1, 7)), *(f"p1-{n}" for n in range(2, 6)), "all"]
    members = [(), *((n,) for n in range(1, 7)), *(tuple(range(1, n + 1)) for n in range(2, 6)), tuple(range(1, 7))]
    made = builders.record([Cell(Setup.NO_EPT, n, n) for n in (1, 3, 4)], names, turns=1)
    variants = tuple(
        replace(variant, patches=tuple(titles[n - 1] for n in own))
        for variant, own in zip(made.variants, members, strict=True)
    )
    text = Outline(page([replace(made, variants=variants)])).text
    assert "cell none p1 p1-2 p1-3 p1-4 p1-5 all set-up" in text
    # To the builders, p1 is a kernel with one patch of another series, and the prefixes have none of it.
    assert "p1 Patch 1 root loads: 2 fewer a round trip (a:3x3 2 → 0), and in 1 more cell a:3x3, a:4x4 time:" in text
    assert "p2 Patch 2 root loads: 2 more a round trip (a:3x3 0 → 2), and in 1 more cell " in text
    assert "p3, p4, p5, p6: root loads and time as before" in text
    assert "p1-2 Patch 1; Patch 2 " in text
    assert "p1-5 the 5 up to: Patch 5 " in text


def test_a_run_that_was_cut_short_shows_what_there_is():
    run = builders.record([Cell(Setup.NO_EPT, n, n) for n in (1, 3, 4)], turns=1)
    some = tuple(result for result in run.results if result.variant in ("none", "p1"))
    text = Outline(page([replace(run, results=some, partial="the run was cut short")])).text
    assert "INCONCLUSIVE Of 6 cells and variants: 6 are as they must be. The run was cut short, so this is not" in text
    assert "cell none p1 none p1 set-up a:3x3 2 0" in text


def test_without_a_result_the_kernel_s_words_are_the_evidence():
    report = KernelReport("p1", 0, "a:3x3", "oops", "BUG: NULL pointer", "f+1", "g+2", ("h",), ("line <1>",))
    again = replace(report, turn=1)
    text = Outline(page([replace(builders.record([Cell(Setup.NO_EPT)]), reports=(report, again))])).text
    assert text.count("oops: BUG: NULL pointer") == 1
    assert "a:3x3, and 1 times more; at f+1" in text
    assert (
        "What the kernel complained of oops: BUG: NULL pointer in p1, turn 0, a:3x3, and 1 times more; at f+1; RIP g+2"
        in text
    )


def test_a_patch_that_leaves_no_figure_does_not_leave_all_as_it_was():
    run = builders.record([Cell(Setup.NO_EPT, 3, 3)], ("none", "p1"), turns=1)
    died = replace(run.results[1], error=CellError("KernelPanicError", "the kernel went down"), samples=(), counts={})
    text = Outline(page([replace(run, results=(run.results[0], died))])).text
    assert "p1: no figures to compare" in text
    assert "as before" not in text
    assert "a:3x3 2 fails 20,100 -" in text
