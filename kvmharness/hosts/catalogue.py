"""The emulated hosts, one row each, as data: what the lab boots, what needs are met where, what a user may type.

An emulator is one class in a file of its own, an :class:`Emulator` here that names it, and the rows of its machines.
The row of a vendor that stands first is what the vendor's name alone means.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from kvmharness.errors import UsageError
from kvmharness.lean.dataclasses import dataclass
from kvmharness.vendors.names import named as vendor_named


@dataclass(frozen=True, slots=True)
class Emulator:
    """A program that hosts are emulated by.

    Attributes:
        title: what messages call it.
        machine: the class that makes its machines, "module:Class", of the form of
            :class:`kvmharness.lab.machines.emulator.EmulatedMachine`.
        packages: its group in :mod:`kvmharness.system.packages`; empty when nothing has to be installed.
        itself: what of that is the emulator itself, which the user may bring along.
        gdb: a debugger can be attached to its machines.
    """

    title: str
    machine: str
    packages: str = ""
    itself: tuple[str, ...] = ()
    gdb: bool = False

    def lacks(self, *, brought: bool = False) -> dict[str, str]:
        """What must be installed before its hosts can be started: program or file -> packages.

        Args:
            brought: the user has an emulator of his own.
        """
        from kvmharness.system import packages

        wanted = getattr(packages, self.packages) if self.packages else ()
        return packages.missing(name for name in wanted if not (brought and name in self.itself))

    def machine_class(self) -> Any:
        """The class that :attr:`machine` names."""
        module, _, name = self.machine.partition(":")
        return getattr(import_module(module), name)


@dataclass(frozen=True, slots=True)
class EmulatedHost:
    """One emulated host.

    Attributes:
        name: its full name, ``vmx:skylake``: the vendor and a short name of the CPU model.
        emulator: what it runs in.
        model: the CPU model as the emulator calls it.
        offers: the needs of :mod:`kvmharness.hosts.needs` that its L0 meets.
        command_line: more for its kernel's command line, for example against what the emulator does wrong.
    """

    name: str
    emulator: Emulator
    model: str
    offers: tuple[str, ...]
    command_line: str = ""

    @property
    def vendor(self) -> str:
        """The vendor's name."""
        return self.name.partition(":")[0]

    @property
    def cpu(self) -> str:
        """The CPU model's short name."""
        return self.name.partition(":")[2]

    @property
    def spec(self) -> str:
        """The shortest text that means this host."""
        return self.vendor if first(self.vendor) is self else self.name

    def offer(self, needs: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
        """What KVM must be loaded with there for *needs*, and which of them the host cannot meet.

        Args:
            needs: valid ones. A kernel's version is for the host itself to judge, once it runs.
        """
        params: dict[str, str] = {}
        missing = []
        for need in needs:
            name, equals, value = need.partition("=")
            if need in self.offers or need.startswith("kernel"):
                continue
            if equals:
                params[name] = value
            elif need == "no_ept":  # whatever it has can be switched off
                params[vendor_named(self.vendor).tdp] = "0"
            else:
                missing.append(need)
        return params, tuple(missing)


BOCHS = Emulator("Bochs", "kvmharness.lab.machines.bochs:Bochs", "BOCHS", ("bochs", "libbx_sdl2_gui.so"))
QEMU = Emulator("QEMU", "kvmharness.lab.machines.qemu:Qemu", "QEMU", ("qemu-system-x86_64",), gdb=True)

_ALL = ("kvm", "nested", "perf", "kprobes", "root")
_VMX = (*_ALL, "nested_vmx", "pcid")
_EPT = (*_VMX, "ept", "tdp", "tdp_mmu", "invept", "vpid", "tlb_tags")
_SHADOW_VMCS = (*_EPT, "shadow_vmcs", "invpcid")
_SVM = (*_ALL, "nested_svm", "tlb_tags")

# The TSC counts instructions. To a kernel that takes it to be as slow as the emulator is, delays are as short; by its
# real frequency, three quarters of a boot are spent waiting for the calibration of the local APIC's timer.
_FAST_CLOCK = "tsc_early_khz=50000"

HOSTS = (
    # + PML and TSC scaling. Bochs says that a compacted XSAVE area has the size of a standard one; the kernel warns at
    # that and gives up XSAVE.
    EmulatedHost("vmx:skylake", BOCHS, "corei7_skylake_x", _SHADOW_VMCS, command_line="clearcpuid=xsavec,xsaves"),
    EmulatedHost("vmx:haswell", BOCHS, "corei7_haswell_4770", _SHADOW_VMCS),  # + EPT A/D
    EmulatedHost("vmx:sandybridge", BOCHS, "corei7_sandy_bridge_2600k", _EPT),  # + unrestricted guest
    EmulatedHost("vmx:lynnfield", BOCHS, "corei5_lynnfield_750", _EPT),
    # Came before EPT and VPID.
    EmulatedHost("vmx:penryn", BOCHS, "core2_penryn_t9600", (*_VMX, "no_ept")),
    EmulatedHost("svm:epyc", QEMU, "EPYC-v3,+svm,+npt", (*_SVM, "npt", "tdp", "tdp_mmu"), _FAST_CLOCK),
    EmulatedHost("svm:epyc-nonpt", QEMU, "EPYC-v3,+svm,-npt", (*_SVM, "no_ept"), _FAST_CLOCK),
)
"""The emulated hosts, of each vendor the best one first; read through the functions below."""


def first(vendor: str = "") -> EmulatedHost:
    """The vendor's host that stands for all of them; without a vendor the first one of all."""
    return next(host for host in HOSTS if vendor in ("", host.vendor))


def vendors() -> tuple[str, ...]:
    """The vendors that there are emulated hosts of."""
    return tuple(dict.fromkeys(host.vendor for host in HOSTS))


def emulators() -> tuple[Emulator, ...]:
    """The emulators that there are hosts of."""
    return tuple(dict.fromkeys(host.emulator for host in HOSTS))


def offering(need: str) -> tuple[EmulatedHost, ...]:
    """The hosts that meet a need, the best one first."""
    return tuple(host for host in HOSTS if need in host.offers)


def find(text: str) -> EmulatedHost | None:
    """The host that *text* means: a full name, or a vendor's."""
    return next((host for host in HOSTS if text in (host.name, host.spec)), None)


def named(text: str) -> EmulatedHost:
    """The host that *text* means.

    Raises:
        UsageError: none.
    """
    if host := find(text):
        return host
    known = ", ".join([*vendors(), *(host.name for host in HOSTS)])
    raise UsageError(f"no emulated host is called {text!r}", f"There are: {known}.")


def choices() -> str:
    """What may be typed, in a phrase."""
    cpus = {vendor: ", ".join(host.cpu for host in HOSTS if host.vendor == vendor) for vendor in vendors()}
    return "; ".join(f"{vendor} or {vendor}:CPU, CPU one of {names}" for vendor, names in cpus.items())
