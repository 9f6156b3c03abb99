"""SVM by name."""

from kvmharness.vendors.naming import VendorNames

NAMES = VendorNames("svm", "SVM", "kvm_amd", "AuthenticAMD", "kvm_amd.npt", "NPT", "AMD-V", ("npt",))
