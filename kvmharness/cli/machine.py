"""The emulated host as the command line sees it: options that choose kernel and CPU, and jobs for them."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvmharness.cli.output import Output, Task
from kvmharness.errors import UsageError
from kvmharness.lab.job import Job, Machine
from kvmharness.lab.kernels import build, source
from kvmharness.lab.kernels.build import Kernel
from kvmharness.lab.machines import bochs, qemu
from kvmharness.lab.machines.catalogue import emulated_host
from kvmharness.lab.steps import Load, Step

LOCAL = "local"
EMULATED = "vmx"
_CPUS = {"vmx": tuple(bochs.CPUS), "svm": tuple(qemu.CPUS)}
_DEFAULT_CPU = {"vmx": bochs.DEFAULT_CPU, "svm": qemu.DEFAULT_CPU}
HOST_HELP = "; ".join(f"{kind} or {kind}:CPU, CPU one of {', '.join(cpus)}" for kind, cpus in _CPUS.items())


def cpu_of(host: str) -> str:
    """The CPU model's short name in ``vmx``, ``svm``, ``vmx:CPU`` or ``svm:CPU``.

    Raises:
        UsageError: there is no such host.
    """
    kind, colon, cpu = host.partition(":")
    if kind not in _CPUS or (colon and cpu not in _CPUS[kind]):
        raise UsageError(f"no host is called {host!r}", f"Choose {HOST_HELP}.")
    return cpu or _DEFAULT_CPU[kind]


def vendor_module(host: str) -> str:
    """The vendor's KVM module on a host; Intel's where this machine has none."""
    if host != LOCAL:
        return "kvm_amd" if host.partition(":")[0] == "svm" else "kvm_intel"
    from kvmharness.hosts import facts

    return "kvm_amd" if facts().svm else "kvm_intel"


def add_kernel_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which kernel the emulated host runs."""
    group = parser.add_argument_group("the emulated host's kernel", "By default Debian's linux-source-6.1, built once.")
    group.add_argument(
        "--source", metavar="PATH", type=Path, help="build this kernel: a source tree (left as it is) or a tarball"
    )
    group.add_argument("--kernel", metavar="BZIMAGE", type=Path, help="boot this kernel as it is, with --modules")
    group.add_argument("--modules", metavar="FOLDER", type=Path, help="KVM's modules for --kernel")


def chosen(options: argparse.Namespace, task: Task) -> tuple[Kernel, Machine]:
    """The kernel and the emulated host that the options ask for; the host's name is looked at first.

    Raises:
        UsageError: there is no such host, or as :func:`kernel_of`.
    """
    cpu = cpu_of(options.host)
    kernel = kernel_of(options, task)
    return kernel, emulated_host(cpu, kernel)


def kernel_of(options: argparse.Namespace, task: Task) -> Kernel:
    """The kernel that the options ask for, built if it has to be.

    Raises:
        UsageError: the options contradict each other, or name what is not there.
        KvmHarnessError: the build failed.
    """
    if (options.kernel is None) != (options.modules is None):
        raise UsageError("--kernel and --modules belong together", "Name both, or neither.")
    if options.kernel is not None:
        if options.source is not None:
            raise UsageError("--kernel boots a kernel as it is, --source builds one", "Name one of them.")
        return build.given(options.kernel, options.modules)
    origin = source.debian() if options.source is None else source.at(options.source)
    return build.kernel(origin, progress=task.tick)


def machine(host: str, kernel: Kernel) -> Machine:
    """The emulated host with that kernel."""
    return emulated_host(cpu_of(host), kernel)


def put_back_modules(output: Output) -> None:
    """Puts back the KVM modules that a run which was killed had taken out of this machine.

    Raises:
        LostMachineError: they cannot be put back; says what to do by hand.
        HostRequirementError: another run has them now.
    """
    from kvmharness.lab.machines.thishost import recover

    if recover():
        output.say("an earlier run was killed before it could put KVM's modules back: done now")


def job(step: Step, kernel: Kernel, parameters: Mapping[str, str], **more: Any) -> Job:
    """A job that loads the kernel's own KVM modules first."""
    return Job((Load("host", dict(parameters)), step), modules={"host": kernel.modules}, **more)


def parameter(text: str) -> tuple[str, str]:
    """Reads ``module.name=value``, as an argparse type."""
    name, equals, value = text.partition("=")
    if not equals or name.count(".") != 1 or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form module.name=value, such as kvm.tdp_mmu=N")
    return name, value


def add_parameter_option(parser: argparse.ArgumentParser) -> None:
    """The option that sets KVM's module parameters."""
    parser.add_argument(
        "--param",
        metavar="MODULE.NAME=VALUE",
        type=parameter,
        action="append",
        default=[],
        help="load KVM with this parameter, for example kvm.tdp_mmu=N; may be given several times",
    )
