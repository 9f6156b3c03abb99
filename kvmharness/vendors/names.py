"""Every vendor by name."""

from kvmharness.vendors.naming import VendorNames
from kvmharness.vendors.svm.names import NAMES as SVM
from kvmharness.vendors.vmx.names import NAMES as VMX

__all__ = ["NAMES", "SVM", "VMX", "named"]

NAMES: tuple[VendorNames, ...] = (VMX, SVM)


def named(name: str) -> VendorNames:
    """The vendor of that name. Raises: KeyError, there is none."""
    return {vendor.name: vendor for vendor in NAMES}[name]
