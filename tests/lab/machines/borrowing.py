"""What `machines.thishost` does to a machine that is there to be tried on. Loaded in an emulated host.

That host is made to look like a real one first: busybox stands in for kmod, the stock modules are installed for
modprobe, and loaded with parameters that are not the default. Each scenario answers plain data.
"""

import os
import signal
import time
from pathlib import Path

from kvmharness.errors import KvmHarnessError
from kvmharness.kvm.system import Kvm
from kvmharness.lab.events import kind_of
from kvmharness.lab.job import Job
from kvmharness.lab.machines.ownmodules import OwnModules, tool
from kvmharness.lab.machines.thishost import JOURNAL, ThisHost, recover
from kvmharness.lab.steps import Call, Load, Unload, fields_of

VARIANTS = {name: Path("/job/modules", name) for name in ("none", "both")}
OWN = Path("/job/modules/both")
PARAMETERS = {"kvm": "tdp_mmu=N", "kvm_intel": "vpid=N"}
LOAD = Load("none", {"kvm.halt_poll_ns": "7"})
EXECUTE = "kvmharness.cells.execute:execute"
LEFT_OPEN = []


def like_a_real_host():
    folder = Path("/lib/modules", os.uname().release)
    folder.mkdir(parents=True)
    order = (OWN / "order").read_text().split()
    below: list[str] = []
    rows = []
    for name in order:
        (folder / name).symlink_to(OWN / name)
        rows.append(f"{name}: {' '.join(reversed(below))}\n")
        below += [] if name in ("kvm_intel.ko", "kvm_amd.ko", "ccp.ko") else [name]
    (folder / "modules.dep").write_text("".join(rows))
    for name in ("insmod", "modprobe", "rmmod"):
        Path("/bin", name).symlink_to("busybox")
    for name, parameter in PARAMETERS.items():
        tool("modprobe", name, parameter)


def state():
    """Everything that must be the same afterwards."""
    names = sorted(line.split()[0] for line in Path("/proc/modules").read_text().splitlines())
    return {"names": names, "parameters": OwnModules().loaded(), "journal": JOURNAL.exists()}


def run_job(steps, variants=VARIANTS, **options):
    """Runs it; how it ended, and its events."""
    events: list[dict] = []

    def take(event):
        events.append({"event": kind_of(event), **fields_of(event)})

    try:
        ThisHost(**options).run(Job(tuple(steps), modules=variants), take)
    except KvmHarnessError as e:
        return {"type": type(e).__name__, "message": str(e), "hint": e.hint, "events": events}
    except BaseException as e:
        return {"type": type(e).__name__, "events": events}
    return {"type": None, "events": events}


def call(function, **arguments):
    return Call(function, arguments, required=True)


def two_variants(turns):
    steps = []
    for name, params, cells in turns:
        steps.append(Load(name, params))
        steps.append(call("borrowing:parameters"))
        steps.append(call(EXECUTE, **cells))
        steps.append(Unload())
    return run_job(steps)


def parameters(emit):
    emit({"parameters": OwnModules().loaded()})


def vm_is_open():
    host = ThisHost()
    with Kvm.open() as kvm, kvm.create_vm():
        first = run_job([LOAD])
        events: list[dict] = []
        try:
            host.run(Job((LOAD,), modules=VARIANTS), events.append)
        except KvmHarnessError as e:
            return {**first, "second": type(e).__name__, "events": events, "journal": JOURNAL.exists()}
    return first


def a_bug():
    return run_job([LOAD, call("borrowing:crash")])


def crash(emit):
    with Kvm.open() as kvm, kvm.create_vm():
        emit({"parameters": OwnModules().loaded()})
        raise ZeroDivisionError


def ctrl_c():
    return run_job([LOAD, call("borrowing:interrupt")])


def interrupt(emit):
    with Kvm.open() as kvm, kvm.create_vm():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)


def ctrl_c_while_putting_back():
    def run(*command):
        if command[0] == "modprobe":
            os.kill(os.getpid(), signal.SIGINT)
        tool(*command)

    return run_job([LOAD], modules=OwnModules(run=run))


def killed():
    pid = os.fork()
    if not pid:
        run_job([LOAD, call("borrowing:kill")])
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, but not yet waited for: its number is still taken
    left = state()
    recovered = recover()
    os.waitpid(pid, 0)
    return {"left": left, "recovered": recovered, "again": recover()}


def kill(emit):
    with Kvm.open() as kvm, kvm.create_vm():
        os.kill(os.getpid(), signal.SIGKILL)


def another_run_has_them():
    ready, say = os.pipe()
    pid = os.fork()
    if not pid:
        run_job([LOAD, call("borrowing:wait", fd=say)])
        os._exit(0)
    os.read(ready, 1)
    refused = run_job([LOAD])
    os.kill(pid, signal.SIGINT)
    os.waitpid(pid, 0)
    os.close(ready)
    os.close(say)
    return refused


def wait(emit, fd):
    os.write(fd, b"x")
    time.sleep(100)


def a_variant_that_does_not_load():
    folder = Path("/tmp/broken")
    folder.mkdir()
    for path in VARIANTS["none"].glob("*.ko"):
        data = path.read_bytes()
        if path.name == "kvm_intel.ko":  # of another kernel, by what it says of itself
            assert b"vermagic=6" in data
            data = data.replace(b"vermagic=6", b"vermagic=7")
        (folder / path.name).write_bytes(data)
    return run_job([Load("broken"), call("borrowing:crash")], {"broken": folder})


def a_vm_left_open():
    lost = run_job([LOAD, call("borrowing:leave_open")])
    left = state()
    while LEFT_OPEN:
        LEFT_OPEN.pop().close()
    return {**lost, "left": left, "recovered": recover()}


def leave_open(emit):
    LEFT_OPEN.append(Kvm.open())
    LEFT_OPEN.append(LEFT_OPEN[0].create_vm())


def nothing_was_loaded():
    for name in ("kvm_intel", "kvm", "irqbypass"):
        tool("rmmod", name)
    before = state()
    done = run_job([LOAD, call("borrowing:parameters")])
    after = state()
    for name, parameter in PARAMETERS.items():
        tool("modprobe", name, parameter)
    return {**done, "same": before == after, "names": after["names"]}


SCENARIOS = (
    two_variants,
    vm_is_open,
    a_bug,
    ctrl_c,
    ctrl_c_while_putting_back,
    killed,
    another_run_has_them,
    a_variant_that_does_not_load,
    a_vm_left_open,
    nothing_was_loaded,
)


def run(emit, turns):
    """The job's step: every scenario, with the state before and after it.

    Args:
        turns: each a variant's name, parameters of its modules, and what :data:`EXECUTE` is to do then.
    """
    like_a_real_host()
    for scenario in SCENARIOS:
        before = state()
        outcome = scenario(turns) if scenario is two_variants else scenario()
        emit({"scenario": scenario.__name__, "outcome": outcome, "before": before, "after": state()})
