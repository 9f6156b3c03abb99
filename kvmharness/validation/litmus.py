"""Litmus tests on a machine: planned for what its KVM is, run under every variant and setting, judged."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvmharness.cells.params import Params
from kvmharness.cells.surroundings import Surroundings, surroundings
from kvmharness.guest.shipped import run_loop
from kvmharness.kvm.nested import find_vendor
from kvmharness.lab.events import Data, Dmesg, Event
from kvmharness.lab.inside.modules import ModuleError
from kvmharness.lab.job import HangError, Job, KernelPanicError, Machine, ProtocolError, StepFailedError
from kvmharness.lab.machines.thiskernel import ThisKernel
from kvmharness.lab.steps import Call, Load, Step, Unload
from kvmharness.litmus.chain import Chain, chain, parted
from kvmharness.litmus.judge import Outcome, judge
from kvmharness.litmus.named.entry import RULES
from kvmharness.litmus.needs import lacks, offers
from kvmharness.litmus.plan import Planned, blueprint, plan
from kvmharness.litmus.program import Program
from kvmharness.litmus.table import lines, why
from kvmharness.results.incidents import StepLog
from kvmharness.results.kernelwords import reports
from kvmharness.results.tests import FAIL, LITMUS, PASS, SKIP, TestResult, of_variant
from kvmharness.validation.campaign import Variant
from kvmharness.validation.probing import surroundings_of
from kvmharness.validation.sidebyside import side_by_side
from kvmharness.vendors.known import by_asid, litmus_of
from kvmharness.vendors.names import NAMES
from kvmharness.vendors.vendor import Vendor

CHAIN = "all-in-one-vm"
EXECUTE = "kvmharness.litmus.execute:execute"

_BOOT_S, _TEST_S = 90.0, 8.0
_LOSSES_MAX = 3

OnTest = Callable[[TestResult], None]


@dataclass(frozen=True, slots=True)
class Tested:
    """What came of it.

    Attributes:
        tests: in the order of variants, settings and tests.
        logs: what the kernel said meanwhile.
        outcomes: name -> what came of a test in full, under the last variant and setting that it ran under.
    """

    tests: tuple[TestResult, ...]
    logs: tuple[StepLog, ...]
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)


def joined(found: Iterable[Tested]) -> Tested:
    """The tests and logs of all of them."""
    batches = list(found)
    tests = tuple(test for batch in batches for test in batch.tests)
    return Tested(tests, tuple(log for batch in batches for log in batch.logs))


def run_litmus(
    machine: Machine,
    variants: Sequence[Variant],
    settings: Sequence[Params],
    programs: Sequence[Program],
    on_test: OnTest = lambda result: None,
    *,
    together: bool = True,
    known: Sequence[TestResult] = (),
) -> Tested:
    """Runs tests under every variant and setting; a job for each variant, several at the same time if that can be.

    A test that takes the kernel down has failed, and what is left goes on in another boot.

    Args:
        machine: where.
        variants: KVM modules.
        settings: parameters to load them with.
        programs: the tests.
        on_test: takes each result as it comes.
        together: first all of them in one VM; those that fail there by themselves as well.
        known: results that there are already; they are not run again.

    Raises:
        LostMachineError: the machine died for reasons of its own, or says what cannot be.
        StepFailedError: modules do not load even though nothing ran yet.
    """
    there = surroundings_of(machine, variants[0].modules, settings)

    shared: dict[Any, tuple[Chain, Planned]] = {}

    def group(variant: Variant) -> _Group:
        done = of_variant(known, LITMUS, variant.id.name)
        own = [
            _Setting(params, programs, there[params], _under(done, params), tried=not together, shared=shared)
            for params in settings
        ]
        return _Group(machine, variant.id.name, variant.modules, own, on_test)

    return _done([group(variant) for variant in variants], machine.at_once)


def _under(done: Iterable[TestResult], params: Params) -> dict[str, TestResult]:
    return {test.name: test for test in done if dict(test.params) == dict(params)}


def run_litmus_here(
    programs: Sequence[Program], on_test: OnTest = lambda result: None, *, together: bool = True
) -> Tested:
    """Runs tests on this machine, under the kernel that is running, its modules as they are.

    Raises:
        DeviceError: there is no /dev/kvm.
    """
    setting = _Setting((), programs, surroundings(), tried=not together)
    return _done([_Group(ThisKernel(), "host", None, [setting], on_test)], 1)


def settings(vendor_module: str, known: Container[str]) -> tuple[Params, ...]:
    """The module parameters that litmus tests are run under: as they are, without the TDP MMU, without TDP at all."""
    tdp = next(vendor.tdp for vendor in NAMES if vendor.module == vendor_module)
    others = (("kvm.tdp_mmu", "N"), (tdp, "0"))
    return ((), *((each,) for each in others if each[0] in known))


def _done(groups: "Sequence[_Group]", at_once: int) -> Tested:
    side_by_side([group.until_done for group in groups], at_once)
    return Tested(
        tuple(result for group in groups for setting in group.settings for result in setting.results()),
        tuple(log for group in groups for log in group.logs),
        {name: outcome for group in groups for setting in group.settings for name, outcome in setting.outcomes.items()},
    )


def one_call(params: Params, programs: Sequence[Program], there: Surroundings) -> Call | None:
    """Runs tests in one VM, for who looks at the kernel and not at what the tests say; None where none can run."""
    return _Setting(params, programs, there).call("")


@dataclass(slots=True)
class _Setting:
    """The tests under one variant, loaded in one way."""

    params: Params
    programs: Sequence[Program]
    there: Surroundings
    done: dict[str, TestResult] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    planned: list[Planned] = field(default_factory=list)
    given_up: bool = False
    tried: bool = False  # in a chain
    chain: Chain | None = None
    chained: list[Program] = field(default_factory=list)
    failed: dict[str, Outcome] = field(default_factory=dict)  # in the chain
    shared: dict[Any, tuple[Chain, Planned]] = field(default_factory=dict)  # by all variants
    differed: bool = False  # planned for a KVM of its own
    differs: bool = False  # the variant's KVM is not the one that they were planned for

    @property
    def vendor(self) -> Vendor | None:
        return find_vendor(self.there.offered)

    def call(self, variant: str) -> Call | None:
        """What runs those that have no result yet; None where that is none."""
        self.planned, left, has = [], [], offers(self.vendor, self.there.offered)
        for program in self.programs:
            if program.name in self.done:
                continue
            if missing := lacks(program, has):
                self.note(variant, program.name, SKIP, f"this host does not offer {missing}")
            else:
                left.append(program)
        if not left:
            return None
        if self.tried or not self._chain(left):
            self.planned = [plan(program, self.vendor, self.there.offered) for program in left]
        offered = self.there.offered
        kinds = {planned.kind for planned in self.planned}
        arguments = {
            "blueprints": {kind: blueprint(kind, self.vendor, offered).to_json() for kind in sorted(kinds)},
            "programs": [planned.to_json() for planned in self.planned],
            "offered": offered.to_json(),
            "parameters": dict(self.there.facts.module_parameters),
            "run_loop": run_loop().hex(),
        }
        return Call(EXECUTE, arguments, required=True)

    def _chain(self, programs: list[Program]) -> bool:
        """Plans all of them in one VM, the first time; the same for every variant whose KVM offers the same."""
        self.tried = True
        if len(programs) < 2:
            return False
        key = self.params, tuple(program.name for program in programs)
        if key not in self.shared or self.differed:
            vendor, offered = self.vendor, self.there.offered
            made = chain(CHAIN, programs, offers(vendor, offered), svm=by_asid(vendor))
            self.shared[key] = made, plan(made.program, vendor, offered)
        self.chain, planned = self.shared[key]
        self.planned, self.chained = [planned], programs
        return True

    def note(self, variant: str, name: str, outcome: str, text: str = "", **more: Any) -> TestResult:
        self.done[name] = result = TestResult(LITMUS, name, variant, dict(self.params), outcome, text, **more)
        return result

    def take(self, variant: str, data: Mapping[str, Any]) -> Iterator[TestResult]:
        """Judges what came of a test, or of all of them in a chain; of those that failed there nothing is said yet."""
        planned = self.planned[int(data["test"])]
        outcome = judge(planned, data, litmus_of(self.vendor) if self.vendor else None)
        if self.chain is None or planned.program is not self.chain.program:
            yield self._told(variant, outcome)
            return
        for each in parted(outcome, self.chain, [program.name for program in self.chained]):
            if each.passed:
                yield self._told(variant, each)
            else:
                self.failed[each.name] = each

    def _told(self, variant: str, outcome: Outcome) -> TestResult:
        before = self.failed.get(outcome.name)
        remark = ""
        if outcome.passed and before is not None and not before.error:
            outcome, remark = before, " (behind other tests in one VM; by itself it passes)"
        self.outcomes[outcome.name] = outcome
        if outcome.passed:
            return self.note(variant, outcome.name, PASS, counts=dict(outcome.stats))
        rule = next((program.rule for program in self.programs if program.name == outcome.name), 0)
        text = f"{RULES[rule]}: {why(outcome)}{remark}" if rule else why(outcome) + remark
        return self.note(variant, outcome.name, FAIL, text, counts=dict(outcome.stats), table=lines(outcome))

    def results(self) -> list[TestResult]:
        """In the order of the tests; the chain as a whole only where it broke off and no test by itself does."""
        found = [self.done[program.name] for program in self.programs if program.name in self.done]
        broken = next((each.error for each in self.failed.values() if each.error), "")
        if broken and not any(result.outcome == FAIL for result in found):
            found.append(TestResult(LITMUS, CHAIN, found[0].variant, dict(self.params), FAIL, broken))
        return found


class _Group:
    """One variant's settings, done in as many jobs as it takes."""

    def __init__(
        self, machine: Machine, name: str, modules: Path | None, settings: list[_Setting], on_test: OnTest
    ) -> None:
        self._machine, self._modules, self._on_test = machine, modules, on_test
        self.settings, self.name = settings, name
        self.logs: list[StepLog] = []
        self._steps: list[tuple[_Setting | None, Step]] = []
        self._running: tuple[_Setting, int] | None = None
        self._losses = 0

    def until_done(self) -> None:
        """Does them all."""
        while self._plan():
            modules = {self.name: self._modules} if self._modules else {}
            count = sum(len(setting.planned) for setting in self.settings)
            job = Job(tuple(step for _, step in self._steps), modules=modules, timeout_s=_BOOT_S + _TEST_S * count)
            try:
                self._machine.run(job, self._take)
            except (KernelPanicError, HangError, StepFailedError) as error:
                self._lose(error)

    def _plan(self) -> bool:
        self._steps, self._running = [], None
        for setting in self.settings:
            if setting.differs:
                self._look_again(setting)
            call = None if setting.given_up else setting.call(self.name)
            if call is not None and self._modules:
                self._steps += [(None, Load(self.name, dict(setting.params))), (setting, call), (None, Unload())]
            elif call is not None:
                self._steps.append((setting, call))
        return bool(self._steps)

    def _take(self, event: Event) -> None:
        if isinstance(event, Dmesg):
            self.logs.append(StepLog(self.name, 0, LITMUS, event.lines))
        if not isinstance(event, Data):
            return
        setting = self._steps[event.step][0]
        assert setting is not None
        try:
            if "differs" in event.data:
                setting.differs = True
            elif "begins" in event.data:
                self._running = setting, int(str(event.data["begins"]))
            else:
                for result in setting.take(self.name, event.data):
                    self._on_test(result)
                self._running = None
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ProtocolError(f"no answer of a litmus test: {error!r}") from None

    def _look_again(self, setting: _Setting) -> None:
        """This variant's KVM offers guests something else: it is asked what, and the next job is planned for that."""
        own = surroundings_of(self._machine, self._modules, [setting.params])[setting.params] if self._modules else None
        if own is None or own == setting.there:
            raise ProtocolError("KVM is another one than it has just said")
        setting.there, setting.differs, setting.differed, setting.tried = own, False, True, False

    def _lose(self, error: KernelPanicError | HangError | StepFailedError) -> None:
        """The test that was running has failed; without one, the variant does not load or unload."""
        if isinstance(error, StepFailedError) and error.failed.type != ModuleError.__name__:
            raise error
        self._losses += 1
        if self._running is None:
            if not any(setting.done for setting in self.settings):
                raise error
            for setting in self.settings:
                setting.given_up = True
            return
        setting, number = self._running
        found = reports(getattr(error, "console", ()))
        text = f"the kernel went down: {found[-1].headline}" if found else str(error)
        table = tuple(found[-1].text) if found else ()
        name = setting.planned[number].program.name
        if name == CHAIN:  # each by itself will tell
            setting.failed |= {each.name: Outcome(each.name, (), text) for each in setting.chained}
            return
        setting.outcomes[name] = Outcome(name, (), text)
        self._on_test(setting.note(self.name, name, FAIL, text, table=table))
        for each in self.settings:
            each.given_up |= self._losses >= _LOSSES_MAX
