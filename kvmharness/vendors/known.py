"""Every vendor there is; a further one adds its line here and in :mod:`kvmharness.vendors.names`."""

from collections.abc import Container

from kvmharness.vendors.litmus import LitmusVendor
from kvmharness.vendors.svm.litmus import SVM_LITMUS
from kvmharness.vendors.svm.svm import SVM
from kvmharness.vendors.vendor import Vendor
from kvmharness.vendors.vmx.litmus import VMX_LITMUS
from kvmharness.vendors.vmx.vmx import VMX

VENDORS: tuple[Vendor, ...] = (VMX, SVM)

_LITMUS: dict[str, LitmusVendor] = {VMX.names.name: VMX_LITMUS, SVM.names.name: SVM_LITMUS}


def of_module(module: str | None) -> Vendor | None:
    """The vendor whose KVM module this is."""
    return next((vendor for vendor in VENDORS if vendor.names.module == module), None)


def of_flags(flags: Container[str]) -> Vendor | None:
    """The vendor whose virtualization a CPU with these flags has."""
    return next((vendor for vendor in VENDORS if vendor.names.name in flags), None)


def named(name: str) -> Vendor:
    """The vendor of that name. Raises: KeyError, there is none."""
    return {vendor.names.name: vendor for vendor in VENDORS}[name]


def litmus_of(vendor: Vendor) -> LitmusVendor:
    """What the vendor's L1 needs to run litmus tests."""
    return _LITMUS[vendor.names.name]


def by_asid(vendor: Vendor | None) -> bool:
    """Whether L2's translations follow SVM's rules; where there is no L2, both vendors' are the same."""
    return vendor is not None and litmus_of(vendor).asids
