"""What a test or a workload can need of a host, by name, and what to do where a need is not met.

A need is a name of :data:`NEEDS`, a kernel version such as ``kernel>=6.1``, or a module parameter such as
``kvm.tdp_mmu=Y``. A reason says what is missing; a fix says how to get it, and where there is none which emulated
host has it.
"""

from collections.abc import Callable, Iterable

from kvmharness.errors import UsageError
from kvmharness.hosts.facts import HostFacts, normal
from kvmharness.lean.dataclasses import dataclass
from kvmharness.vendors.names import NAMES, SVM, VMX
from kvmharness.vendors.naming import VendorNames

Check = Callable[[HostFacts], tuple[str, str] | None]
"""Gives (reason, fix) when the host lacks something, None when it has it."""

_MODULES = " or ".join(vendor.module for vendor in NAMES)
_FIRMWARE = " or ".join(vendor.firmware for vendor in NAMES)
_COMPARISONS = (">=", "<=", "==", "<", ">")


@dataclass(frozen=True, slots=True)
class Unmet:
    """A need that a host does not meet.

    Attributes:
        need: its name.
        reason: what is missing.
        fix: how to get it; empty when this machine can never have it.
        host: the best emulated host that has it, as it may be typed; empty when there is none.
    """

    need: str
    reason: str
    fix: str = ""
    host: str = ""

    @property
    def way_out(self) -> str:
        """The command that goes on without changing this machine, empty when there is none."""
        return f"kvmharness run --host {self.host}" if self.host else ""

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
    """

    summary: str
    check: Check


def unmet(need: str, facts: HostFacts) -> Unmet | None:
    """Why *facts* do not meet *need*, None when they do.

    Raises:
        UsageError: there is no such need.
    """
    missing = _entry(need).check(facts)
    if missing is None:
        return None
    if facts.emulated:
        return Unmet(need, *missing)
    from kvmharness.hosts import catalogue  # not loaded in an emulated host

    return Unmet(need, *missing, host=next((host.spec for host in catalogue.offering(need)), ""))


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
        "missing": f"modprobe {_MODULES}; turn on {_FIRMWARE} in the firmware; in a VM, ask for nesting",
        "no permission": "sudo usermod -aG kvm $USER, then log in again",
        "busy": "stop the other hypervisor that holds the CPU's virtualization",
    }
    return what, fixes.get(kvm.state, "see the kernel's log")


_VIRTUALIZATION_FIX = {
    True: f"turn on {_FIRMWARE} in the firmware",
    False: "have the hypervisor below turn on nested virtualization for this machine",
}


def _own_extension(facts: HostFacts) -> str:
    """The virtualization extension that a CPU of this vendor may have."""
    return VMX.name if facts.cpu_vendor == VMX.cpu_vendor else SVM.name


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


def _nested(vendor: VendorNames) -> Check:
    """KVM itself must be drivable, the CPU must have the extension, and the module must pass it on to guests."""

    def check(facts: HostFacts) -> tuple[str, str] | None:
        missing = _kvm(facts) or _vendor_parameter(vendor, "nested")(facts)
        return missing or _guest_feature(vendor.name)(facts)

    return check


def _any_nested(facts: HostFacts) -> tuple[str, str] | None:
    if facts.vendor:
        return _nested(facts.vendor)(facts)
    return _kvm(facts) or _cpu_flag(_own_extension(facts))(facts)


def _vendor_parameter(vendor: VendorNames, parameter: str) -> Check:
    """A boolean of the vendor's module; on the other vendor's CPU loading that module would not help."""

    def check(facts: HostFacts) -> tuple[str, str] | None:
        name = f"{vendor.module}.{parameter}"
        if facts.enabled(name):
            return None
        return _cpu_flag(vendor.name)(facts) or _parameter_need(name, "Y").check(facts)

    return check


def _no_ept(facts: HostFacts) -> tuple[str, str] | None:
    if facts.vendor_module not in [vendor.module for vendor in NAMES]:
        return f"neither {' nor '.join(vendor.module for vendor in NAMES)} is loaded", "modprobe one"
    for vendor in NAMES:
        if facts.enabled(vendor.tdp):
            module, _, parameter = vendor.tdp.partition(".")
            return f"/sys/module/{module}/parameters/{parameter} is Y", _reload(module, f"{parameter}=0")
    return None


def _either(vmx: Check, svm: Check) -> Check:
    """What the vendors call differently, or only one of them has."""
    return lambda facts: (svm if facts.svm else vmx)(facts)


_tdp = _either(_vendor_parameter(VMX, "ept"), _vendor_parameter(SVM, "npt"))


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


def _emulated(vendor: str) -> Check:
    """A check that the vendor's emulated host can be built and started."""

    def check(facts: HostFacts) -> tuple[str, str] | None:
        if facts.emulated:
            return f"this is itself the emulated host {facts.emulated}", "run it outside"
        from kvmharness.hosts import catalogue
        from kvmharness.system.packages import KERNEL_BUILD, install_command, missing

        lacks = catalogue.first(vendor).emulator.lacks() | missing(KERNEL_BUILD)
        return (f"not installed: {', '.join(lacks)}", install_command(lacks.values())) if lacks else None

    return check


def _bare_metal(facts: HostFacts) -> tuple[str, str] | None:
    if facts.bare_metal:
        return None
    if facts.emulated:
        return f"this is the emulated host {facts.emulated}", "run it on a machine of its own"
    return "a hypervisor runs below this kernel", "run it on a machine of its own"


NEEDS: dict[str, Need] = {
    "kvm": Need("/dev/kvm can be used", _kvm),
    "nested": Need("nested virtualization of either vendor", _any_nested),
    "nested_vmx": Need("guests get VMX", _nested(VMX)),
    "nested_svm": Need("guests get SVM", _nested(SVM)),
    "ept": Need("KVM uses EPT", _vendor_parameter(VMX, "ept")),
    "npt": Need("KVM uses NPT", _vendor_parameter(SVM, "npt")),
    "tdp": Need("KVM uses EPT or NPT", _tdp),
    "no_ept": Need("KVM shadows page tables: neither EPT nor NPT", _no_ept),
    "vpid": Need("KVM uses VPIDs", _vendor_parameter(VMX, "vpid")),
    "tlb_tags": Need(
        "L2's translations have a tag of their own: VPID or ASID",
        _either(_vendor_parameter(VMX, "vpid"), _always),
    ),
    "invept": Need("L1 can execute INVEPT", _either(_vendor_parameter(VMX, "ept"), _no_invept)),
    "shadow_vmcs": Need("VMREAD and VMWRITE of L1 need no exit", _vendor_parameter(VMX, "enable_shadow_vmcs")),
    "tdp_mmu": Need("KVM uses its TDP MMU", _tdp_mmu),
    "pcid": Need("guests get PCIDs", _guest_feature("pcid")),
    "invpcid": Need("guests get INVPCID", _guest_feature("invpcid")),
    "perf": Need("KVM's tracepoints can be counted", _perf),
    "kprobes": Need("calls of kernel functions can be counted", _kprobes),
    "root": Need("the effective user is root", _root),
    "emulated_vmx": Need("an emulated VMX host can be built and started", _emulated("vmx")),
    "emulated_svm": Need("an emulated SVM host can be built and started", _emulated("svm")),
    "bare_metal": Need("no hypervisor and no emulator below", _bare_metal),
}
"""What can be needed, by name."""
