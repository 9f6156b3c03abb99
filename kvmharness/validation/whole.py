"""A whole validation: from what the user asked for to the verdict, on every host."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kvmharness.cells.params import Params
from kvmharness.errors import UsageError
from kvmharness.lab.kernels import parameters
from kvmharness.lab.kernels.make import KernelBuildError
from kvmharness.lab.kernels.selftests import build
from kvmharness.lab.kernels.source import Source
from kvmharness.litmus.named.all import every
from kvmharness.patches.series import Series
from kvmharness.results.record import CellResult
from kvmharness.results.tests import DEBUG_KERNEL, SELFTESTS, UNIT_TESTS, TestResult
from kvmharness.suites.selftests import selftests
from kvmharness.suites.test import SuiteTest
from kvmharness.validation.battery import Battery, Tests, builds, debug_kernel, litmus_tests, suite
from kvmharness.validation.campaign import Keeping
from kvmharness.validation.debugkernel import DebugPass, debug_passes
from kvmharness.validation.hostbase import Task
from kvmharness.validation.look import Look, look
from kvmharness.validation.pace import Pace
from kvmharness.validation.places import Place, check_claims, under
from kvmharness.validation.prepare import Built, make
from kvmharness.validation.settings import LIMIT, following, under_module
from kvmharness.validation.together import Part, Together, units, validate_on
from kvmharness.validation.validate import MachineFor

_FEW = 3  # settings, of a validation that is to be over soon


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be run besides the measured cells.

    Attributes:
        litmus: litmus tests.
        debug: which debug kernel; empty for none.
        thorough: everything that maintainers ask for, and a list of it.
        unit_tests: of a tree that the user has.
        settings: module parameters to run tests under, each set in turn; None for those that follow from the series.
    """

    litmus: bool = False
    debug: str = ""
    thorough: bool = False
    unit_tests: tuple[SuiteTest, ...] = ()
    settings: tuple[Params, ...] | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A series to validate.

    Attributes:
        series: what to validate.
        places: where; at least one.
        params: names of the module parameters that every cell is to be run with.
        variants: names of those to make; all when empty.
        turns: how often each variant is loaded.
        command: how to make this run again.
        wanted: what is run besides the cells.
        at_once: how many of the places are at work at the same time.
    """

    series: Series
    places: tuple[Place, ...]
    params: tuple[str, ...]
    variants: tuple[str, ...]
    turns: int
    command: tuple[str, ...]
    wanted: Wanted = field(default_factory=Wanted)
    at_once: int = 1


def run(order: Order, task: Task, keeping: Callable[[str], Keeping]) -> Together:
    """Looks whether it can be done, builds the variants, runs them, answers the claims.

    Args:
        order: what is asked for.
        task: takes how it is getting on.
        keeping: gives what is kept of the run on a host, by the host's name.

    Raises:
        UsageError: the series gives no variant, or as :func:`kvmharness.validation.look.look`.
        HostRequirementError, LostMachineError: a host cannot run it, or was lost.
    """
    machines = [place.host.machine_for() for place in order.places]  # refused before anything is built
    name = order.series.name
    task.step(f"looking at {name}")
    bases = dict.fromkeys(place.base for place in order.places)
    seen = {base: look(order.series, base, order.variants, progress=task.tick) for base in bases}
    places = [under(place, seen[place.base], order.params) for place in order.places]
    check_claims(seen.values(), places)
    skipped = tuple(line for place in places for line in place.skipped)
    for line in skipped:
        task.step(line)
    for number, title in enumerate(seen[places[0].base].plan.patches, 1):
        task.step(f"p{number}: {title}")
    settings = {base: _settings(order.wanted, found, task) for base, found in seen.items()}
    task.step(f"building the variants of {name}")
    built = {base: make(found, progress=task.tick) for base, found in seen.items()}
    for made in built.values():
        _tell(made, task)
    wanted = order.wanted
    debug = debug_passes(places, seen, wanted.debug, every() if wanted.litmus else (), task.tick)
    not_done: dict[str, str] = {}
    parts: list[Part] = []
    for place, machine, more in zip(places, machines, debug, strict=True):
        if place.cells:
            here = _Here(place, machine, built[place.base], seen[place.base], settings[place.base], not_done, task)
            batteries = here.batteries(wanted, more, first=not parts)
            kept = keeping(place.host.spec)
            parts.append(Part(here.spec, machine, here.built, place.cells, place.host.plan, kept, tuple(batteries)))
    return _run(order, parts, skipped, not_done if wanted.thorough else None, task)


def _settings(wanted: Wanted, seen: Look, task: Task) -> tuple[Params, ...]:
    """The module parameters that tests are run under; says where each comes from.

    Raises:
        UsageError: the kernel does not know one that the user named.
    """
    if wanted.settings is not None:
        parameters.check([name for params in wanted.settings for name, _ in params], seen.parameters)
        return wanted.settings
    if not (wanted.litmus or wanted.thorough or wanted.unit_tests):
        return ((),)
    found = following(seen.plan, seen.parameters, limit=LIMIT if wanted.thorough else _FEW)
    for each in found.chosen:
        task.step(f"tests run with {each}")
    for line in found.left_out if wanted.thorough else ():
        task.step(f"not with {line}")
    return tuple(each.params for each in found.chosen)


@dataclass(frozen=True, slots=True)
class _Here:
    """What is run at a place besides the cells.

    Attributes:
        place, machine_for, built, seen: as elsewhere.
        settings: of module parameters, on whichever host.
        not_done: takes why a battery is not run.
        task: takes how it is getting on.
    """

    place: Place
    machine_for: MachineFor
    built: Built
    seen: Look
    settings: tuple[Params, ...]
    not_done: dict[str, str]
    task: Task

    @property
    def spec(self) -> str:
        """The host's name."""
        return self.place.host.spec

    def batteries(self, wanted: Wanted, debug: DebugPass | None, *, first: bool) -> Iterator[Battery]:
        """All of them, in their order.

        Args:
            wanted: what is asked for.
            debug: what is to be done under the debug kernel.
            first: it is the first place: what no host has a part in is done here.
        """
        chosen = under_module(self.settings, self.place.host.vendor_module) or ((),)
        if wanted.thorough and first:
            yield builds(self.seen, self.task.tick, self.task.step)
        if wanted.litmus:
            yield litmus_tests(self.built, self.machine_for, chosen)
        emulated = isinstance(self.place.base, Source)
        if wanted.thorough and emulated and (tests := self._selftests()):
            yield suite(SELFTESTS, self.built, self.machine_for, chosen, tests)
        if wanted.unit_tests and emulated:
            units = dict.fromkeys((variant.id.name for variant in self.built.variants), wanted.unit_tests)
            yield suite(UNIT_TESTS, self.built, self.machine_for, chosen, units)
        if not emulated:
            here = "under the kernel that is running, `kvmharness suite` runs them"
            self.not_done.update({SELFTESTS: here, UNIT_TESTS: here})
        elif not wanted.unit_tests:
            self.not_done[UNIT_TESTS] = "--unit-tests names no built tree of them"
        if debug:
            yield debug_kernel(debug, self.task.step)
        elif wanted.debug:
            self.not_done[DEBUG_KERNEL] = f"{self.spec} does not boot a kernel that is built for it"

    def _selftests(self) -> Tests:
        """Those of each variant's own tree; nothing where they cannot be built."""
        files = {variant.name: variant.files for variant in self.built.plan.variants}
        found: dict[str, Sequence[SuiteTest]] = {}
        for variant in self.built.variants:
            name = variant.id.name
            kernel = self.built.kernels[name]
            if name not in self.built.plan.prefixes:
                continue
            if kernel.tree is None:
                self.not_done[SELFTESTS] = f"there is no source tree of {name}"
                return {}
            # A kernel of its own has the variant's files in its tree already.
            overlay = {} if kernel.of_variant else files[name]
            self.task.step(f"building the selftests of {name}")
            try:
                found[name] = selftests(build(kernel.tree, overlay, progress=self.task.tick))
            except KernelBuildError as error:
                self.not_done[SELFTESTS] = str(error).partition("\n")[0]
                return {}
        return found


def _run(
    order: Order, parts: Sequence[Part], skipped: Sequence[str], not_done: Mapping[str, str] | None, task: Task
) -> Together:
    pace = Pace(units(parts, order.turns))
    tests = 0

    def place(host: str) -> str:
        return f"{pace}: {host}" if len(parts) > 1 else f"{pace}"

    def on_result(host: str, result: CellResult, done: int, total: int) -> None:
        task.step(f"{place(host)}: {result.variant}, {result.id}", done, total)

    def on_test(host: str, test: TestResult) -> None:
        nonlocal tests
        tests += 1
        what = f"{test.battery} {test.label}".rstrip()
        task.step(f"{place(host)}: {test.variant}, {what}: {test.outcome}", tests)

    return validate_on(
        parts,
        turns=order.turns,
        command=order.command,
        untested=skipped,
        on_result=on_result,
        on_test=on_test,
        pace=pace,
        not_done=not_done,
        at_once=order.at_once,
    )


def _tell(built: Built, task: Task) -> None:
    """Says what will run, and what will not.

    Raises:
        UsageError: nothing will.
    """
    for variant, why in built.subject.left_out.items():
        task.step(f"variant {variant} left out: {why}")
    if not built.variants:
        raise UsageError(f"{built.plan.series.name} gives no variant for this kernel")
    task.step(f"running variants {', '.join(variant.id.name for variant in built.variants)}")
