"""Every vendor by name."""

from kvmharness.vendors.naming import VendorNames
from kvmharness.vendors.svm.names import NAMES as SVM
from kvmharness.vendors.vmx.names import NAMES as VMX

NAMES: tuple[VendorNames, ...] = (VMX, SVM)
