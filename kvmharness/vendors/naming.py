"""What a vendor's virtualization is called, for whoever needs no more: what is carried into a host under test."""

from kvmharness.lean.dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VendorNames:
    """Names of one vendor.

    Attributes:
        name: the CPU flag in /proc/cpuinfo, which names emulated hosts too.
        title: for sentences.
        module: the KVM module.
        cpu_vendor: as CPUID spells it.
        tdp: the module's parameter that switches two-dimensional paging on.
        tdp_title: what that paging is called.
        firmware: what the machine's firmware calls the virtualization, where it is switched on.
        short: parameters of the module that are known by their own names alone; no other module has them.
    """

    name: str
    title: str
    module: str
    cpu_vendor: str
    tdp: str
    tdp_title: str
    firmware: str
    short: tuple[str, ...]
