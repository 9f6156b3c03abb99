"""The one fake machine: the real executor does the job in this process, and what it says is read as ever.

Only what lies around it is made up: modules, the kernel's log, and what a called function finds.
"""

from unittest import mock

from kvmharness.cells.cell import Cell
from kvmharness.cells.turn import EXECUTE
from kvmharness.lab.events import Begin, Data
from kvmharness.lab.inside.executor import Executor
from kvmharness.lab.inside.modules import Loader
from kvmharness.lab.jobrun import JobRun, decode
from kvmharness.lab.steps import Call, encode
from kvmharness.validation.probing import PROBE
from kvmharness.vendors.vmx.vmx import VMX
from tests import builders
from tests.surroundings import skylake


def events(machine, job):
    """All that a machine says as it does a job."""
    found = []
    machine.run(job, found.append)
    return found


class FakeLog:
    """A kernel log that gains the lines it is given, once."""

    def __init__(self, *lines):
        self.lines = list(lines)

    def gained(self):
        lines, self.lines = self.lines, []
        return lines


class FakeLoader(Loader):
    """Loads nothing; *on_load* and *on_unload* are given the variant and may refuse."""

    def __init__(self, on_load=lambda variant: None, on_unload=lambda variant: None):
        self._on_load, self._on_unload, self.variant, self.params = on_load, on_unload, None, {}

    def load(self, step):
        self.variant, self.params = step.variant, step.params
        self._on_load(step.variant)
        return ["kvm", "kvm_intel"]

    def unload(self):
        self._on_unload(self.variant)
        return ["kvm_intel", "kvm"]

    def memory(self):
        return {"pages": 1 << 20}


def raw(number, cell, variant="none", round_trips=48):
    """What execute() would have emitted for a cell, from the builders' figures."""
    made = builders.result(cell, variant, l0_ept=not cell.params or "ept=0" not in cell.id, round_trips=round_trips)
    exits = dict.fromkeys(VMX.counted, 0) | dict(made.exits)
    return {
        "cell": number,
        "counts": dict(made.counts) | {f"kvm_exit {name}": count for name, count in exits.items()},
        "missing": {},
        "stats": dict(made.stats) | {"exits": round_trips},
        "samples": list(made.samples),
        "round_trips": 2 * round_trips,
    }


class FakeMachine:
    """A machine without a machine.

    Attributes:
        jobs: those that it was given, but for questions about itself.
        log: its kernel's log.
        loader: see FakeLoader.
        calls: what is called in the place of a function, by its name.
        dies: given each step and its number as it begins; raises what ends the machine.
        dies_in: given the variant, the cell's id and the pass as a cell begins; likewise.
        forge: given each event's bytes; returns those that come out instead.
    """

    description = "Fake 1.0 skylake"
    identity = ""
    at_once = 1
    watch = None

    def __init__(
        self,
        loader=None,
        calls=None,
        dies=lambda number, step: None,
        forge=lambda payload: [payload],
        dies_in=lambda variant, cell, doing: None,
    ):
        self.jobs, self.log, self.loader = [], FakeLog(), loader or FakeLoader()
        self.calls = {EXECUTE: self._execute, PROBE: self._probe, **(calls or {})}
        self.dies, self.forge, self.dies_in = dies, forge, dies_in

    def _probe(self, emit):
        ept = "N" if self.loader.params.get("kvm_intel.ept") == "0" else "Y"
        emit(skylake(ept=ept).to_json())

    def _execute(self, emit, *, cells, **more):
        for number in range(len(cells)):
            emit({"begins": number, "doing": "counting"})
        for number, planned in enumerate(cells):
            emit({"begins": number, "doing": "timing"})
            emit(raw(number, Cell.parse(planned["id"]), self.loader.variant, planned["passes"][1]))

    def run(self, job, on_event):
        if not any(isinstance(step, Call) and step.function == PROBE for step in job.steps):
            self.jobs.append(job)
        run = JobRun(job, on_event)

        def receive(payload):
            for forged in self.forge(payload):
                run.take(forged)
            event = decode(payload)
            if isinstance(event, Begin):
                self.dies(event.step, job.steps[event.step])
            cells = job.steps[event.step].args.get("cells") if isinstance(event, Data) else None
            if cells and "begins" in event.data:
                self.dies_in(self.loader.variant, cells[event.data["begins"]]["id"], event.data["doing"])

        stand_ins = [mock.patch(name.replace(":", "."), function) for name, function in self.calls.items()]
        for one in stand_ins:
            one.start()
        try:
            Executor(self.loader, receive, self.log).run(encode(job.steps))
        finally:
            for one in stand_ins:
                one.stop()
