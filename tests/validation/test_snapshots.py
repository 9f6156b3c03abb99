"""When a job is done by a restored host and when by a booted one, with a machine that is made up."""

import errno
import os
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kvmharness.cells.cell import Cell
from kvmharness.cells.turn import EXECUTE
from kvmharness.errors import LostMachineError
from kvmharness.hosts import catalogue
from kvmharness.lab.events import Bye
from kvmharness.lab.job import Job
from kvmharness.lab.kernels.build import Kernel
from kvmharness.lab.machines.snapshot.state import DamagedError, NoSnapshotError
from kvmharness.system.programs import DiskFullError
from kvmharness.validation import probing, snapshots
from kvmharness.validation.snapshots import Snapshotted, difference
from tests.leftovers import is_empty_soon
from tests.machines import FakeMachine, raw

JOB = Job(())


@dataclass
class Machine:
    """Notes what it is asked to do; *save* and *restore* may refuse."""

    cannot: str = ""
    save_error: Exception | None = None
    damaged: bool = False
    refuses: bool = False
    loses: bool = False
    host = catalogue.first()
    saved_identity = "the-same"
    did: list[str] = field(default_factory=list)

    def cannot_be_saved(self):
        return self.cannot

    def save(self, folder):
        self.did.append("save")
        if self.save_error:
            raise self.save_error
        (folder / "state").mkdir()
        (folder / "state/memory").write_bytes(b"everything")

    def run(self, job, on_event):
        self.did.append("boot")
        on_event(Bye(0))

    def run_restored(self, state, job, on_event):
        self.did.append("restore")
        assert (state / "memory").read_bytes() == b"everything"
        if self.damaged:
            self.damaged = False
            raise DamagedError("the saved host is damaged")
        if self.refuses:
            raise NoSnapshotError("a job of 50 MB is too large for a restored host")
        if self.loses:
            raise LostMachineError("the kernel panicked")
        on_event(Bye(0))


def another_process(monkeypatch):
    monkeypatch.setattr(snapshots, "_said", set())
    monkeypatch.setattr(snapshots, "_given_up", {})


@pytest.fixture
def said():
    return []


@pytest.fixture
def run(monkeypatch, tmp_path, said):
    """Runs a job; *differs* is what the check of a snapshot says."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    another_process(monkeypatch)

    def job(machine, differs=""):
        def difference(machine, state, modules):
            machine.did.append("check")
            return differs

        monkeypatch.setattr(snapshots, "difference", difference)
        events = []
        Snapshotted(machine, Path("modules"), said.append).run(JOB, events.append)
        assert events == [Bye(0)]
        return machine.did

    return job


def test_it_is_saved_and_checked_once_and_restored_for_every_job(run, said):
    machine = Machine()
    run(machine)
    assert run(machine) == ["save", "check", "restore", "restore"]
    assert len(said) == 2, "told twice: that it is saved, that it is checked"


def test_one_that_differs_is_never_restored_and_why_is_said_once(run, said, tmp_path):
    machine = Machine()
    run(machine, differs="kvm_exit of a:3x3 is 145 booted and 146 restored")
    assert run(machine) == ["save", "check", "boot", "boot"]
    assert [line for line in said if "145 booted and 146 restored" in line] == [said[-1]]
    assert "vmx:skylake is booted for each job, which takes longer" in said[-1]
    assert not list(tmp_path.rglob("memory")), "what is not trusted is not kept"


def test_one_that_differs_is_not_made_again_by_the_next_process(run, monkeypatch):
    machine = Machine()
    run(machine, differs="something")
    another_process(monkeypatch)
    assert run(machine, differs="") == ["save", "check", "boot", "boot"]


def test_where_nothing_can_be_saved_it_is_booted(run, said):
    assert run(Machine(cannot="to save a host in Bochs takes a C compiler")) == ["boot"]
    assert "takes a C compiler" in said[0]


@pytest.mark.parametrize(
    "error",
    [
        DiskFullError("/tmp"),
        LostMachineError("Bochs ended"),
        OSError(errno.ENOSPC, "full"),
        OSError(errno.EDQUOT, "full"),
    ],
)
def test_what_could_not_be_saved_is_tried_again_by_the_next_process_only(run, said, error, monkeypatch):
    machine = Machine(save_error=error)
    run(machine)
    assert run(machine) == ["save", "boot", "boot"]
    assert str(error) in said[-1] or "no space left on the disk" in said[-1]
    machine.save_error = None
    another_process(monkeypatch)
    assert run(machine)[3:] == ["save", "check", "restore"]


def test_one_whose_form_is_not_known_is_not_tried_again(run, said, monkeypatch):
    machine = Machine(save_error=NoSnapshotError("Bochs saved 21 timers where 22 are known"))
    assert run(machine) == ["save", "boot"]
    assert "21 timers" in said[-1]
    machine.save_error = None
    another_process(monkeypatch)
    assert run(machine) == ["save", "boot", "boot"]


def test_on_a_full_disk_what_was_saved_is_no_reason(run, said, monkeypatch, tmp_path):
    """Bochs does not look at what its writes give, so a full disk shows by what it has saved, if at all."""

    def full(path, data, write=Path.write_bytes):
        if path.name == "room":
            raise OSError(errno.ENOSPC, "full")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    wrong = NoSnapshotError("Bochs saved 0 timers where 22 are known"), LostMachineError("Bochs ended (status 1)")
    for error in (None, *wrong):
        machine = Machine(save_error=error)
        another_process(monkeypatch)
        assert run(machine) == ["save", "boot"]
        assert "no space left on the disk" in said[-1]
        assert is_empty_soon(tmp_path / "kvmharness/snapshots")
    monkeypatch.undo()


def test_one_that_is_too_large_is_not_kept(run, said, monkeypatch, tmp_path):
    monkeypatch.setattr(Machine, "save", lambda machine, folder: large(machine, folder, 151))
    assert run(Machine()) == ["save", "boot"]
    assert "takes 151 MB, more than 150" in said[-1]
    assert not list(tmp_path.rglob("memory"))


def large(machine, folder, megabytes):
    machine.did.append("save")
    (folder / "state").mkdir()
    (folder / "state/memory").write_bytes(b"x" * (megabytes << 20))


def test_those_that_nobody_has_used_for_a_month_are_deleted(run, tmp_path):
    run(Machine())
    (place,) = (tmp_path / "kvmharness/snapshots").iterdir()
    for name, days in (("old", 31), ("recent", 29)):
        (place.parent / name).mkdir()
        os.utime(place.parent / name, (time.time() - days * 86400,) * 2)
    run(Machine())
    assert {path.name for path in place.parent.iterdir()} == {place.name, "recent"}


def test_a_damaged_one_is_made_anew(run, said):
    machine = Machine()
    run(machine)
    machine.damaged = True
    assert run(machine) == ["save", "check", "restore", "restore", "save", "check", "restore"]
    assert "the saved host is damaged; it is made anew" in said


def test_a_job_that_does_not_fit_is_booted_for(run, said):
    machine = Machine(refuses=True)
    assert run(machine)[-1] == "boot"
    assert "50 MB is too large" in said[-1]


def test_a_machine_that_is_lost_is_not_booted_in_its_place(run):
    machine = Machine(loses=True)
    with pytest.raises(LostMachineError, match="panicked"):
        run(machine)
    assert machine.did == ["save", "check", "restore"]


def test_ctrl_c_while_one_is_saved_leaves_nothing_behind(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Machine(save_error=KeyboardInterrupt()))
    assert is_empty_soon(tmp_path / "kvmharness" / "snapshots")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


class Compared(FakeMachine):
    """Boots as it is; what it restores is *other*."""

    def __init__(self, other):
        super().__init__()
        self.other = other

    def run_restored(self, state, job, on_event):
        self.other.run(job, on_event)


def changed(**more):
    """Gives each cell's figures with some of them changed."""

    def execute(emit, *, cells, **rest):
        for number, planned in enumerate(cells):
            figures = raw(number, Cell.parse(planned["id"]), "host", planned["passes"][1])
            emit({"begins": number, "doing": "counting"})
            emit(figures | {name: change(figures[name]) for name, change in more.items()})

    return FakeMachine(calls={EXECUTE: execute})


def test_hosts_that_give_the_same_do_not_differ():
    ticks = {"stats": lambda stats: stats | {"host_state_reload": 3, "preemption_other": 2}}
    assert difference(Compared(changed(**ticks)), Path("state"), Path("modules")) == ""
    clock = {"samples": lambda samples: [sample + sample // 5000 for sample in samples]}
    assert difference(Compared(changed(**clock)), Path("state"), Path("modules")) == ""


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"stats": lambda stats: stats | {"tlb_flush": 1000}}, "tlb_flush"),
        ({"counts": lambda counts: counts | {"kvm_mmu_load": 7}}, "kvm_mmu_load"),
        ({"samples": lambda samples: [sample + sample // 100 for sample in samples]}, "time"),
    ],
)
def test_one_figure_that_differs_is_named(more, name):
    said = difference(Compared(changed(**more)), Path("state"), Path("modules"))
    assert re.search(rf": {name} of a:3x3 is \S+ booted and \S+ restored$", said)


def test_a_booted_host_that_is_not_what_the_restored_one_says():
    machine = Compared(changed())
    machine.calls[EXECUTE] = lambda emit, **rest: emit({"differs": "msrs"})
    said = difference(machine, Path("state"), Path("modules"))
    assert re.fullmatch(r"a restored host is not what a booted one is: .* planned for: msrs", said)


def test_the_kernel_of_one_variant_is_not_saved():
    for of_variant in (True, False):
        kernel = Kernel(Path("bzImage"), Path("modules"), of_variant=of_variant)
        assert snapshots.emulated_host("vmx", kernel).snapshot is not of_variant


def test_what_is_waited_for_is_said_once():
    said = []
    tell = snapshots._once(said.append)
    for line in ("waiting for another, 1 s", "waiting for another, 2 s", "saving", "waiting for another, 13 s"):
        tell(line)
    assert said == ["waiting for another, 1 s", "saving"]


class Fresh(Compared):
    """A host that has never been saved nor asked what it is."""

    identity = saved_identity = "fresh"
    host = catalogue.first()

    def cannot_be_saved(self):
        return ""

    def save(self, folder):
        (folder / "state").mkdir()


def test_who_asks_what_a_fresh_host_is_does_not_wait_for_itself(monkeypatch, tmp_path):
    """The host must be saved before it can answer, and what it is must be known before what is saved is trusted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(probing, "modules_id", lambda folder: "the modules")
    another_process(monkeypatch)
    answers = []

    def ask():
        machine = Snapshotted(Fresh(changed()), Path("modules"), lambda line: None)
        answers.append(probing.surroundings_of(machine, Path("modules"), [()]))

    waiting = threading.Thread(target=ask, daemon=True)
    waiting.start()
    waiting.join(30)
    assert [list(answer) for answer in answers] == [[()]]
