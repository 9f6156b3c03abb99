"""KVM's modules inside the emulated host: loaded with their parameters, unloaded in the right order.

Which order that is stands in the file ``order`` beside the modules, written when the image was made (from each
module's own list of what it depends on), so that nothing has to be worked out in here.
"""

import os
from collections.abc import Mapping, Sequence

from kvmharness.errors import KvmHarnessError
from kvmharness.lab.inside.memory import kernel_memory
from kvmharness.lab.steps import Exec, Load
from kvmharness.vendors.names import NAMES

BUSYBOX = "/bin/busybox"
_VENDOR_MODULES = frozenset(vendor.module for vendor in NAMES)


class ModuleError(KvmHarnessError):
    """The kernel refused to load or to unload a module."""


class Loader:
    """Loads and unloads KVM's modules for a job; as it stands, it leaves them alone."""

    def load(self, step: Load) -> list[str]:
        """Loads the modules of a variant that suit this CPU, and returns their names in order.

        Raises:
            ModuleError: the kernel refuses one, or there is none to load.
        """
        raise ModuleError(f"KVM's modules stay as they are here; {step.variant} cannot be loaded")

    def unload(self) -> list[str]:
        """Unloads every KVM module, users before what they use; returns the names.

        Raises:
            ModuleError: a module is in use: something still holds a VM open.
        """
        raise ModuleError("KVM's modules stay as they are here")

    def memory(self) -> dict[str, int]:
        """What the kernel holds for itself, as far as that tells anything: nothing where others are at work, too."""
        return {}


class BusyboxLoader(Loader):
    """Loads what an image holds: a folder a variant, with the modules and ``order``, one file name a line."""

    def load(self, step: Load) -> list[str]:
        """See :class:`Loader`."""
        folder = f"/job/modules/{step.variant}"
        with open(f"{folder}/order") as file:
            files = file.read().split()
        loaded = []
        for name, file_name, options in insertions(files, step.params):
            _busybox("insmod", f"{folder}/{file_name}", *options)
            loaded.append(name)
        return loaded

    def unload(self) -> list[str]:
        """See :class:`Loader`."""
        gone = []
        for name in (*_VENDOR_MODULES, "kvm", "ccp", "irqbypass"):
            if os.path.isdir(f"/sys/module/{name}/holders"):
                _busybox("rmmod", name)
                gone.append(name)
        return gone

    def memory(self) -> dict[str, int]:
        """See :func:`kvmharness.lab.inside.memory.kernel_memory`."""
        return kernel_memory()


def insertions(files: Sequence[str], params: Mapping[str, str]) -> list[tuple[str, str, list[str]]]:
    """What to insert on this CPU: name, file and options of each module.

    Args:
        files: in the order in which they load.
        params: module parameters as ``{"kvm.tdp_mmu": "N", "kvm_intel.nested": "1"}``. ``nested=1`` is given to the
            vendor's module unless it is said otherwise. Parameters of the other vendor's module are left out.

    Raises:
        ModuleError: the vendor's module is not among the files, or one that parameters are given for.
    """
    vendor = vendor_module()
    if vendor not in map(module_name, files):
        raise ModuleError(f"the variant does not hold {vendor}, which this CPU needs")
    others = _VENDOR_MODULES - {vendor}
    suited = {name: file for name, file in ((module_name(f), f) for f in files) if name not in others}
    wanted = {f"{vendor}.nested": "1", **{_canonical(name): value for name, value in params.items()}}
    missing = {key.partition(".")[0] for key in wanted} - set(suited) - others
    if missing:
        raise ModuleError(f"parameters were given for {', '.join(sorted(missing))}, which the variant does not hold")
    return [(name, file, _options(name, wanted)) for name, file in suited.items()]


def _options(module: str, wanted: Mapping[str, str]) -> list[str]:
    return [f"{key.partition('.')[2]}={value}" for key, value in wanted.items() if key.partition(".")[0] == module]


def vendor_module() -> str:
    """The vendor's KVM module for this CPU."""
    with open("/proc/cpuinfo") as file:
        text = file.read()
    for vendor in NAMES:
        if f" {vendor.name} " in text:
            return vendor.module
    titles = " nor ".join(vendor.title for vendor in NAMES)
    raise ModuleError(f"this CPU has neither {titles}", "choose another CPU model")


def module_name(file_name: str) -> str:
    """A module's name as the kernel writes it: ``kvm-intel.ko`` is kvm_intel."""
    return file_name.rpartition("/")[2].partition(".")[0].replace("-", "_")


def _canonical(key: str) -> str:
    module, _, parameter = key.partition(".")
    return f"{module.replace('-', '_')}.{parameter}"


def _busybox(*command: str) -> None:
    from kvmharness.lab.inside.execute import execute

    printed: list[str] = []
    if execute(Exec((BUSYBOX, *command)), printed.append).status != 0:
        raise ModuleError(f"{' '.join(command)}: {''.join(printed).strip() or 'failed'}")
