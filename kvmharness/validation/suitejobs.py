"""Tests of a suite in one host, and in another one for those that are left when it is lost.

A host that says nothing for long is taken for hung. How long that takes depends on what else this machine does; so
where a host is lost under a variant that is judged, and was not under the base, the test is tried again by itself,
with more patience, before it is believed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kvmharness.cells.params import Params
from kvmharness.errors import LostMachineError
from kvmharness.lab.events import Begin, Data, Dmesg, End, Event, Failed, Output
from kvmharness.lab.inside.modules import ModuleError
from kvmharness.lab.job import HangError, Job, Machine, ProtocolError, StepFailedError
from kvmharness.lab.machines.supervisor import STOPPED
from kvmharness.lab.steps import Exited, Load, Step
from kvmharness.results.incidents import LOAD, StepLog
from kvmharness.results.kernelwords import reports
from kvmharness.results.tests import HANG, PANIC, SKIP, TestResult
from kvmharness.suites.test import Ran, SuiteTest

_BOOT_S = 90.0
# An emulated second takes less than one on a quiet machine, and one or two on a busy one.
_QUIET_S, _QUIET_PER_S, _PATIENCE = 4.0, 1.5, 4.0
_LOSSES_MAX = 16  # hosts that a variant may cost under one setting
_OUTPUT_MAX = 1 << 20  # characters kept of one test
# Of a panic: whether a host that stands still comes to that depends on how fast its emulator is.
_STANDS_STILL = ("RCU Stall", "softlockup", "hung_task")
_ENDS = {True: "hangs", False: "went down without a word"}


class Key(NamedTuple):
    """What names a test's results: variant, setting, suite and test."""

    variant: str
    setting: Params
    battery: str
    test: str


def sorted_params(params: Mapping[str, str] | Params) -> Params:
    """Module parameters in the order of their names."""
    return tuple(sorted(dict(params).items()))


def key_of(variant: str, setting: Params, test: SuiteTest) -> Key:
    """The key of a test."""
    return Key(variant, sorted_params(setting), test.battery, test.name)


@dataclass(slots=True)
class Book:
    """What came of the tests so far.

    Attributes:
        on_test: takes each result.
        results: by test.
        base: the variant that the others are held against.
        logs: what the kernel said.
        losses: how many hosts a variant has cost under a setting.
    """

    on_test: Callable[[TestResult], None]
    results: dict[Key, list[TestResult]]
    base: str
    logs: list[StepLog] = field(default_factory=list)
    losses: dict[tuple[str, Params], int] = field(default_factory=dict)

    def expected_to_be_lost(self, key: Key) -> bool:
        """Whether a test takes the host down under the base, or this is the base."""
        before = self.results.get(key._replace(variant=self.base), ())
        return key.variant == self.base or any(result.outcome in (HANG, PANIC) for result in before)

    def note(self, key: Key, outcome: str, why: str) -> None:
        """Writes down what is said of a test that did not run."""
        self._add(key, [TestResult(key.battery, key.test, key.variant, dict(key.setting), outcome, why)])

    def judge(self, key: Key, test: SuiteTest, ran: Ran) -> None:
        """Writes down what a test says of what came of it."""
        found = [(line.name, line.outcome, line.why, line.output) for line in test.judged(ran)]
        made = [
            TestResult(key.battery, name, key.variant, dict(key.setting), outcome, why, table)
            for name, outcome, why, table in found
        ]
        self._add(key, made)

    def _add(self, key: Key, results: list[TestResult]) -> None:
        self.results[key] = results
        for result in results:
            self.on_test(result)


@dataclass(slots=True)
class Some:
    """Some tests, in one job and as many more as it takes.

    Attributes:
        book: where results go.
        machine: where they run.
        name, modules: the variant's; no modules for the kernel that is running.
        setting: what it is to run under.
        params: what it is loaded with.
        left: the tests.
    """

    book: Book
    machine: Machine
    name: str
    modules: Path | None
    setting: Params
    params: Params
    left: list[SuiteTest]
    steps: list[tuple[Step, SuiteTest | None]] = field(default_factory=list)
    running: SuiteTest | None = None
    ran: Ran = field(default_factory=Ran)
    again: SuiteTest | None = None

    def until_done(self) -> None:
        """Does them all.

        Raises:
            LostMachineError: the machine died for reasons of its own.
            StepFailedError: a job cannot be done, for another reason than that modules do not load.
        """
        while self.left:
            if self._losses >= _LOSSES_MAX:
                self._skip_rest(f"given up after {self._losses} lost hosts")
                return
            self.running = None
            job = self._job([self.again] if self.again else list(self.left))
            try:
                self.machine.run(job, self._take)
            except StepFailedError as error:
                if error.failed.type != ModuleError.__name__:
                    raise
                self._skip_rest(f"KVM's modules do not load: {error.failed.message}")
            except LostMachineError as error:
                self._lose(error)

    @property
    def _losses(self) -> int:
        return self.book.losses.get((self.name, self.setting), 0)

    def _job(self, tests: Iterable[SuiteTest]) -> Job:
        inside = self.modules is not None
        chosen = list(tests)
        self.steps = [(test.step(inside=inside), test) for test in chosen]
        patience = _PATIENCE if self.again else 1.0
        quiet_s = {test.name: patience * (_QUIET_S + _QUIET_PER_S * test.timeout_s) for test in chosen}
        files: dict[str, Path | bytes] = {}
        modules: dict[str, Path] = {}
        if self.modules is not None:
            self.steps.insert(0, (Load(self.name, dict(self.params)), None))
            files.update({place: path for test in chosen for place, path in test.files.items()})
            modules[self.name] = self.modules
        steps = tuple(step for step, _ in self.steps)
        return Job(steps, files, modules, timeout_s=_BOOT_S + sum(quiet_s.values()), silence_s=max(quiet_s.values()))

    def _take(self, event: Event) -> None:
        match event:
            case Dmesg(step=number, lines=lines):
                test = self.steps[number][1]
                # Of a test only what the kernel complains of: the rest has numbers of processes in it.
                said = tuple(line for words in reports(lines) for line in words.text) if test else lines
                if said:
                    self.book.logs.append(StepLog(self.name, 0, test.battery if test else LOAD, said))
            case Begin(step=number):
                self.running, self.ran = self.steps[number][1], Ran()
            case Output(text=text) if len(self.ran.output) < _OUTPUT_MAX:
                self.ran.output += text
            case Data(data=data):
                self.ran.data.append(data)
            case End(result=result):
                self.ran.ended = result if isinstance(result, Exited) else None
                self._done()
            case Failed() as failed:
                self.ran.failed = "\n".join(filter(None, (failed.message, failed.traceback)))
                self._done()

    def _done(self) -> None:
        """The test that is running has come to its end; modules have loaded."""
        if (test := self.running) is not None:
            self.book.judge(key_of(self.name, self.setting, test), test, self.ran)
            self.left.remove(test)
            self.again = self.running = None

    def _lose(self, error: LostMachineError) -> None:
        """The host is gone, and with it the test that was running."""
        test = self.running
        if isinstance(error, ProtocolError) or STOPPED.get()():
            raise error
        self.book.losses[self.name, self.setting] = self._losses + 1
        if test is None:
            if not self.book.results:
                raise error
            return  # while it booted or loaded: another one may do better, until too many are lost
        key = key_of(self.name, self.setting, test)
        if self.again is None and not self.book.expected_to_be_lost(key):
            self.again = test
            return
        found = reports(error.console)
        hangs = isinstance(error, HangError) or any(word in str(error) for word in _STANDS_STILL)
        self.ran.lost = HANG if hangs else PANIC
        down = found and not hangs
        self.ran.why = f"the kernel went down: {found[-1].headline}" if down else f"the host {_ENDS[hangs]}"
        self.ran.table = tuple(found[-1].text) if found else ()
        self._done()

    def _skip_rest(self, why: str) -> None:
        for test in self.left:
            self.book.note(key_of(self.name, self.setting, test), SKIP, why)
        self.left = []
