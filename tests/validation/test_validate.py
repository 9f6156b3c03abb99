"""Validations on a host that is only pretended: what goes wrong on the way becomes the right verdict or error."""

from pathlib import Path

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.matrix import validation_matrix
from kvmharness.cells.turn import EXECUTE
from kvmharness.claims import parse_claims
from kvmharness.errors import ExitCode, HostRequirementError, LostMachineError
from kvmharness.lab.inside.modules import ModuleError
from kvmharness.lab.job import KernelPanicError, StepFailedError
from kvmharness.lab.kernels import build
from kvmharness.lab.steps import Load
from kvmharness.patches.series import load
from kvmharness.patches.variants import Plan
from kvmharness.results.record import VariantId
from kvmharness.results.verdict import Outcome
from kvmharness.validation.campaign import Variant
from kvmharness.validation.prepare import Built
from kvmharness.validation.validate import order, validate
from tests import builders
from tests.machines import FakeLoader, FakeMachine

CELLS = (Cell(Setup.NO_EPT, 3, 3), Cell(Setup.NO_EPT, 1, 1))
SERIES = load("fast-cr3-switch")
NAMES = ("none", "p1", "p2", "both")
MODULES_CLAIM = "modules-load-and-unload"


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
    machine = FakeMachine()
    seen = []
    found = run(machine, turns=2, command=("x",), on_result=lambda result, done, total: seen.append((done, total)))
    assert found.verdict.outcome is Outcome.PASS
    assert claim(found, MODULES_CLAIM).figures == ("8 times loaded and unloaded",)
    assert [r.variant for r in found.record.results][::2] == [*NAMES, *reversed(NAMES)]
    assert seen[-1] == (16, 16)
    assert len(machine.jobs) == 1
    assert found.verdict.variants == NAMES


def test_whole_kernels_get_a_boot_each_and_one_record():
    machine = FakeMachine()
    found = run(machine, built=built(kernels=4), turns=2)
    assert len(machine.jobs) == 4
    assert found.verdict.outcome is Outcome.PASS
    assert [v.name for v in found.record.variants] == list(NAMES)
    assert len(found.record.results) == 8


def panic_at(which):
    """Dies as that variant is loaded."""

    def dies(number, step):
        if isinstance(step, Load) and step.variant == which:
            raise KernelPanicError("the kernel panicked", console=("BUG: unable to handle page fault", "Kernel panic"))

    return dies


@pytest.mark.parametrize("kernels", [1, 4])
def test_a_variant_that_panics_the_kernel_fails_and_is_named(kernels):
    found = run(FakeMachine(dies=panic_at("p1")), built=built(kernels=kernels))
    assert found.verdict.outcome is Outcome.FAIL
    answer = claim(found, MODULES_CLAIM)
    assert answer.figures == ("variant p1, load: the kernel went down: BUG: unable to handle page fault",)
    assert answer.variants == ("p1",)
    assert {result.variant for result in found.record.results} == {"none", "p2", "both"}


def panic(job, on_event):
    raise KernelPanicError("the kernel panicked")


def test_a_variants_own_kernel_that_does_not_boot_is_its_fault(monkeypatch):
    dead = FakeMachine()
    monkeypatch.setattr(dead, "run", panic)
    machines = {"1": dead}  # p1 is the second of four kernels
    found = validate(built(kernels=4), lambda kernel: machines.get(kernel.image.name, FakeMachine()), CELLS)
    assert claim(found, MODULES_CLAIM).figures == ("variant p1, load: the kernel panicked",)
    assert found.verdict.outcome is Outcome.FAIL


def test_a_kernel_that_does_not_boot_before_any_variant_is_loaded_is_nobodys(monkeypatch):
    monkeypatch.setattr(FakeMachine, "run", lambda self, job, on_event: panic(job, on_event))
    with pytest.raises(KernelPanicError):
        run(FakeMachine())


@pytest.mark.parametrize("when", ["on_load", "on_unload"])
def test_modules_that_the_kernel_refuses_fail(when):
    def refuse(variant):
        if variant == "p1":
            raise ModuleError("rmmod kvm: in use")

    found = run(FakeMachine(FakeLoader(**{when: refuse})))
    assert found.verdict.outcome is Outcome.FAIL
    assert claim(found, MODULES_CLAIM).figures[0].startswith("variant p1, ")
    assert "in the host under test" in claim(found, MODULES_CLAIM).figures[0]


def test_a_lost_machine_is_no_verdict():
    def dies(number, step):
        if number == 4:
            raise LostMachineError("the emulator died")

    with pytest.raises(LostMachineError):
        run(FakeMachine(dies=dies))


def test_a_host_that_talks_nonsense_is_no_verdict():
    def forge(payload):
        return [payload.replace(b'"step":4', b'"step":40')]

    with pytest.raises(LostMachineError, match="step 40"):
        run(FakeMachine(forge=forge))


def no_kvm(emit, **arguments):
    raise HostRequirementError("no /dev/kvm")


def no_program(variant):
    raise HostRequirementError("insmod is not installed")


@pytest.mark.parametrize("machine", [FakeMachine(calls={EXECUTE: no_kvm}), FakeMachine(FakeLoader(on_load=no_program))])
def test_a_step_that_fails_for_other_reasons_is_no_verdict(machine):
    with pytest.raises(StepFailedError) as caught:
        run(machine)
    assert caught.value.exit_code == ExitCode.SKIPPED


def test_what_a_variant_alone_makes_the_kernel_say_is_a_failure():
    def warn(variant):
        if variant == "p1":
            machine.log.lines.append("WARNING: CPU: 0")

    machine = FakeMachine(FakeLoader(on_load=warn))
    found = run(machine)
    silence = claim(found, "no-new-messages")
    assert (silence.outcome, silence.variants) == (Outcome.FAIL, ("p1",))
    assert found.verdict.broken.startswith("patch 1 of 2, KVM: x86/mmu: Ignore guest CR3")
    assert found.verdict.broken.endswith("breaks no-new-messages; patch 2 repairs it")


def test_what_the_kernel_says_without_the_series_too_is_none_of_its_faults():
    def warn(variant):
        machine.log.lines.append(f"WARNING: CPU: 0 PID: {len(machine.log.lines)} at arch/x86/kvm/x86.c:1")

    machine = FakeMachine(FakeLoader(on_load=warn))
    assert claim(run(machine), "no-new-messages").outcome is Outcome.PASS


def test_order_alternates():
    assert order(("a", "b"), 3) == ("a", "b", "b", "a", "a", "b")


def test_every_claim_has_cells_in_the_default_matrix():
    """A pattern that is misspelt would never be judged."""
    found = validate(built(), lambda kernel: FakeMachine(), validation_matrix())
    answers = {answer.name: answer.outcome for answer in found.verdict.claims if "litmus" not in answer.name}
    not_asked_for = ("debug-kernel-is-quiet", "builds-cleanly", "selftests-hold", "unit-tests-hold")
    assert {answers.pop(name) for name in not_asked_for} == {Outcome.SKIPPED}
    assert set(answers.values()) == {Outcome.PASS}
