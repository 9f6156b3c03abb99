"""What a test or a workload can need of a host, by name, and what to do where a need is not met.

A need is a name of :data:`NEEDS`, a kernel version such as ``kernel>=6.1``, or a module parameter such as
``kvm.tdp_mmu=Y``. A reason says what is missing; a fix says how to get it, and where there is none which emulated
host has it.
"""

from collections.abc import Callable, Iterable

from kvmharness.errors import UsageError
from kvmharness.hosts.facts import HostFacts, normal
from kvmharness.lean.dataclasses import dataclass

VMX_HOSTS = ("vmx:skylake", "vmx:haswell", "vmx:sandybridge", "vmx:lynnfield", "vmx:penryn")
"""The emulated VMX hosts, the default one first."""

SVM_HOSTS = ("svm:epyc", "svm:epyc-nonpt")
"""The emulated SVM hosts, the default one first."""

EMULATED_HOSTS = (*VMX_HOSTS, *SVM_HOSTS)

Check = Callable[[HostFacts], tuple[str, str] | None]
"""Gives (reason, fix) when the host lacks something, None when it has it."""

_COMPARISONS = (">=", "<=", "==", "<", ">")


@dataclass(frozen=True, slots=True)
class Unmet:
    """A need that a host does not meet.

    Attributes:
        need: its name.
        reason: what is missing.
        fix: how to get it; empty when this machine can never have it.
        hosts: emulated hosts that have it, the best one first.
    """

    need: str
    reason: str
    fix: str = ""
    hosts: tuple[str, ...] = ()

    @property
    def way_out(self) -> str:
        """The command that goes on without changing this machine, empty when there is none."""
        if not self.hosts:
            return ""
        first = self.hosts[0]
        spec = first.partition(":")[0] if first in (VMX_HOSTS[0], SVM_HOSTS[0]) else first
        return f"kvmharness run --host {spec}"

    def __str__(self) -> str:
        advice = [self.fix] if self.fix else []
        if self.way_out:
            advice.append(f"or use an emulated host: {self.way_out}" if advice else f"try {self.way_out}")
        return f"{self.need}: {self.reason}" + ("; " + ", ".join(advice) if advice else "")


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that can be needed.

    Attributes:
        summary: what it is, for `doctor` and the marker's help.
        check: what tells.
        hosts: emulated hosts that have it.
    """

    summary: str
    check: Check
    hosts: tuple[str, ...] = ()


def unmet(need: str, facts: HostFacts) -> Unmet | None:
    """Why *facts* do not meet *need*, None when they do.

    Raises:
        UsageError: there is no such need.
    """
    entry = _entry(need)
    missing = entry.check(facts)
    return None if missing is None else Unmet(need, *missing, hosts=() if facts.emulated else entry.hosts)


def all_unmet(needs: Iterable[str], facts: HostFacts) -> tuple[Unmet, ...]:
    """Every need of *needs* that *facts* do not meet, in their order.

    Raises:
        UsageError: one of them does not exist.
    """
    return tuple(found for need in needs if (found := unmet(need, facts)) is not None)


def check_names(needs: Iterable[str]) -> None:
    """Refuses names that are no needs.

    Raises:
        UsageError: naming the wrong one and what it may have been.
    """
    for need in needs:
        _entry(need)


def _entry(need: str) -> Need:
    if entry := NEEDS.get(need):
        return entry
    if need.startswith("kernel") and any(sign in need for sign in _COMPARISONS):
        return _kernel_need(need)
    name, equals, value = need.partition("=")
    if equals and name.count(".") == 1 and all(name.split(".")) and value:
        return _parameter_need(name, normal(value))
    from difflib import get_close_matches

    close = get_close_matches(need, NEEDS, n=3)
    raise UsageError(
        f"unknown need {need!r}" + (f"; did you mean {' or '.join(close)}?" if close else ""),
        f"Known: {', '.join(NEEDS)}, kernel>=X.Y, module.parameter=value.",
    )


def _kernel_need(need: str) -> Need:
    sign = next(sign for sign in _COMPARISONS if sign in need)
    name, wanted = need.split(sign, 1)
    if name.strip() != "kernel" or not (limit := _version(wanted)):
        raise UsageError(f"not a kernel version condition: {need!r}", "Write it as kernel>=6.1 or kernel<6.2.")

    def check(facts: HostFacts) -> tuple[str, str] | None:
        # Compared at the precision of the condition: 6.1.192 is not above 6.1.
        here = _version(facts.kernel_release)[: len(limit)]
        holds = {">=": here >= limit, "<=": here <= limit, "==": here == limit, "<": here < limit, ">": here > limit}
        return None if holds[sign] else (f"this kernel is {facts.kernel_release}", f"boot one with {need}")

    return Need(f"a kernel with version {sign}{wanted}", check)


def _version(text: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in text.strip().split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)


def _parameter_need(name: str, wanted: str) -> Need:
    module, _, parameter = name.partition(".")
    path = f"/sys/module/{module}/parameters/{parameter}"

    def check(facts: HostFacts) -> tuple[str, str] | None:
        value = facts.parameter(name)
        if value == wanted:
            return None
        if value is None:
            return f"there is no {path}", f"load {module}, if this kernel has such a parameter"
        return f"{path} is {value}", _reload(module, f"{parameter}={wanted}")

    return Need(f"{path} = {wanted}", check)


def _reload(module: str, option: str) -> str:
    return f"with no VM running: sudo modprobe -r {module} && sudo modprobe {module} {option}"


def _kvm(facts: HostFacts) -> tuple[str, str] | None:
    kvm = facts.kvm
    if kvm.ok:
        return None
    what = f"{kvm.path}: {kvm.state} (errno {kvm.errno})"
    fixes = {
        "missing": "modprobe kvm_intel or kvm_amd; turn on VT-x or AMD-V in the firmware; in a VM, ask for nesting",
        "no permission": "sudo usermod -aG kvm $USER, then log in again",
        "busy": "stop the other hypervisor that holds the CPU's virtualization",
    }
    return what, fixes.get(kvm.state, "see the kernel's log")


_VIRTUALIZATION_FIX = {
    True: "turn on VT-x (SVM on AMD) in the firmware",
    False: "have the hypervisor below turn on nested virtualization for this machine",
}


def _own_extension(facts: HostFacts) -> str:
    """The virtualization extension that a CPU of this vendor may have."""
    return "vmx" if facts.cpu_vendor == "GenuineIntel" else "svm"


def _cpu_flag(flag: str) -> Check:
    def check(facts: HostFacts) -> tuple[str, str] | None:
        if flag in facts.cpu_flags:
            return None
        what = f"the CPU ({facts.cpu_model}) does not offer {flag}"
        return what, _VIRTUALIZATION_FIX.get(facts.bare_metal, "") if flag == _own_extension(facts) else ""

    return check


def _guest_feature(flag: str) -> Check:
    """The CPU's flag is not enough: KVM leaves out what it cannot give to a guest."""

    def check(facts: HostFacts) -> tuple[str, str] | None:
        if facts.kvm.guest_features is None or flag not in facts.cpu_flags:
            return _kvm(facts) or _cpu_flag(flag)(facts)
        return None if flag in facts.kvm.guest_features else (f"KVM does not offer {flag} to guests here", "")

    return check


def _nested(module: str, flag: str) -> Check:
    """KVM itself must be drivable, the CPU must have the extension, and the module must pass it on to guests."""

    def check(facts: HostFacts) -> tuple[str, str] | None:
        missing = _kvm(facts) or _vendor_parameter(module, "nested")(facts)
        return missing or _guest_feature(flag)(facts)

    return check


def _any_nested(facts: HostFacts) -> tuple[str, str] | None:
    if facts.vmx or facts.svm:
        return _nested(*(("kvm_intel", "vmx") if facts.vmx else ("kvm_amd", "svm")))(facts)
    return _kvm(facts) or _cpu_flag(_own_extension(facts))(facts)


def _vendor_parameter(module: str, parameter: str) -> Check:
    """A boolean of the vendor's module; on the other vendor's CPU loading that module would not help."""

    def check(facts: HostFacts) -> tuple[str, str] | None:
        if facts.enabled(f"{module}.{parameter}"):
            return None
        missing = _cpu_flag("vmx" if module == "kvm_intel" else "svm")(facts)
        return missing or _parameter_need(f"{module}.{parameter}", "Y").check(facts)

    return check


def _no_ept(facts: HostFacts) -> tuple[str, str] | None:
    if facts.vendor_module not in ("kvm_intel", "kvm_amd"):
        return "neither kvm_intel nor kvm_amd is loaded", "modprobe one"
    for name in ("kvm_intel.ept", "kvm_amd.npt"):
        if facts.enabled(name):
            module, _, parameter = name.partition(".")
            return f"/sys/module/{module}/parameters/{parameter} is Y", _reload(module, f"{parameter}=0")
    return None


def _either(vmx: Check, svm: Check) -> Check:
    """What the vendors call differently, or only one of them has."""
    return lambda facts: (svm if facts.svm else vmx)(facts)


_tdp = _either(_vendor_parameter("kvm_intel", "ept"), _vendor_parameter("kvm_amd", "npt"))


def _tdp_mmu(facts: HostFacts) -> tuple[str, str] | None:
    """Without EPT or NPT the parameter may say Y and mean nothing: kvm_mmu_init_tdp_mmu()."""
    return _tdp(facts) or _parameter_need("kvm.tdp_mmu", "Y").check(facts)


def _always(facts: HostFacts) -> tuple[str, str] | None:
    return None


def _no_invept(facts: HostFacts) -> tuple[str, str] | None:
    return "INVEPT is an instruction of VMX, SVM has none", ""


def _perf(facts: HostFacts) -> tuple[str, str] | None:
    why = facts.tracing_why_not
    return (why, _tracing_fix(why)) if why else None


def _kprobes(facts: HostFacts) -> tuple[str, str] | None:
    why = facts.kprobes_why_not
    return (why, _tracing_fix(why)) if why else None


def _tracing_fix(why: str) -> str:
    if "CONFIG_" in why:
        return "boot a kernel that has it"
    if "mounted" in why:
        return "sudo mount -t tracefs tracefs /sys/kernel/tracing"
    return "load kvm and run as root, or give Python CAP_PERFMON"


def _root(facts: HostFacts) -> tuple[str, str] | None:
    return None if facts.root else ("the effective user is not root", "run it with sudo")


def _emulated(emulator: str) -> Check:
    """A check that an emulated host under *emulator* (BOCHS or QEMU of system.packages) can be built and started."""

    def check(facts: HostFacts) -> tuple[str, str] | None:
        if facts.emulated:
            return f"this is itself the emulated host {facts.emulated}", "run it outside"
        from kvmharness.system import packages as tools

        lacks = tools.missing(getattr(tools, emulator), tools.KERNEL_BUILD)
        return (f"not installed: {', '.join(lacks)}", tools.install_command(lacks.values())) if lacks else None

    return check


def _bare_metal(facts: HostFacts) -> tuple[str, str] | None:
    if facts.bare_metal:
        return None
    if facts.emulated:
        return f"this is the emulated host {facts.emulated}", "run it on a machine of its own"
    return "a hypervisor runs below this kernel", "run it on a machine of its own"


_EPT_HOSTS = VMX_HOSTS[:-1]  # Penryn came before EPT and VPID
_TDP_HOSTS = (*_EPT_HOSTS, SVM_HOSTS[0])

NEEDS: dict[str, Need] = {
    "kvm": Need("/dev/kvm can be used", _kvm, EMULATED_HOSTS),
    "nested": Need("nested virtualization of either vendor", _any_nested, EMULATED_HOSTS),
    "nested_vmx": Need("guests get VMX", _nested("kvm_intel", "vmx"), VMX_HOSTS),
    "nested_svm": Need("guests get SVM", _nested("kvm_amd", "svm"), SVM_HOSTS),
    "ept": Need("KVM uses EPT", _vendor_parameter("kvm_intel", "ept"), _EPT_HOSTS),
    "npt": Need("KVM uses NPT", _vendor_parameter("kvm_amd", "npt"), SVM_HOSTS[:1]),
    "tdp": Need("KVM uses EPT or NPT", _tdp, _TDP_HOSTS),
    "no_ept": Need("KVM shadows page tables: neither EPT nor NPT", _no_ept, (VMX_HOSTS[-1], SVM_HOSTS[-1])),
    "vpid": Need("KVM uses VPIDs", _vendor_parameter("kvm_intel", "vpid"), _EPT_HOSTS),
    "tlb_tags": Need(
        "L2's translations have a tag of their own: VPID or ASID",
        _either(_vendor_parameter("kvm_intel", "vpid"), _always),
        (*_EPT_HOSTS, *SVM_HOSTS),
    ),
    "invept": Need("L1 can execute INVEPT", _either(_vendor_parameter("kvm_intel", "ept"), _no_invept), _EPT_HOSTS),
    "shadow_vmcs": Need(
        "VMREAD and VMWRITE of L1 need no exit", _vendor_parameter("kvm_intel", "enable_shadow_vmcs"), VMX_HOSTS[:2]
    ),
    "tdp_mmu": Need("KVM uses its TDP MMU", _tdp_mmu, _TDP_HOSTS),
    "pcid": Need("guests get PCIDs", _guest_feature("pcid"), VMX_HOSTS),
    "invpcid": Need("guests get INVPCID", _guest_feature("invpcid"), VMX_HOSTS[:2]),
    "perf": Need("KVM's tracepoints can be counted", _perf, EMULATED_HOSTS),
    "kprobes": Need("calls of kernel functions can be counted", _kprobes, EMULATED_HOSTS),
    "root": Need("the effective user is root", _root, EMULATED_HOSTS),
    "emulated_vmx": Need("an emulated VMX host can be built and started", _emulated("BOCHS")),
    "emulated_svm": Need("an emulated SVM host can be built and started", _emulated("QEMU")),
    "bare_metal": Need("no hypervisor and no emulator below", _bare_metal),
}
"""What can be needed, by name."""
