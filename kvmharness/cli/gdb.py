"""--gdb: an emulated host that waits for a debugger, with the commands that give it the right symbols."""

from collections.abc import Mapping
from pathlib import Path

from kvmharness.cli.output import Output
from kvmharness.errors import UsageError
from kvmharness.hosts import catalogue
from kvmharness.lab.events import Data, Event
from kvmharness.lab.job import Job, Machine
from kvmharness.lab.kernels.build import SOURCES, SYMBOLS, VMLINUX
from kvmharness.lab.steps import Call, Load
from kvmharness.results.jsonread import Fields, integer_map, text
from kvmharness.validation.chosen import Chosen
from kvmharness.validation.host import Emulated
from kvmharness.vendors.names import NAMES

SECTIONS = "kvmharness.lab.inside.sections:sections"
_TIMEOUT_S = 300.0


def check_gdb(host: Emulated) -> None:
    """Refuses a host whose emulator has nothing that gdb could talk to.

    Raises:
        UsageError: with what there is instead.
    """
    if not host.entry.emulator.gdb:
        fitting = next(entry.spec for entry in catalogue.HOSTS if entry.emulator.gdb)
        raise UsageError(
            f"--gdb: {host.entry.emulator.title} is built without its stub for gdb, so there is none with {host.spec}",
            f"Take --host {fitting} for what is not VMX's alone. Else `kvmharness run CELL --host {host.spec} --trace` "
            "shows what KVM calls, and `kvmharness lab shell` has kprobes and tracepoints in /sys/kernel/tracing.",
        )


def commands(machine: Machine, one: Chosen, params: Mapping[str, str], socket: Path) -> list[str]:
    """What gdb is to be told: symbols of the kernel and of the modules where they will be, and where the host waits.

    Modules lie at the same addresses in each boot of a kernel that loads the same ones: they are read in a boot of its
    own, before the one that is waited for.

    Args:
        machine: boots that kernel.
        one: the kernel, and the modules.
        params: of the modules.
        socket: where the host will wait.

    Raises:
        LostMachineError, StepFailedError, UsageError: that boot failed, or what it says is none.
    """
    modules = ["kvm", *(vendor.module for vendor in NAMES)]
    there: dict[str, Mapping[str, int]] = {}

    def take(event: Event) -> None:
        if isinstance(event, Data):
            with Fields(event.data, "sections") as fields:
                there[fields.take("module", text)] = fields.take("sections", integer_map)

    name = one.variant.id.name
    steps = Load(name, dict(params)), Call(SECTIONS, {"modules": modules}, required=True)
    machine.run(Job(steps, modules={name: one.variant.modules}, timeout_s=_TIMEOUT_S), take)
    kernel, folder = one.kernel, one.variant.modules
    lines = ["set pagination off"]
    if (vmlinux := kernel.image.parent / VMLINUX).exists():
        lines.append(f"file {vmlinux}")
    sources = [path for path in (folder / SOURCES, kernel.tree) if path and path.is_dir()]
    lines += [f"directory {':'.join(map(str, sources))}"] if sources else []
    for module, sections in there.items():
        name = f"{module.replace('_', '-')}.ko"
        path = next(iter([*folder.rglob(f"{name}{SYMBOLS}"), *folder.rglob(name)]), None)
        if path and ".text" in sections:
            others = (f"-s {section} {at:#x}" for section, at in sections.items() if section != ".text")
            lines.append(" ".join([f"add-symbol-file {path} {sections['.text']:#x}", *others]))
    return [*lines, f"target remote {socket}"]


def announce(lines: list[str], folder: Path, output: Output) -> None:
    """Writes the commands to a file, and says how to begin."""
    script = folder / "commands"
    script.write_text("\n".join([*lines, ""]))
    entry = "nested_svm_vmrun"
    output.result(
        "\n".join(
            [
                "The host waits for gdb. In another terminal:",
                "",
                f"  gdb -x {script}",
                "",
                "or, in a gdb that runs:",
                "",
                *(f"  {line}" for line in lines),
                "",
                f"then, for example: break {entry}, continue, backtrace, info locals; detach or kill to end.",
            ]
        )
    )
