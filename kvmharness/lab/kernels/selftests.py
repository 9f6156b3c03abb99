"""Linux' own KVM selftests, built statically from a kernel's tree and run in an emulated host, all in one boot.

They say whether KVM works in the emulated host at all, without anything of this package in between.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from kvmharness.lab.events import Begin, End, Event, Failed, Output
from kvmharness.lab.job import HangError, Job, KernelPanicError, Machine
from kvmharness.lab.kernels.make import check_tools, make
from kvmharness.lab.kernels.trees import Overlay, link_tree
from kvmharness.lab.steps import Exec, Exited, Load
from kvmharness.results.kernelwords import reports
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
_NOTHING_ADDED: Mapping[str, str] = MappingProxyType({})
_FIRST_TEST = re.compile(r"^TEST_GEN_PROGS_x86_64 \+?= .*\n", re.MULTILINE)
_BUILD_TIMEOUT_S = 600.0
# Source: tools/testing/selftests/kselftest.h, KSFT_SKIP.
_SKIP_STATUS = 4


@dataclass(slots=True)
class Selftest:
    """How one selftest ended.

    Attributes:
        name: as in the kernel's tree.
        outcome: ``pass``, ``skip``, ``fail``, ``panic`` or ``hang``.
        reason: for a skip or a failure: exit status, signal or time-out.
        output: what it printed.
    """

    name: str
    outcome: str = "fail"
    reason: str = "did not run"
    output: str = field(default="", repr=False)


def build(
    tree: Path,
    names: Sequence[str] = NESTED_VMX,
    *,
    added: Mapping[str, str] = _NOTHING_ADDED,
    progress: Progress = silent,
) -> dict[str, Path]:
    """Build selftests statically; cached.

    Args:
        tree: :attr:`kvmharness.lab.kernels.build.Kernel.tree`; not written to.
        names: relative to the kernel's folder of KVM selftests.
        added: C sources of some of them that the tree does not have.

    Returns:
        The binary of each name.

    Raises:
        KernelBuildError, MissingToolError, DiskFullError.
    """
    key = cache.digest(tree.parent.name, list(names), *([dict(added)] if added else []))

    def fill(folder: Path) -> None:
        check_tools()
        farm = folder / "tree"
        link_tree(tree, farm, _with(tree, added), _OWN_FOLDERS)
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


def _with(tree: Path, added: Mapping[str, str]) -> Overlay:
    """The tree's files that change when tests are added: their sources, and the Makefile, which must name them."""
    if not added:
        return {}
    makefile = (tree / _FOLDER / "Makefile").read_text("utf-8")
    lines = "".join(f"TEST_GEN_PROGS_x86_64 += {name}\n" for name in added)
    listed = _FIRST_TEST.sub(lambda first: first[0] + lines, makefile, count=1)
    sources = {f"{_FOLDER}/{name}.c": text.encode() for name, text in added.items()}
    return {f"{_FOLDER}/Makefile": listed.encode(), **sources}


def run(
    machine: Machine,
    binaries: Mapping[str, Path],
    modules: Path,
    *,
    params: Mapping[str, str] | None = None,
    test_timeout_s: float = 120.0,
) -> list[Selftest]:
    """Runs selftests in order, in one boot if none of them takes the host down.

    Args:
        modules: KVM's modules for the machine's kernel; loaded with nested=1.
        params: more module parameters.
        test_timeout_s: for each test, in seconds of the emulated clock.

    A test that takes the host down has that for its outcome, and the others go on in a new boot.

    Raises:
        StepFailedError: the modules do not load.
        LostMachineError: the host was lost for reasons of its own.
    """
    results = {name: Selftest(name) for name in binaries}
    left = list(binaries)
    while left:
        begun: list[str] = []
        try:
            _boot(machine, {name: binaries[name] for name in left}, modules, params, test_timeout_s, results, begun)
        except (KernelPanicError, HangError) as error:
            if not begun:
                raise
            test = results[begun[-1]]
            test.outcome = "panic" if isinstance(error, KernelPanicError) else "hang"
            test.reason = next((each.headline for each in reports(error.console)), str(error))
            left = left[len(begun) :]
        else:
            left = []
    return list(results.values())


def _boot(
    machine: Machine,
    binaries: Mapping[str, Path],
    modules: Path,
    params: Mapping[str, str] | None,
    test_timeout_s: float,
    results: Mapping[str, Selftest],
    begun: list[str],
) -> None:
    """Runs selftests in one boot; those that begin are noted, in order."""
    names = list(binaries)

    def note(event: Event) -> None:
        match event:
            case Begin(step=number) if number:
                begun.append(names[number - 1])
            case Output():
                results[names[event.step - 1]].output += event.text
            case Failed(step=number) if number:
                results[names[number - 1]].reason = event.message
            case End(result=Exited() as ended):
                test = results[names[event.step - 1]]
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


def _judge(ended: Exited) -> tuple[str, str]:
    """(outcome, reason) of a test."""
    if ended.timed_out:
        return "fail", "timed out"
    if ended.signal is not None:
        return "fail", f"ended by {ended.signal}"
    if ended.status == 0:
        return "pass", ""
    return ("skip" if ended.status == _SKIP_STATUS else "fail"), f"exit status {ended.status}"
