"""VMX by name."""

from kvmharness.vendors.naming import VendorNames

NAMES = VendorNames("vmx", "VMX", "kvm_intel", "GenuineIntel", "kvm_intel.ept", "EPT")
