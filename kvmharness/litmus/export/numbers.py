"""The macros of an exported test."""

from collections.abc import Container, Mapping

from kvmharness.litmus.judge import PREFETCHED, known_pages
from kvmharness.litmus.plan import STREAMS, Planned
from kvmharness.litmus.program import HOLES
from kvmharness.litmus.protocol import TAG_AT
from kvmharness.litmus.world import DATA_BYTES, DATA_GPA, HOLE_GPA, PAGES
from kvmharness.vendors.names import SVM, VMX
from kvmharness.vendors.vendor import Vendor
from kvmharness.vendors.vmx.l1 import Region
from kvmharness.x86.ept import Epte
from kvmharness.x86.paging import Pte
from kvmharness.x86.svm import SvmExit
from kvmharness.x86.vmx_exits import VmxExit

_TIMEOUT_S = 60
_SEEN_BYTES, _LOG_BYTES = 64, 1024

# Sources of NESTED_FETCH: SDM vol. 3C, "Exit Qualification for EPT Violations"; APM vol. 2, "Nested Page Faults".
_VENDORS: Mapping[str, Mapping[str, str]] = {
    VMX.name: {
        **{name: f"{Region[name]:#x}" for name in ("VMXON_REGION", "VMCS_REGION", "VMCS_TABLE")},
        "NESTED_FAULT": f"{int(VmxExit.EPT_VIOLATION)}",
        "NESTED_FETCH": f"{1 << 2:#x}",
        "NESTED_A": f"{int(Epte.A):#x}",
        "NESTED_D": f"{int(Epte.D):#x}",
        "NESTED_MSR": "MSR_IA32_FEAT_CTL",
    },
    SVM.name: {
        "NESTED_FAULT": f"{int(SvmExit.NPF):#x}",
        "NESTED_FETCH": f"{1 << 4:#x}",
        "NESTED_A": f"{int(Pte.A):#x}",
        "NESTED_D": f"{int(Pte.D):#x}",
        "NESTED_MSR": "MSR_VM_HSAVE_PA",
    },
}
_ONLY_FOR_STATE = "NESTED_MSR"


def numbers(planned: Planned, vendor: Vendor | None, parts: Container[str]) -> dict[str, str]:
    """Name -> value as C.

    Args:
        planned: the test.
        vendor: whose virtualization it uses, None for none.
        parts: of the template that are needed.
    """
    found = {
        "DATA_GPA": f"{DATA_GPA:#x}",
        "DATA_BYTES": f"{DATA_BYTES:#x}",
        "PAGES": str(PAGES),
        "HOLE_GPA": f"{HOLE_GPA:#x}",
        "HOLES": str(HOLES),
        "SEEN_BYTES": str(_LOG_BYTES if "DIRTY" in parts else _SEEN_BYTES),
        "TIMEOUT_S": str(_TIMEOUT_S),
    }
    if "MOVE" in parts:
        found["TAG_AT"] = str(TAG_AT)
    if "SECOND" in parts:
        found |= {"SECOND_ROWS": f"{STREAMS['V1'][0]:#x}", "SECOND_BEGIN": f"{planned.begin:#x}"}
    if "DIRTY" in parts:
        groups = {int(page[1:]) // PREFETCHED for page in known_pages(planned.program)}
        found["KNOWN_PAGES"] = f"{sum(1 << group for group in groups):#x}u"
    own = _VENDORS[vendor.names.name] if vendor else {}
    return found | {name: value for name, value in own.items() if name != _ONLY_FOR_STATE or "STATE" in parts}
