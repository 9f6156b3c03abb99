"""The debug-kernel pass: every variant once more, under a kernel that looks for what has no consequences yet.

Each variant gets a host of its own, and is judged by the first report: one of KASAN's switches lockdep off, and each
reports once, so what comes behind the first one, or does not come, tells nothing. Nothing is timed.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby

from kvmharness.cells.cell import Cell
from kvmharness.cells.params import Params
from kvmharness.cells.surroundings import Surroundings
from kvmharness.cells.turn import DiffersError
from kvmharness.errors import KvmHarnessError, LostMachineError
from kvmharness.lab.events import Begin, Data, Dmesg, Event, Output
from kvmharness.lab.inside.modules import BUSYBOX, ModuleError
from kvmharness.lab.job import HangError, Job, KernelPanicError, Machine, StepFailedError
from kvmharness.lab.kernels import build, debugging
from kvmharness.lab.kernels.source import Source
from kvmharness.lab.steps import Exec, Load, Step, Unload
from kvmharness.litmus.program import Program
from kvmharness.results.incidents import LOAD, UNLOAD
from kvmharness.results.kernelwords import Words, reports
from kvmharness.results.tests import DEBUG_KERNEL, FAIL, PASS, SKIP, TestResult
from kvmharness.system.programs import Progress
from kvmharness.validation.campaign import Variant
from kvmharness.validation.exercises import Exercise, a_few, exercises, settings
from kvmharness.validation.litmus import OnTest
from kvmharness.validation.look import Look
from kvmharness.validation.places import Place
from kvmharness.validation.prepare import Broken, Built, make
from kvmharness.validation.probing import surroundings_of
from kvmharness.validation.sidebyside import side_by_side

_BOOT_S, _LOAD_S, _CALL_S = 300.0, 60.0, 120.0
_LEAKS = "leaks"
_KMEMLEAK = "/sys/kernel/debug/kmemleak"
# An object is reported once it is five seconds old, and when two scans have found nothing that points at it.
_SCAN = "; ".join([f"{BUSYBOX} sleep 6", f"echo scan >{_KMEMLEAK}"] * 2 + [f"cat {_KMEMLEAK}"])
_LEAK = "unreferenced object"
_OF_KVM = re.compile(r"\S+ \[kvm\w*\]")

_LOST = LostMachineError, StepFailedError


@dataclass(frozen=True, slots=True)
class DebugPass:
    """What is to be done under the debug kernel.

    Attributes:
        machine_for: makes the host for a kernel.
        built: the variants, made for the debug kernel.
        cells: to run under each of them; see :func:`a_few`.
        programs: litmus tests, likewise.
        leaks: what nothing points at any more is looked for, too.
    """

    machine_for: Callable[[build.Kernel], Machine]
    built: Built
    cells: tuple[Cell, ...]
    programs: tuple[Program, ...] = ()
    leaks: bool = False

    def run(
        self, tell: Progress, on_test: OnTest = lambda test: None, known: Iterable[TestResult] = ()
    ) -> tuple[TestResult, ...]:
        """Runs the variants, several at the same time if that can be.

        Args:
            tell: takes what is being done.
            on_test: takes each result as it comes.
            known: results that there are already; they are not run again.

        Returns:
            One a variant; SKIP where its host was lost for reasons of its own.
        """
        if not self.built.variants:
            return tuple(map(_unbuilt, self.built.broken))
        wanted, first = settings(self.cells), self.built.variants[0]
        machines = {name: self.machine_for(kernel) for name, kernel in self.built.kernels.items()}
        try:
            there = surroundings_of(machines[first.id.name], first.modules, wanted)
        except _LOST as error:
            return tuple(_lost(variant.id.name, error) for variant in self.built.variants)
        found: dict[str, TestResult] = {each.variant: _unbuilt(each) for each in self.built.broken}
        found |= {test.variant: test for test in known if test.battery == DEBUG_KERNEL and test.outcome != SKIP}

        def one(variant: Variant) -> None:
            name = variant.id.name
            tell(f"{name} under the debug kernel")
            try:
                found[name] = self._result(variant, machines[name], there)
            except _LOST as error:
                found[name] = _lost(name, error)
            on_test(found[name])

        at_once = min(machine.at_once for machine in machines.values())
        side_by_side(
            [partial(one, variant) for variant in self.built.variants if variant.id.name not in found], at_once
        )
        return tuple(found[name] for name in dict.fromkeys([*self.built.plan.prefixes, *found]) if name in found)

    def _result(self, variant: Variant, machine: Machine, there: Mapping[Params, Surroundings]) -> TestResult:
        """Does what is planned for the first variant's KVM, and where this one's is another, what is for that."""
        try:
            return self._under(variant, machine, there)
        except DiffersError:
            return self._under(variant, machine, surroundings_of(machine, variant.modules, settings(self.cells)))

    def _under(self, variant: Variant, machine: Machine, there: Mapping[Params, Surroundings]) -> TestResult:
        todo = exercises(self.cells, self.programs, there)
        return _Load(variant.id.name, todo, leaks=self.leaks).run(machine, variant)


def debug_passes(
    there: Sequence[Place],
    seen: Mapping[Source | build.Kernel, Look],
    choice: str,
    programs: tuple[Program, ...],
    progress: Progress,
) -> list[DebugPass | None]:
    """What is to be done at each place, everything built for it; None where a kernel of ours cannot be booted.

    Args:
        there: the places.
        seen: what is known of the kernel and the series, by the places' bases.
        choice: of :data:`kvmharness.lab.kernels.debugging.CHOICES`; empty for nothing anywhere.
        programs: litmus tests.
        progress: takes a line about once a second.

    Raises:
        KernelBuildError, OptionLostError: the kernel without the series does not build with that configuration.
    """
    made: dict[Source, Built] = {}
    passes: list[DebugPass | None] = []
    for place in there:
        if not choice or not isinstance(place.base, Source) or not place.cells:
            passes.append(None)
            continue
        if place.base not in made:
            judged = _judged(seen[place.base])
            made[place.base] = make(judged, recipe=debugging.CHOICES[choice], progress=progress)
        leaks = debugging.CHOICES[choice] is debugging.KMEMLEAK
        passes.append(DebugPass(place.host.machine_for(), made[place.base], a_few(place.cells), programs, leaks))
    return passes


def _judged(seen: Look) -> Look:
    """Without the patches alone, unless nothing else was asked for."""
    prefixes = tuple(variant for variant in seen.chosen if variant.name in seen.plan.prefixes)
    return replace(seen, chosen=prefixes) if any(variant.patches for variant in prefixes) else seen


def _lost(variant: str, error: Exception) -> TestResult:
    return TestResult(DEBUG_KERNEL, "", variant, outcome=SKIP, why=str(error))


def _unbuilt(each: Broken) -> TestResult:
    why = f"with {each.title} it does not build for the debug kernel"
    return TestResult(DEBUG_KERNEL, "build", each.variant, outcome=FAIL, why=why, table=each.lines)


class _ReportedError(KvmHarnessError):
    """The kernel has reported something: there is nothing more to learn from this host."""


@dataclass(slots=True)
class _Load:
    """One variant's job, and what is heard of it.

    Attributes:
        name: the variant's.
        todo: its exercises.
        leaks: whether they are looked for.
        doing: what is going on.
        failed: the first thing that did not work although the kernel said nothing about it, and what it was.
        found: the first report, and during what.
        scanned: what kmemleak says.
    """

    name: str
    todo: Sequence[Exercise]
    leaks: bool
    doing: str = ""
    failed: tuple[str, str] | None = None
    found: tuple[str, Words] | None = None
    scanned: str = ""
    steps: list[tuple[Step, Exercise | None]] = field(default_factory=list)

    def run(self, machine: Machine, variant: Variant) -> TestResult:
        """Does it.

        Raises:
            DiffersError: KVM is not what the exercises were planned for.
            LostMachineError, StepFailedError: the host was lost for reasons of its own.
        """
        self.steps = list(self._steps())
        count = len(self.todo)
        job = Job(
            tuple(step for step, _ in self.steps),
            modules={self.name: variant.modules},
            timeout_s=_BOOT_S + (_LOAD_S + _CALL_S) * count,
            silence_s=_BOOT_S,
        )
        try:
            machine.run(job, self._take)
        except _ReportedError:
            pass
        except (KernelPanicError, HangError) as error:
            self._look(error.console)
            self.failed = self.doing, str(error)
        except StepFailedError as error:
            if error.failed.type != ModuleError.__name__:
                raise
            self.failed = self.doing, str(error)
        return self._result()

    def _steps(self) -> Iterable[tuple[Step, Exercise | None]]:
        for params, group in groupby(self.todo, key=lambda each: each.params):
            if self.leaks:
                yield _shell(f"echo clear >{_KMEMLEAK}"), None
            yield Load(self.name, dict(params)), None
            for each in group:
                yield each.call, each
            if self.leaks:  # before the modules' names are gone
                yield _shell(_SCAN), None
            yield Unload(), None

    def _take(self, event: Event) -> None:
        match event:
            case Begin(number):
                step, exercise = self.steps[number]
                named = {Load: LOAD, Unload: UNLOAD, Exec: _LEAKS}
                self.doing = exercise.title if exercise else named[type(step)]
            case Data(number, data):
                exercise = self.steps[number][1]
                assert exercise is not None  # nothing else emits
                doing, failed = exercise.take(data)
                self.doing = doing or self.doing
                self.failed = self.failed or ((self.doing, failed) if failed else None)
            case Output(number, text) if isinstance(self.steps[number][0], Exec):
                self.scanned += text
            case Dmesg(_, lines):
                self._look(lines)
                if self.found:
                    raise _ReportedError(self.found[1].headline)

    def _look(self, lines: Iterable[str]) -> None:
        """For a report; a panic is one only where nothing before it says why."""
        every = reports(lines)
        found = [words for words in every if words.kind != "panic"] or every
        if found and not self.found:
            self.found = self.doing, found[0]

    def _result(self) -> TestResult:
        made = TestResult(DEBUG_KERNEL, "", self.name, outcome=FAIL)
        if self.found:
            doing, words = self.found
            return replace(made, name=doing, why=words.headline, table=words.text)
        if self.failed:
            return replace(made, name=self.failed[0], why=self.failed[1])
        if lost := leaked(self.scanned):
            where = next(found[0] for line in lost if (found := _OF_KVM.search(line)))
            return replace(made, name=_LEAKS, why=f"{lost[0].rstrip(':')}, allocated by {where}", table=lost)
        return replace(made, outcome=PASS)


def _shell(script: str) -> Exec:
    return Exec((BUSYBOX, "sh", "-c", script), required=True)


def leaked(text: str) -> tuple[str, ...]:
    """What kmemleak says of objects that KVM allocated, the first one first; nothing where it says nothing.

    Source: mm/kmemleak.c, print_unreferenced.
    """
    pieces = re.split(rf"^(?={_LEAK})", text, flags=re.MULTILINE)
    of_kvm = [piece for piece in pieces if piece.startswith(_LEAK) and _OF_KVM.search(piece)]
    return tuple(line for piece in of_kvm for line in piece.rstrip().splitlines())
