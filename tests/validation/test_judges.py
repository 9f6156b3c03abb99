"""From records to the verdict: which patch breaks what, what hosts say together, what nobody looked at."""

from dataclasses import replace

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.claims import parse_claims
from kvmharness.results.incidents import Loss
from kvmharness.results.verdict import ClaimResult, Outcome
from kvmharness.validation.judges import Subject, judge
from tests.builders import NONE, record

A33 = Cell(Setup.NO_EPT, 3, 3)
NAMES = (NONE, "p1", "p2", "p3", "p1-2", "all")
PREFIXES = {NONE: 0, "p1": 1, "p1-2": 2, "all": 3}
SUBJECT = Subject("series", ("First", "Second", "Third"), PREFIXES)


def run(*doubled, names=NAMES, cells=(A33,), **options):
    """A record in which some variants load twice as many roots as without the series, the others as many."""
    made = record(cells, names, turns=1, **options)
    loads = {r.key: r.counts["kvm_mmu_load"] for r in made.results if r.variant == NONE}

    def of(result):
        count = loads[result.key] * (2 if result.variant in doubled else 1)
        return replace(result, counts={**result.counts, "kvm_mmu_load": count}, predicted=None)

    return replace(made, results=tuple(of(result) for result in made.results))


def test_a_series_of_no_effect_passes():
    verdict = judge(SUBJECT, {"vmx": run()}, command=("x",))
    assert (verdict.outcome, verdict.broken, verdict.effects) == (Outcome.PASS, "", ())
    skipped = "litmus-tests-hold, litmus-no-more-work, loads-as-predicted, no-leak and 4 more"
    assert verdict.headline == f"series: PASS (11 hold; 8 not checked: {skipped})"


@pytest.mark.parametrize(
    ("doubled", "broken"),
    [
        (["p1", "p1-2", "all"], "patch 1 of 3, First, breaks no-more-loads"),
        (["p1-2", "all"], "patch 2 of 3, Second, breaks no-more-loads"),
        (["p1-2"], "patch 2 of 3, Second, breaks no-more-loads; patch 3 repairs it"),
        (["p1"], "patch 1 of 3, First, breaks no-more-loads; patch 2 repairs it"),
        (["p1", "all"], "patch 1 of 3, First, breaks no-more-loads"),
        (["all"], "patch 3 of 3, Third, breaks no-more-loads"),
    ],
)
def test_the_first_prefix_that_breaks_is_named(doubled, broken):
    verdict = judge(SUBJECT, {"vmx": run(*doubled)})
    assert (verdict.outcome, verdict.broken) == (Outcome.FAIL, broken)
    assert verdict.headline.startswith(f"series: FAIL ({broken}; ")


def test_a_patch_alone_is_judged_by_nobody_unless_it_is_named():
    table = {"name": "n", "text": "t", "metric": "loads", "check": "exactly", "value": 2}
    broken = {"vmx": run("p2", "p3")}
    assert judge(replace(SUBJECT, claims=parse_claims([table])), broken).outcome is Outcome.PASS
    named = judge(replace(SUBJECT, claims=parse_claims([table | {"variants": "p2"}])), broken)
    assert named.outcome is Outcome.FAIL
    assert named.broken == ""


def test_a_patch_alone_is_judged_where_it_is_all_that_was_asked_for():
    verdict = judge(SUBJECT, {"vmx": run("p2", names=(NONE, "p2"))})
    assert verdict.outcome is Outcome.FAIL
    assert verdict.headline.startswith("series: FAIL (fails: no-more-loads; ")


def test_a_prefix_that_does_not_build_is_named_as_well():
    builds = ClaimResult("every-prefix-builds", "It builds.", Outcome.FAIL, ("error: x",), variants=("p1-2",))
    verdict = judge(SUBJECT, {"vmx": run(names=(NONE, "p1", "all"))}, [builds])
    assert verdict.broken == "patch 2 of 3, Second, breaks every-prefix-builds; patch 3 repairs it"


def test_nothing_to_compare_is_no_pass():
    builds = ClaimResult("every-prefix-builds", "They do.", Outcome.PASS)
    assert judge(SUBJECT, {"vmx": run(names=(NONE,))}, [builds]).outcome is Outcome.SKIPPED
    skipped = run()
    skipped = replace(skipped, results=tuple(replace(r, skipped="no VMX") for r in skipped.results))
    assert judge(SUBJECT, {"vmx": skipped}, [builds]).outcome is Outcome.SKIPPED


def test_hosts_are_one_verdict_and_the_one_that_disagrees_is_named():
    verdict = judge(SUBJECT, {"vmx": run(), "vmx:penryn": run("all")})
    (loads,) = [claim for claim in verdict.claims if claim.name == "no-more-loads"]
    assert verdict.outcome is Outcome.FAIL
    assert loads.figures == ("vmx:penryn: a:3x3 all: loads 2 -> 4 per round trip",)


def test_effects_are_those_of_the_whole_series_and_say_since_when():
    fewer = record((A33,), (NONE, "p1", "both"), turns=1)
    subject = Subject("fast-cr3-switch", ("First", "Second"), {NONE: 0, "p1": 1, "both": 2})
    verdict = judge(subject, {"vmx": fewer})
    assert verdict.effects[0] == "root loads lower since p1, per round trip: a:3x3 2 -> 0"
    assert verdict.effects[1].startswith(
        "time lower since p1, in instructions (emulated) per round trip: a:3x3 20,100 -> 17,700"
    )


def test_what_was_not_tested_is_told():
    skipped = run(cells=(A33, Cell(Setup.L1_ALONE, 5, 0)))
    results = tuple(replace(r, skipped="no such thing") if r.id.startswith("d:") else r for r in skipped.results)
    host = {**skipped.host, "vendor_module": "kvm_intel"}
    told = judge(
        replace(SUBJECT, left_out={"p3": "hunk 1 does not apply"}),
        {"vmx": replace(skipped, results=results, host=host)},
    ).untested
    assert "Not with SVM (kvm_amd)." in told
    assert told[0].startswith("Not on silicon: emulated hosts only (bochs 2.7, skylake)")
    assert "Not 1 of the cells (d:5): no such thing." in told
    assert "Not variant p3: hunk 1 does not apply." in told
    assert "Only Linux 6.1.192." in told


def test_on_silicon_nobody_says_that_it_was_not():
    silicon = run(emulated=False, noise=0.01)
    told = judge(SUBJECT, {"local": replace(silicon, host={**silicon.host, "cpu_model": "Some CPU"})}).untested
    assert told[0] == "Only on Some CPU."


def test_a_variant_that_takes_the_kernel_down_as_it_loads_is_named():
    loss = Loss("p1-2", 0, "load", "KernelPanicError", "the kernel panicked")
    whole = run()
    record = replace(whole, losses=(loss,), results=tuple(r for r in whole.results if r.variant != "p1-2"))
    verdict = judge(SUBJECT, {"vmx": record})
    assert verdict.broken == "patch 2 of 3, Second, breaks modules-load-and-unload; patch 3 repairs it"
    (loads,) = [claim for claim in verdict.claims if claim.name == "modules-load-and-unload"]
    assert loads.figures == ("variant p1-2, load: the kernel panicked",)


def test_a_run_that_was_cut_short_is_no_pass():
    verdict = judge(SUBJECT, {"vmx": replace(run(), partial="the run was cut short")})
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "1 undecided: results-present" in verdict.headline
