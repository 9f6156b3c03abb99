"""VMX by name."""

from kvmharness.vendors.naming import VendorNames

NAMES = VendorNames(
    "vmx",
    "VMX",
    "kvm_intel",
    "GenuineIntel",
    "kvm_intel.ept",
    "EPT",
    "VT-x",
    ("ept", "eptad", "vpid", "pml", "enable_shadow_vmcs", "unrestricted_guest"),
)
