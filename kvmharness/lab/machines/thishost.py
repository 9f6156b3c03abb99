"""This machine as a host for jobs: its own KVM modules are taken out, variants loaded, its own put back.

Only with the user's permission, as root, and while no VM runs. What was loaded is written down before anything is
touched, so that whatever ends the process (Ctrl-C, an error, SIGKILL) the modules come back: at the end of the run, or
at the next start of the tool (:func:`recover`).
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kvmharness.errors import HostRequirementError, LostMachineError
from kvmharness.lab.inside.modules import Loader, ModuleError, vendor_module
from kvmharness.lab.job import Job, OnEvent
from kvmharness.lab.kernels.modulefiles import load_order
from kvmharness.lab.machines.ownmodules import OwnModules, Saved, by_hand, uninterrupted
from kvmharness.lab.machines.thiskernel import ThisKernel, do_here
from kvmharness.lab.steps import Load
from kvmharness.measure.watch import Watch
from kvmharness.system.files import write_whole

JOURNAL = Path("/run/kvmharness-modules.json")


class ThisHost(ThisKernel):
    """The running kernel with other KVM modules (see :class:`kvmharness.lab.job.Machine`).

    Raises:
        HostRequirementError: not root, no processor for KVM, a VM is running, or KVM is built into the kernel.
    """

    def __init__(self, journal: Path = JOURNAL, modules: OwnModules | None = None, watch: Watch | None = None) -> None:
        self.watch = watch
        self._journal = journal
        self._modules = modules or OwnModules()
        if os.geteuid() != 0:
            raise HostRequirementError("reloading KVM's modules needs root", "Run it with sudo.")
        try:
            vendor_module()
        except ModuleError as e:
            raise HostRequirementError(str(e), "Leave --host away for an emulated host.") from e
        self._modules.check_idle()

    def run(self, job: Job, on_event: OnEvent) -> None:
        """Does the steps; afterwards the modules are as they were.

        Raises:
            HostRequirementError: a VM is running by now.
            LostMachineError: the modules could not be put back; the hint says how to.
        """
        orders = {name: load_order(folder) for name, folder in job.modules.items()}
        with borrowed_modules(self._journal, self._modules):
            do_here(job, on_event, _Borrower(orders, self._modules))


class _Borrower(Loader):
    """Puts variants in the place of the machine's own modules."""

    def __init__(self, orders: Mapping[str, list[Path]], modules: OwnModules) -> None:
        self._orders, self._modules = orders, modules

    def load(self, step: Load) -> list[str]:
        self._modules.unload_all()
        return self._modules.insert(self._orders[step.variant], step.params)

    def unload(self) -> list[str]:
        return self._modules.unload_all()


@contextmanager
def borrowed_modules(journal: Path = JOURNAL, modules: OwnModules | None = None) -> Iterator[None]:
    """Inside, KVM's modules are the caller's to change; afterwards they are as they were.

    Raises:
        HostRequirementError: a VM is running, or another run has the modules.
        LostMachineError: the modules could not be put back.
    """
    modules = modules or OwnModules()
    recover(journal, modules)
    modules.check_idle()
    saved = modules.loaded()
    mine = {"pid": os.getpid(), "started": _started(os.getpid()), "modules": saved}
    write_whole(journal, json.dumps(mine).encode())
    try:
        yield
    finally:
        _put_back(saved, journal, modules)


def recover(journal: Path = JOURNAL, modules: OwnModules | None = None) -> bool:
    """Puts back what a run that was killed had taken out; True if there was such a run.

    Raises:
        LostMachineError: it cannot be put back.
        HostRequirementError: another run of the tool has the modules now, or this one is not root's.
    """
    try:
        data = json.loads(journal.read_bytes())
        pid, started, saved = int(data["pid"]), str(data["started"]), dict(data["modules"])
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise LostMachineError(
            f"{journal} says that KVM's modules were changed, but is not readable: {type(e).__name__}: {e}",
            f"Load the modules by hand, then delete {journal}.",
        ) from e
    if pid != os.getpid() and started and _started(pid) == started:
        raise HostRequirementError(f"process {pid} is using KVM's modules", "Wait for it to end: it puts them back.")
    if os.geteuid() != 0:
        raise HostRequirementError(
            "an earlier run was killed before it could put KVM's modules back, and that needs root",
            "Run it with sudo, once.",
        )
    _put_back(saved, journal, modules or OwnModules())
    return True


def _put_back(saved: Saved, journal: Path, modules: OwnModules) -> None:
    with uninterrupted():
        try:
            modules.restore(saved)
        except (ModuleError, HostRequirementError) as e:
            raise LostMachineError(
                f"KVM's modules could not be put back: {e}",
                f"Start the tool again, or by hand: {by_hand(saved)}; their parameters are in {journal}, "
                "which then has to be deleted.",
            ) from e
        journal.unlink(missing_ok=True)


def _started(pid: int) -> str:
    """When a process began, which tells it from a later one of the same number; empty if it is no more.

    Source: proc(5), "/proc/pid/stat": fields 3 (state) and 22 (start time).
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *rest = text.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]
