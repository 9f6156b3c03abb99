"""The facts of a host, read from sysfs, procfs and /dev/kvm. Reading them changes nothing.

Everything is looked up below one root directory, so that a test can describe a machine as a tree of files. The
module is loaded in emulated hosts too, hence the few imports.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from kvmharness.hosts.device import DeviceState, probe
from kvmharness.lean.dataclasses import dataclass, fields
from kvmharness.vendors.names import NAMES
from kvmharness.vendors.naming import VendorNames

LAB_MARKER = "kvmharness.lab="
"""What the lab puts on the command line of the kernels it boots, followed by the machine's short name."""

CAP_SYS_ADMIN, CAP_PERFMON = 21, 38  # include/uapi/linux/capability.h
MODULES = ("kvm", *(vendor.module for vendor in NAMES), "kvm_pvm")
_TELLING = ("vmx", "svm", "ept", "vpid", "npt", "pcid", "unrestricted_guest", "shadow_vmcs", "ept_ad", "pml")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One machine. The reasons ("why not") are empty when the thing is there.

    Attributes:
        kernel_release: as `uname -r` prints it.
        cpu_vendor: as CPUID spells it, for example "GenuineIntel".
        cpu_model: the CPU's name.
        cpu_flags: the flags of /proc/cpuinfo, those of VMX included.
        microcode: revision, as the kernel prints it.
        mitigations: by vulnerability.
        kvm: the state of /dev/kvm.
        module_parameters: of KVM's modules, by "module.parameter".
        tracefs: where it is mounted, None when it is not.
        tracing_why_not: why KVM's tracepoints cannot be counted.
        kprobes_why_not: why a kernel function cannot be counted by a perf event.
        perf_event_paranoid: kernel.perf_event_paranoid, None without perf events.
        root: whether the effective user is root.
        may_trace: whether the process may count kernel events at any level of perf_event_paranoid.
        emulated: short name of the lab's machine when this is one, else None.
    """

    kernel_release: str
    cpu_vendor: str
    cpu_model: str
    cpu_flags: frozenset[str]
    microcode: str
    mitigations: dict[str, str]
    kvm: DeviceState
    module_parameters: dict[str, str]
    tracefs: str | None
    tracing_why_not: str
    kprobes_why_not: str
    perf_event_paranoid: int | None
    root: bool
    may_trace: bool
    emulated: str | None

    @property
    def vmx(self) -> bool:
        """The CPU offers VMX."""
        return "vmx" in self.cpu_flags

    @property
    def svm(self) -> bool:
        """The CPU offers SVM."""
        return "svm" in self.cpu_flags

    @property
    def vendor(self) -> VendorNames | None:
        """Whose virtualization the CPU has."""
        return next((vendor for vendor in NAMES if vendor.name in self.cpu_flags), None)

    @property
    def bare_metal(self) -> bool:
        """No hypervisor and no emulator below this kernel that admits to it."""
        return "hypervisor" not in self.cpu_flags and self.emulated is None

    @property
    def vendor_module(self) -> str | None:
        """The KVM module that drives this CPU, None when none is loaded."""
        loaded = {name.partition(".")[0] for name in self.module_parameters}
        return next((name for name in MODULES[1:] if name in loaded), None)

    @property
    def l0_tdp(self) -> bool | None:
        """Whether KVM itself uses EPT or NPT, None where the vendor's module is not known."""
        tdp = next((vendor.tdp for vendor in NAMES if vendor.module == self.vendor_module), None)
        return self.enabled(tdp) if tdp else None

    def parameter(self, name: str) -> str | None:
        """A module parameter such as "kvm_intel.ept", booleans as Y or N; None when there is no such parameter."""
        value = self.module_parameters.get(name)
        return None if value is None else normal(value)

    def enabled(self, name: str) -> bool:
        """Whether a boolean module parameter is on."""
        return self.parameter(name) == "Y"

    def to_json(self) -> dict[str, object]:
        """Plain data, for `doctor --json` and for a run's record."""
        data: dict[str, object] = {field.name: getattr(self, field.name) for field in fields(self)}
        data["cpu_flags"] = sorted(self.cpu_flags)
        kvm, offered = self.kvm, self.kvm.guest_features
        data["kvm"] = {
            "state": kvm.state,
            "errno": kvm.errno,
            "path": kvm.path,
            "guest_features": None if offered is None else sorted(offered),
        }
        return data | {
            "bare_metal": self.bare_metal,
            "vendor_module": self.vendor_module,
            "l0_ept": self.l0_tdp,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "HostFacts":
        """The inverse of :meth:`to_json`. Raises: KeyError, TypeError, ValueError when it is not that."""
        given = {field.name: data[field.name] for field in fields(cls)}
        kvm, offered = data["kvm"], data["kvm"]["guest_features"]
        features = None if offered is None else frozenset(offered)
        given["kvm"] = DeviceState(kvm["state"], kvm["errno"], kvm["path"], features)
        given["cpu_flags"] = frozenset(data["cpu_flags"])
        return cls(**given)


def normal(value: str) -> str:
    """A parameter's value as it is compared: the kernel shows the same boolean as Y or as 1."""
    return {"1": "Y", "0": "N", "y": "Y", "n": "N"}.get(value, value)


def facts(root: str = "/") -> HostFacts:
    """Reads the facts of the machine whose file system is at *root*.

    Args:
        root: "/" for this machine, otherwise a directory with the same files.
    """
    cpu = _first_cpu(_read(root, "proc/cpuinfo"))
    status = _key_values(_read(root, "proc/self/status"))
    capabilities = int(status.get("CapEff", "0"), 16)
    may_trace = bool(capabilities >> CAP_PERFMON & 1 or capabilities >> CAP_SYS_ADMIN & 1)
    paranoid = _read(root, "proc/sys/kernel/perf_event_paranoid")
    tracefs = _tracefs(root)
    return HostFacts(
        kernel_release=_read(root, "proc/sys/kernel/osrelease"),
        cpu_vendor=cpu.get("vendor_id", "unknown"),
        cpu_model=cpu.get("model name", "unknown"),
        cpu_flags=frozenset(f"{cpu.get('flags', '')} {cpu.get('vmx flags', '')}".split()),
        microcode=cpu.get("microcode", "unknown"),
        mitigations=_directory(root, "sys/devices/system/cpu/vulnerabilities"),
        kvm=probe(os.path.join(root, "dev/kvm")),
        module_parameters=module_parameters(root),
        tracefs=tracefs,
        tracing_why_not=_tracing_why_not(root, tracefs, paranoid, may_trace),
        kprobes_why_not=_kprobes_why_not(root, paranoid, may_trace),
        perf_event_paranoid=int(paranoid) if paranoid else None,
        root=status.get("Uid", "").split()[1:2] == ["0"],
        may_trace=may_trace,
        emulated=_emulated(_read(root, "proc/cmdline")),
    )


def summary(emit: Callable[[dict[str, object]], None], *, root: str = "/") -> None:
    """What a job calls to show a host: emits the facts that tell one emulated host from another.

    Args:
        emit: takes them.
        root: see :func:`facts`.
    """
    here = facts(root)
    parameters: dict[str, dict[str, str]] = {}
    for name, value in here.module_parameters.items():
        module, _, parameter = name.partition(".")
        parameters.setdefault(module, {})[parameter] = value
    emit(
        {
            "kernel_release": here.kernel_release,
            "cpu": here.cpu_model,
            "microcode": here.microcode,
            "flags": [flag for flag in _TELLING if flag in here.cpu_flags],
            "module_parameters": parameters,
        }
    )


def _tracefs(root: str) -> str | None:
    """The path of tracefs within the root: its own mount point first, then the one that debugfs makes."""
    for path in ("sys/kernel/tracing", "sys/kernel/debug/tracing"):
        if os.path.isdir(os.path.join(root, path, "events")):
            return os.path.join("/", path)
    return None


def _perf_why_not(paranoid: str, may_trace: bool) -> str:
    if not paranoid:
        return "the kernel has no perf events (CONFIG_PERF_EVENTS)"
    if int(paranoid) > 1 and not may_trace:  # perf_allow_kernel()
        return f"kernel.perf_event_paranoid is {paranoid} and the process lacks CAP_PERFMON"
    return ""


def _tracing_why_not(root: str, tracefs: str | None, paranoid: str, may_trace: bool) -> str:
    if why := _perf_why_not(paranoid, may_trace):
        return why
    if tracefs is None:
        if "tracefs" not in _read(root, "proc/filesystems").split():
            return "the kernel has no tracefs (CONFIG_TRACING)"
        return "tracefs is not mounted, or not readable by this user"
    event = "events/kvm/kvm_exit/id"
    if not _read(root, os.path.join(tracefs, event).lstrip("/")):
        return f"{tracefs}/{event} cannot be read: KVM is not loaded, or this user may not read tracefs"
    return ""


def _kprobes_why_not(root: str, paranoid: str, may_trace: bool) -> str:
    if why := _perf_why_not(paranoid, may_trace):
        return why
    if not _read(root, "sys/bus/event_source/devices/kprobe/type"):
        return "the kernel has no kprobe events (CONFIG_KPROBE_EVENTS)"
    return "" if may_trace else "counting a kernel function takes CAP_PERFMON"  # perf_kprobe_event_init()


def module_parameters(root: str = "/") -> dict[str, str]:
    """The parameters of KVM's modules that are loaded, by "module.parameter"."""
    return {
        f"{module}.{name}": value
        for module in MODULES
        for name, value in _directory(root, f"sys/module/{module}/parameters").items()
    }


def inside_emulated(root: str = "/") -> bool:
    """Whether this is the inside of an emulated host."""
    return _emulated(_read(root, "proc/cmdline")) is not None


def _emulated(command_line: str) -> str | None:
    words = (word for word in command_line.split() if word.startswith(LAB_MARKER))
    return next((word.removeprefix(LAB_MARKER) for word in words), None)


def _first_cpu(cpuinfo: str) -> dict[str, str]:
    return _key_values(cpuinfo.partition("\n\n")[0])


def _key_values(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _directory(root: str, path: str) -> dict[str, str]:
    try:
        names = sorted(os.listdir(os.path.join(root, path)))
    except OSError:
        return {}
    return {name: _read(root, f"{path}/{name}") for name in names}


def _read(root: str, path: str) -> str:
    """A file's text without the newline at its end; empty when it cannot be read."""
    try:
        with open(os.path.join(root, path), "rb", 0) as file:  # as text it would cost twice as much in an emulator
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""
