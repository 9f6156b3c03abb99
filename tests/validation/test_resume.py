"""What is left of a run that was cut short, and how it goes on."""

from dataclasses import replace

import pytest

from kvmharness.errors import UsageError
from kvmharness.lab.steps import Call
from kvmharness.results.journal import Journal
from kvmharness.results.store import load
from kvmharness.results.tests import TestResult
from kvmharness.validation.campaign import Keeping, run_in
from tests.machines import FakeMachine
from tests.validation.campaigns import ALONE, BOTH, NO_EPT, NONE, OOPS, panics, run


def cut(tmp_path, after, machine=None):
    """A journal of a run of four results that ended after some."""
    heard = []

    def interrupt(result, done, total):
        heard.append(result)
        if done == after:
            raise KeyboardInterrupt

    with Journal(tmp_path / "r.json") as journal, pytest.raises(KeyboardInterrupt):
        run_in(
            machine or FakeMachine(),
            (NONE, BOTH),
            ("none", "both"),
            (NO_EPT, ALONE),
            command=("kvmharness",),
            on_result=interrupt,
            keeping=Keeping(journal),
        )
    return journal.path


@pytest.mark.parametrize("after", [1, 2, 3])
def test_every_result_is_there_and_it_says_that_it_was_cut_short(tmp_path, after):
    record = load(cut(tmp_path, after))
    assert (len(record.results), record.partial) == (after, "the run was cut short")


def test_half_a_line_is_no_result(tmp_path):
    path = cut(tmp_path, 3)
    path.write_bytes(path.read_bytes()[:-40])
    assert len(load(path).results) == 2


@pytest.mark.parametrize("after", [1, 2, 3])
def test_it_goes_on_where_it_was_cut(tmp_path, after):
    earlier = load(cut(tmp_path, after))
    machine = FakeMachine()
    resumed, _ = run(machine, ("none", "both"), (NO_EPT, ALONE), keeping=Keeping(earlier=earlier))
    whole, _ = run(FakeMachine(), ("none", "both"), (NO_EPT, ALONE))
    assert resumed.results == whole.results
    asked = [cell["id"] for step in machine.jobs[0].steps if isinstance(step, Call) for cell in step.args["cells"]]
    assert len(asked) == 4 - after


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: replace(r, partial=""), "is complete"),
        (lambda r: replace(r, variants=r.variants[:1]), "has variants none, this run none, both"),
        (
            lambda r: replace(r, variants=(r.variants[0], replace(r.variants[1], build_id="x"))),
            "variant both of the",
        ),
        (lambda r: replace(r, host={**r.host, "cpu_model": "other"}), "another host: cpu_model differs"),
    ],
)
def test_another_runs_record_is_refused(tmp_path, change, said):
    earlier = change(load(cut(tmp_path, 1)))
    with pytest.raises(UsageError, match=said):
        run(FakeMachine(), ("none", "both"), (NO_EPT, ALONE), keeping=Keeping(earlier=earlier))


def test_the_whole_console_stands_beside_it(tmp_path):
    machine = FakeMachine(dies_in=panics("both", "d:2"))
    with Journal(tmp_path / "r.json") as journal:
        run(machine, ("none", "both"), (NO_EPT, ALONE), keeping=Keeping(journal))
    assert journal.console.read_text().splitlines() == [
        "=== both, turn 1, d:2",
        *OOPS,
    ]


def test_what_the_kernel_said_during_the_cells_that_are_kept_is_kept(tmp_path):
    def saying(variant, cell, doing):
        if (variant, cell, doing) == ("none", "a:3x3", "timing"):
            machine.log.lines.append(OOPS[0])

    machine = FakeMachine(dies_in=saying)
    earlier = load(cut(tmp_path, 1, machine))
    resumed, _ = run(FakeMachine(), ("none", "both"), (NO_EPT, ALONE), keeping=Keeping(earlier=earlier))
    assert resumed.dmesg == (OOPS[0],)
    assert [(report.variant, report.step, report.kind) for report in resumed.reports] == [("none", "a:3x3", "oops")]


def test_tests_are_kept_beside_the_results(tmp_path):
    path = cut(tmp_path, 4)
    first = TestResult("selftests", "smm_test", "none", {"kvm.tdp_mmu": "N"}, "fail", "line 3", ("a", "b"))
    with Journal(tmp_path / "other.json") as journal:
        journal.begin(replace(load(path), tests=(first,)))
        journal.add_test(replace(first, variant="both"))
    found = load(journal.path)
    assert len(found.results) == 4
    assert found.tests == (first, replace(first, variant="both"))
