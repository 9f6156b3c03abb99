"""Linux' own KVM selftests, built statically from a kernel's tree and run in an emulated host, all in one boot.

They say whether KVM works in the emulated host at all, without anything of this package in between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kvmharness.lab.events import End, Event, Failed, Output
from kvmharness.lab.job import Job, Machine
from kvmharness.lab.kernels.make import check_tools, make
from kvmharness.lab.kernels.trees import link_tree
from kvmharness.lab.steps import Exec, Exited, Load
from kvmharness.system import cache
from kvmharness.system.programs import Progress, disk_errors, silent

# What touches nested VMX, and two that touch the registers without it.
NESTED_VMX = (
    "x86_64/state_test",
    "x86_64/vmx_close_while_nested_test",
    "x86_64/vmx_set_nested_state_test",
    "x86_64/vmx_dirty_log_test",
    "x86_64/set_sregs_test",
    "x86_64/sync_regs_test",
)
_FOLDER = "tools/testing/selftests/kvm"
# Folders that `make headers` and the tests' own Makefile write to.
_OWN_FOLDERS = ("usr", "scripts", "include/generated", "arch/x86/include/generated")
_BUILD_TIMEOUT_S = 600.0
# Source: tools/testing/selftests/kselftest.h, KSFT_SKIP.
_SKIP_STATUS = 4


@dataclass(slots=True)
class Selftest:
    """How one selftest ended.

    Attributes:
        name: as in the kernel's tree.
        outcome: ``pass``, ``skip`` or ``fail``.
        reason: for a skip or a failure: exit status, signal or time-out.
        output: what it printed.
    """

    name: str
    outcome: str = "fail"
    reason: str = "did not run"
    output: str = field(default="", repr=False)


def build(tree: Path, names: Sequence[str] = NESTED_VMX, *, progress: Progress = silent) -> dict[str, Path]:
    """Build selftests statically; cached.

    Args:
        tree: :attr:`kvmharness.lab.kernels.build.Kernel.tree`; not written to.
        names: relative to the kernel's folder of KVM selftests.

    Returns:
        The binary of each name.

    Raises:
        KernelBuildError, MissingToolError, DiskFullError.
    """
    key = cache.digest(tree.parent.name, list(names))

    def fill(folder: Path) -> None:
        check_tools()
        farm = folder / "tree"
        link_tree(tree, farm, {}, _OWN_FOLDERS)
        make(farm, "headers", what="kernel headers", progress=progress, timeout_s=_BUILD_TIMEOUT_S)
        output = folder / "out"
        with disk_errors(output):
            output.mkdir()
        targets = [f"{output}/{name}" for name in names]
        # The Makefile adds to what these variables hold already; on its command line they would replace its own.
        make(
            farm / _FOLDER,
            f"OUTPUT={output}",
            *targets,
            what="KVM selftests",
            progress=progress,
            timeout_s=_BUILD_TIMEOUT_S,
            env={"LDFLAGS": "-static", "CFLAGS": "-Wno-error"},
        )
        for name in names:
            place = folder / "bin" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            (output / name).rename(place)

    folder = cache.folder_entry("selftests", key, fill, progress)
    return {name: folder / "bin" / name for name in names}


def run(
    machine: Machine,
    binaries: Mapping[str, Path],
    modules: Path,
    *,
    params: Mapping[str, str] | None = None,
    test_timeout_s: float = 120.0,
) -> list[Selftest]:
    """Run selftests in one boot, in order.

    Args:
        modules: KVM's modules for the machine's kernel; loaded with nested=1.
        params: more module parameters.
        test_timeout_s: for each test, in seconds of the emulated clock.

    Raises:
        StepFailedError: the modules do not load.
        KernelPanicError, HangError, LostMachineError: a test took the host down; those before it are lost too.
    """
    names = list(binaries)
    results = [Selftest(name) for name in names]

    def note(event: Event) -> None:
        match event:
            case Output():
                results[event.step - 1].output += event.text
            case Failed(step=number) if number:
                results[number - 1].reason = event.message
            case End(result=Exited() as ended):
                test = results[event.step - 1]
                test.outcome, test.reason = _judge(ended)

    job = Job(
        steps=(
            Load("stock", dict(params or {})),
            *(Exec((f"/selftests/{name}",), timeout_s=test_timeout_s) for name in names),
        ),
        files={f"selftests/{name}": path for name, path in binaries.items()},
        modules={"stock": modules},
        timeout_s=60 + test_timeout_s * len(names),
    )
    machine.run(job, note)
    return results


def _judge(ended: Exited) -> tuple[str, str]:
    """(outcome, reason) of a test."""
    if ended.timed_out:
        return "fail", "timed out"
    if ended.signal is not None:
        return "fail", f"ended by {ended.signal}"
    if ended.status == 0:
        return "pass", ""
    return ("skip" if ended.status == _SKIP_STATUS else "fail"), f"exit status {ended.status}"
