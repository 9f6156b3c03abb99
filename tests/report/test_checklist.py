"""The maintainers' checklist as a table and as a paragraph."""

from kvmharness.report.checklist import checklist_lines, cover_lines
from kvmharness.results.verdict import Asked, ClaimResult, Outcome, Verdict
from tests import builders

ROWS = (
    Asked("KVM selftests, with and without", "vmx: 36 passed, 1 failed, 15 skipped, 61 s", "PASS"),
    Asked("Both vendors", "vmx", "partly", "not with AMD-V (kvm_amd)"),
    Asked("On hardware", because="emulated hosts only"),
)


def test_the_table_wraps_inside_its_columns():
    assert checklist_lines(ROWS) == [
        "asked for by the maintainers    done                                  result        not done because",
        "------------------------------  ------------------------------------  ------------  ------------------------",
        "KVM selftests, with and         vmx: 36 passed, 1 failed, 15          PASS          -",
        "without                         skipped, 61 s",
        "Both vendors                    vmx                                   partly        not with AMD-V (kvm_amd)",
        "On hardware                     -                                     -             emulated hosts only",
    ]


def test_the_paragraph_says_what_was_done_and_what_was_not():
    verdict = Verdict.of("s", (ClaimResult("good", "G", Outcome.PASS),), (), (), checklist=ROWS)
    lines = cover_lines([builders.record([], ("none",))], verdict)
    assert max(map(len, lines)) <= 72
    text = " ".join(lines)
    assert "without the series: Linux 6.1.192 on emulated host (bochs 2.7, skylake)." in text
    assert "KVM selftests, with and without: pass (vmx: 36 passed, 1 failed, 15 skipped, 61 s). Both vendors" in text
    assert text.endswith("Not tested: Both vendors (not with AMD-V (kvm_amd)); On hardware (emulated hosts only).")


def test_the_list_comes_back_from_a_document():
    verdict = Verdict.of("s", (), (), (), checklist=ROWS)
    assert Verdict.from_json(verdict.to_json()) == verdict
