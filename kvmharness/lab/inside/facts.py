"""What an emulated host is, as seen from inside it: a call step for records, for ``lab boot`` and for tests."""

import os
from collections.abc import Callable

_FLAGS = ("vmx", "svm", "ept", "vpid", "npt", "pcid", "unrestricted_guest", "shadow_vmcs", "ept_ad", "pml")
_MODULES = ("kvm", "kvm_intel", "kvm_amd")


def facts(emit: Callable[[dict[str, object]], None]) -> None:
    """Emit one object: kernel release and version, CPU, virtualization flags, parameters of the loaded KVM modules."""
    system = os.uname()
    cpu = _cpu_facts()
    flags = cpu.get("flags", "").split() + cpu.get("vmx flags", "").split()
    emit(
        {
            "kernel_release": system.release,
            "kernel_version": system.version,
            "cpu": cpu.get("model name", ""),
            "microcode": cpu.get("microcode", ""),
            "flags": [flag for flag in _FLAGS if flag in flags],
            "module_parameters": {name: _parameters(name) for name in _MODULES if _is_loaded(name)},
        }
    )


def _cpu_facts() -> dict[str, str]:
    with open("/proc/cpuinfo") as file:
        first = file.read().partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _is_loaded(module: str) -> bool:
    return os.path.isdir(f"/sys/module/{module}/parameters")


def _parameters(module: str) -> dict[str, str]:
    folder = f"/sys/module/{module}/parameters"
    values = {}
    for name in sorted(os.listdir(folder)):
        with open(f"{folder}/{name}") as file:
            values[name] = file.read().strip()
    return values
