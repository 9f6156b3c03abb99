"""The one fake machine: the real executor does the job in this process, and what it says is read as ever.

Only what lies around it is made up: modules, the kernel's log, and what a called function finds.
"""

from unittest import mock

from kvmharness.cells.cell import Cell
from kvmharness.lab.events import Begin
from kvmharness.lab.inside.executor import Executor
from kvmharness.lab.inside.modules import Loader
from kvmharness.lab.jobrun import JobRun, decode
from kvmharness.lab.steps import encode
from tests import builders

RUN_CELLS = "kvmharness.cells.experiment:run_cells"
HOST = {"emulated": "vmx:skylake", "kernel_release": "6.1.192", "l0_ept": True}


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
        self._on_load, self._on_unload, self._variant = on_load, on_unload, None

    def load(self, step):
        self._variant = step.variant
        self._on_load(step.variant)
        return ["kvm", "kvm_intel"]

    def unload(self):
        self._on_unload(self._variant)
        return ["kvm_intel", "kvm"]


def run_cells(emit, *, cells, plan, variant="host", turn=0, oracle=None, images=None):
    """Stands for a call of cells: results from the builders."""
    emit({"host": HOST})
    for cell in map(Cell.from_json, cells):
        result = builders.result(cell, variant, turn=turn, l0_ept="ept=0" not in cell.id)
        emit({"result": result.to_json()})


class FakeMachine:
    """A machine without a machine.

    Attributes:
        jobs: those that it was given.
        log: its kernel's log.
        loader: see FakeLoader.
        calls: what is called in the place of a function, by its name.
        dies: given each step and its number as it begins; raises what ends the machine.
        forge: given each event's bytes; returns those that come out instead.
    """

    description = "Fake 1.0 skylake"

    def __init__(self, loader=None, calls=None, dies=lambda number, step: None, forge=lambda payload: [payload]):
        self.jobs, self.log, self.loader = [], FakeLog(), loader or FakeLoader()
        self.calls = {RUN_CELLS: run_cells, **(calls or {})}
        self.dies, self.forge = dies, forge

    def run(self, job, on_event):
        self.jobs.append(job)
        run = JobRun(job, on_event)

        def receive(payload):
            for forged in self.forge(payload):
                run.take(forged)
            if isinstance(event := decode(payload), Begin):
                self.dies(event.step, job.steps[event.step])

        stand_ins = [mock.patch(name.replace(":", "."), function) for name, function in self.calls.items()]
        for one in stand_ins:
            one.start()
        try:
            Executor(self.loader, receive, self.log).run(encode(job.steps))
        finally:
            for one in stand_ins:
                one.stop()
