"""This machine as a host for jobs: its own KVM modules are taken out, variants loaded, its own put back.

Only with the user's permission, as root, and while no VM runs. What was loaded is written down before anything is
touched, so that whatever ends the process (Ctrl-C, an error, SIGKILL) the modules come back: at the end of the run, or
at the next start of the tool (:func:`recover`).
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from kvmharness.errors import HostRequirementError, LostMachineError
from kvmharness.files import write_whole
from kvmharness.lab.agent import KernelLog
from kvmharness.lab.execute import execute
from kvmharness.lab.machine import Job, OnEvent
from kvmharness.lab.module_order import load_order
from kvmharness.lab.modules import ModuleError, module_name, vendor_module
from kvmharness.lab.tools import find

JOURNAL = Path("/run/kvmharness-modules.json")
_SYS = Path("/sys/module")
_MODULES = ("kvm", "kvm_intel", "kvm_amd")

Saved = dict[str, dict[str, str]]
"""Module -> its parameters, as they were."""


class ThisHost:
    """The running kernel with other KVM modules (see :class:`kvmharness.lab.machine.Machine`).

    Raises:
        HostRequirementError: not root, or a VM is running.
    """

    def __init__(self, journal: Path = JOURNAL) -> None:
        self._journal = journal
        if os.geteuid() != 0:
            raise HostRequirementError("reloading KVM's modules needs root", "Run it with sudo.")
        check_idle()

    @property
    def description(self) -> str:
        """For records and messages."""
        return f"this machine ({os.uname().nodename})"

    def run(self, job: Job, on_event: OnEvent) -> None:
        """Does the steps; afterwards the modules are as they were.

        Raises:
            UsageError: the job is not one.
            LostMachineError: the modules could not be put back; the message says how to.
        """
        job.check()
        orders = {name: load_order(folder) for name, folder in job.modules.items()}
        log = KernelLog()
        with borrowed_modules(self._journal):
            for number, step in enumerate(job.steps):
                if not _step(number, step, orders, log, on_event):
                    return


def _step(
    number: int, step: Mapping[str, Any], orders: Mapping[str, list[Path]], log: KernelLog, on_event: OnEvent
) -> bool:
    """One step and its events, in the form that an emulated host's agent gives them; False ends the job."""

    def send(event: str, **more: object) -> None:
        on_event({"step": number, "event": event, **more})

    send("begin", do=step["do"])
    try:
        result = _do(step, orders, send)
    except ModuleError as e:
        _send_log(log, send)
        send("error", type=type(e).__name__, message=str(e), hint=e.hint, exit_code=int(e.exit_code))
        return False
    _send_log(log, send)
    send("end", result=result)
    return True


def _send_log(log: KernelLog, send: Any) -> None:
    if gained := log.gained():
        send("dmesg", lines=gained)


def _do(step: Mapping[str, Any], orders: Mapping[str, list[Path]], send: Any) -> object:
    match step["do"]:
        case "load":
            unload_all()
            return insert(orders[step["variant"]], step.get("params") or {})
        case "unload":
            return unload_all()
        case "call":
            module, _, name = str(step["function"]).partition(":")
            return getattr(import_module(module), name)(
                lambda data: send("data", data=data), **(step.get("args") or {})
            )
        case _:
            return execute(dict(step), lambda text: send("output", text=text))


def check_idle() -> None:
    """Refuses to touch modules that somebody uses.

    Raises:
        HostRequirementError: a VM is running, or a module of KVM is in use otherwise.
    """
    for name in ("kvm_intel", "kvm_amd"):
        with suppress(OSError):
            users = int((_SYS / name / "refcnt").read_text())
            if users:
                raise HostRequirementError(
                    f"{name} is in use ({users} users): a VM is running", "Stop all VMs on this machine first."
                )


@contextmanager
def borrowed_modules(journal: Path = JOURNAL) -> Iterator[None]:
    """Inside, KVM's modules are the caller's to change; afterwards they are as they were.

    Raises:
        HostRequirementError: a VM is running.
        LostMachineError: the modules could not be put back.
    """
    check_idle()
    recover(journal)
    saved = loaded_modules()
    write_whole(journal, json.dumps({"pid": os.getpid(), "modules": saved}).encode())
    try:
        yield
    finally:
        restore(saved)
        journal.unlink(missing_ok=True)


def recover(journal: Path = JOURNAL) -> bool:
    """Puts back what a run that was killed had taken out; True if there was such a run.

    Raises:
        LostMachineError: it cannot be put back.
        HostRequirementError: another run of the tool has the modules now.
    """
    try:
        data = json.loads(journal.read_bytes())
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as e:
        raise LostMachineError(
            f"{journal} says that KVM's modules were changed, but is not readable: {e}",
            f"Load the modules by hand, then delete {journal}.",
        ) from e
    if _alive(int(data["pid"])):
        raise HostRequirementError(
            f"process {data['pid']} is using KVM's modules", "Wait for it to end: it puts the modules back."
        )
    restore(data["modules"])
    journal.unlink(missing_ok=True)
    return True


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def loaded_modules() -> Saved:
    """KVM's modules that are loaded, dependencies first, with their parameters."""
    return {name: _parameters(name) for name in _MODULES if (_SYS / name / "refcnt").exists()}


def _parameters(name: str) -> dict[str, str]:
    found = {}
    for path in sorted((_SYS / name / "parameters").glob("*")):
        with suppress(OSError):  # some can only be written
            found[path.name] = path.read_text().strip()
    return found


def restore(saved: Saved) -> None:
    """Loads the host's own modules again, with the parameters that they had.

    Parameters are given only where the host's own configuration leads to other ones: not everything that the kernel
    shows as a parameter's value does it also take.

    Raises:
        LostMachineError: it fails.
    """
    try:
        unload_all()
        for name in saved:
            _run(find("modprobe"), name)
        wrong = _differences(saved)
        if wrong:
            unload_all()
            for name in saved:
                options = [f"{key}={value}" for key, value in wrong.get(name, {}).items()]
                _run(find("modprobe"), name, *options)
    except ModuleError as e:
        raise LostMachineError(
            f"KVM's modules could not be put back: {e}", f"By hand: modprobe {' and modprobe '.join(saved)}"
        ) from e
    if wrong := _differences(saved):
        shown = " ".join(f"{name}.{key}={value}" for name, keys in wrong.items() for key, value in keys.items())
        raise LostMachineError(f"KVM's modules are back, but not with all parameters: {shown}", "Reload them by hand.")


def _differences(saved: Saved) -> Saved:
    """The parameters that are not as they were."""
    now = loaded_modules()
    different = {
        name: {key: value for key, value in keys.items() if now.get(name, {}).get(key) != value}
        for name, keys in saved.items()
    }
    return {name: keys for name, keys in different.items() if keys}


def insert(order: list[Path], params: Mapping[str, str]) -> list[str]:
    """Inserts module files, dependencies first, with nested=1 for the vendor's.

    Args:
        order: see :func:`kvmharness.lab.module_order.load_order`.
        params: ``{"kvm.tdp_mmu": "N"}``; those of the other vendor's module are left out.

    Raises:
        ModuleError: the kernel refuses one.
    """
    vendor = vendor_module()
    wanted = {f"{vendor}.nested": "1", **params}
    inserted = []
    for path in order:
        name = module_name(path.name)
        if (name in _MODULES[1:] and name != vendor) or (_SYS / name).exists():
            continue
        options = [f"{key.partition('.')[2]}={value}" for key, value in wanted.items() if key.startswith(f"{name}.")]
        _run(find("insmod"), str(path), *options)
        inserted.append(name)
    return inserted


def unload_all() -> list[str]:
    """Takes KVM's modules out, users first.

    Raises:
        ModuleError: one is in use.
    """
    gone = []
    for name in reversed(_MODULES):
        if (_SYS / name / "refcnt").exists():
            _run(find("rmmod"), name)
            gone.append(name)
    return gone


def _run(*command: str) -> None:
    printed: list[str] = []
    done = execute({"argv": list(command)}, printed.append)
    if done["status"] != 0:
        raise ModuleError(f"{' '.join(command)}: {''.join(printed).strip() or 'failed'}")
