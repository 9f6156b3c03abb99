"""Validations on a host that is only pretended: what goes wrong on the way becomes the right verdict or error."""

from pathlib import Path

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.matrix import validation_matrix
from kvmharness.claims import parse_claims
from kvmharness.errors import ExitCode, LostMachineError
from kvmharness.lab.job import KernelPanicError
from kvmharness.lab.kernels import build
from kvmharness.patches.series import load
from kvmharness.patches.variants import Plan
from kvmharness.results.record import VariantId
from kvmharness.results.verdict import Outcome
from kvmharness.validation.campaign import StepFailedError, Variant
from kvmharness.validation.validate import Built, order, validate
from tests import builders

CELLS = (Cell(Setup.NO_EPT, 3, 3), Cell(Setup.NO_EPT, 1, 1))
SERIES = load("fast-cr3-switch")
NAMES = ("none", "p1", "p2", "both")
MODULES_CLAIM = "modules-load-and-unload"


class PretendedMachine:
    """Answers a job's steps as an agent would, with figures from the builders.

    Attributes:
        trouble: called with each step's number and content before it is answered; may raise, or return an event.
    """

    description = "pretended"

    def __init__(self, trouble=lambda number, step: None):
        self.trouble = trouble
        self.jobs = []

    def run(self, job, on_event):
        job.check()
        self.jobs.append(job)
        for number, step in enumerate(job.steps):
            on_event({"step": number, "event": "begin", "do": step["do"]})
            if event := self.trouble(number, step):
                on_event({"step": number, **event})
            if step["do"] == "call":
                self.answer(number, step["args"], on_event)
            on_event({"step": number, "event": "end", "result": None})

    def answer(self, number, arguments, on_event):
        host = {"kernel_release": "6.1.192", "emulated": True, "l0_ept": True}
        on_event({"step": number, "event": "data", "data": {"host": host}})
        for cell in map(Cell.from_json, arguments["cells"]):
            result = builders.result(cell, arguments["variant"], turn=arguments["turn"], l0_ept="ept=0" not in cell.id)
            on_event({"step": number, "event": "data", "data": {"result": result.to_json()}})


def built(names=NAMES, kernels=1):
    """As prepared, without having compiled anything."""
    images = [build.Kernel(Path(f"/boot/{i % kernels}"), Path("/modules")) for i in range(len(names))]
    return Built(
        Plan(SERIES, Path("/src"), "6.1", (True, True), (), {}, ()),
        dict(zip(names, images, strict=True)),
        tuple(Variant(VariantId(name, "test", oracle=builders.view(name)), Path(f"/{name}")) for name in names),
        parse_claims(SERIES.claims, SERIES.claims_path),
    )


def run(machine, **options):
    return validate(options.pop("built", None) or built(), lambda kernel: machine, CELLS, **options)


def claim(found, name):
    return next(answer for answer in found.verdict.claims if answer.name == name)


def test_the_true_series_passes_in_one_boot():
    machine = PretendedMachine()
    seen = []
    found = run(machine, turns=2, command=("x",), on_result=lambda result, done, total: seen.append((done, total)))
    assert found.verdict.outcome is Outcome.PASS
    assert claim(found, MODULES_CLAIM).figures == ("8 times loaded and unloaded",)
    assert [r.variant for r in found.record.results][::2] == [*NAMES, *reversed(NAMES)]
    assert seen[-1] == (16, 16)
    assert len(machine.jobs) == 1
    assert found.verdict.variants == NAMES


def test_whole_kernels_get_a_boot_each_and_one_record():
    machine = PretendedMachine()
    found = run(machine, built=built(kernels=4), turns=2)
    assert len(machine.jobs) == 4
    assert found.verdict.outcome is Outcome.PASS
    assert [v.name for v in found.record.variants] == list(NAMES)
    assert len(found.record.results) == 8


def test_a_variant_that_panics_the_kernel_fails_and_is_named():
    def trouble(number, step):
        if step.get("variant") == "p1":
            raise KernelPanicError("the kernel panicked", console=("BUG: unable to handle page fault", "Kernel panic"))

    found = run(PretendedMachine(trouble))
    assert found.record is None
    assert found.verdict.outcome is Outcome.FAIL
    figures = claim(found, MODULES_CLAIM).figures
    assert figures[0] == "variant p1: the kernel panicked"
    assert figures[-1] == "Kernel panic"


@pytest.mark.parametrize("kind", ["load", "unload"])
def test_modules_that_the_kernel_refuses_fail(kind):
    def trouble(number, step):
        if step["do"] == kind and number >= 3:
            return {"event": "error", "type": "ModuleError", "message": "rmmod kvm: in use", "exit_code": 5}

    found = run(PretendedMachine(trouble))
    assert found.verdict.outcome is Outcome.FAIL
    assert "variant p1: in the host under test" in claim(found, MODULES_CLAIM).figures[0]


def test_a_lost_machine_is_no_verdict():
    def trouble(number, step):
        if number == 4:
            raise LostMachineError("the emulator died")

    with pytest.raises(LostMachineError):
        run(PretendedMachine(trouble))


def test_a_step_that_fails_for_other_reasons_is_no_verdict():
    def trouble(number, step):
        if step["do"] == "call":
            return {"event": "error", "type": "HostRequirementError", "message": "no /dev/kvm", "exit_code": 4}

    with pytest.raises(StepFailedError) as caught:
        run(PretendedMachine(trouble))
    assert caught.value.exit_code == ExitCode.SKIPPED


def test_what_the_kernel_says_while_loading_fails_the_claim_of_silence():
    def trouble(number, step):
        if step["do"] == "load":
            return {"event": "dmesg", "lines": ["WARNING: CPU: 0"]}

    found = run(PretendedMachine(trouble))
    assert claim(found, "kernel-log-silent").outcome is Outcome.FAIL


def test_order_alternates():
    assert order(("a", "b"), 3) == ("a", "b", "b", "a", "a", "b")


def test_every_claim_has_cells_in_the_default_matrix():
    """A pattern that is misspelt would never be judged."""
    found = validate(built(), lambda kernel: PretendedMachine(), validation_matrix())
    assert {answer.outcome for answer in found.verdict.claims} == {Outcome.PASS}
