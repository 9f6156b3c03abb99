"""Which parameters are switches, and how code reads them. The snippets have the shapes that KVM's files have."""

import pytest

from kvmharness.lab.kernels.switches import KvmSource

VMX, MMU, X86 = "arch/x86/kvm/vmx/vmx.c", "arch/x86/kvm/mmu/mmu.c", "arch/x86/kvm/x86.c"
NESTED, SVM = "arch/x86/kvm/vmx/nested.c", "arch/x86/kvm/svm/svm.c"
SOURCES = {
    VMX: """
bool __read_mostly enable_ept = 1;
module_param_named(ept, enable_ept, bool, S_IRUGO);
bool __read_mostly enable_unrestricted_guest = 1;
module_param_named(unrestricted_guest,
			enable_unrestricted_guest, bool, S_IRUGO);
static bool __read_mostly fasteoi = 1; /* short */
module_param(fasteoi, bool, S_IRUGO);
module_param(enable_apicv, bool, 0444);
int __read_mostly pt_mode = PT_MODE_SYSTEM;
module_param(pt_mode, int, S_IRUGO);
module_param_cb(vmentry_l1d_flush, &vmentry_l1d_flush_ops, NULL, 0644);

static int setup(void)
{
	kvm_configure_mmu(enable_ept, 0, levels(1, 2), 3);
	return 0;
}
static void eoi(struct vcpu *v)
{
	if (v->fasteoi)
		write(v, NULL);
}
static void own(void)
{
	if (fasteoi)
		write(0, 0);
}
""",
    "arch/x86/kvm/vmx/capabilities.h": """
static inline bool cpu_has_it(void)
{
	return enable_unrestricted_guest;
}
#define HAS_IT(v) (cpu_has_it() && (v))
""",
    MMU: """
int __read_mostly nx_huge_pages = -1;
module_param_cb(nx_huge_pages, &nx_huge_pages_ops, &nx_huge_pages, 0644);
bool tdp_enabled = false;
static bool __read_mostly tdp_mmu_enabled = true;
module_param_named(tdp_mmu, tdp_mmu_enabled, bool, 0444);
void kvm_configure_mmu(bool enable_tdp, int forced, int (*levels)(int), int huge)
{
	tdp_enabled = enable_tdp;
}
static bool sum(struct kvm_vcpu *vcpu)
{
	return kvm_mmu_is_direct(vcpu);
}
static bool fasteoi_of_another(void)
{
	return fasteoi + setup;
}
""",
    "arch/x86/kvm/mmu.h": "static inline bool kvm_mmu_is_direct(struct kvm_vcpu *v) { return tdp_enabled; }\n",
    X86: """
bool __read_mostly enable_apicv = true;
static int __read_mostly force_emulation_prefix;
module_param(force_emulation_prefix, int, 0644);
static bool timer __read_mostly = true;
module_param(timer, bool, 0444);
unsigned int min_timer_period_us = 200;
module_param(min_timer_period_us, uint, 0644);
static void field(struct kvm *kvm)
{
	kvm->arch.tdp_mmu_enabled = 1;
}
static void user(void)
{
	HAS_IT(1);
}
""",
    NESTED: "static void nested_user(void)\n{\n\tHAS_IT(1);\n}\n",
    SVM: """
bool npt_enabled = true;
module_param_named(npt, npt_enabled, bool, 0444);
int vgif = true;
module_param(vgif, int, 0444);
static void gif(void)
{
	kvm_mmu_is_direct(vgif);
}
static void ept(void)
{
	HAS_IT(1);
}
static void hardware(void)
{
	kvm_configure_mmu(npt_enabled, 0, 0, 0);
}
""",
}
SOURCE = KvmSource.of({path: text.encode() for path, text in SOURCES.items()})


def test_what_a_switch_is_turned_to():
    assert {each.name: each.other for each in SOURCE.parameters} == {
        "kvm_intel.ept": "0",
        "kvm_intel.unrestricted_guest": "N",
        "kvm_intel.fasteoi": "N",
        "kvm_intel.enable_apicv": "N",
        "kvm_intel.pt_mode": "",
        "kvm_intel.vmentry_l1d_flush": "",
        "kvm.nx_huge_pages": "",
        "kvm.tdp_mmu": "N",
        "kvm.force_emulation_prefix": "1",
        "kvm.timer": "N",
        "kvm.min_timer_period_us": "",
        "kvm_amd.npt": "0",
        "kvm_amd.vgif": "0",
    }


@pytest.mark.parametrize(
    ("path", "function", "expected"),
    [
        (VMX, "setup", {"kvm_intel.ept": (0, "reads enable_ept")}),
        (VMX, "eoi", {}),
        (VMX, "own", {"kvm_intel.fasteoi": (0, "reads fasteoi")}),
        (MMU, "fasteoi_of_another", {}),
        (
            MMU,
            "sum",
            {
                "kvm_intel.ept": (1, "calls kvm_mmu_is_direct(), which reads tdp_enabled"),
                "kvm_amd.npt": (1, "calls kvm_mmu_is_direct(), which reads tdp_enabled"),
            },
        ),
        (X86, "field", {"kvm.tdp_mmu": (0, "reads tdp_mmu_enabled")}),
        (X86, "user", {}),
        (
            NESTED,
            "nested_user",
            {
                "kvm_intel.unrestricted_guest": (
                    2,
                    "calls HAS_IT, which calls cpu_has_it(), which reads enable_unrestricted_guest",
                )
            },
        ),
        (
            SVM,
            "gif",
            {
                "kvm_amd.vgif": (0, "reads vgif"),
                "kvm_amd.npt": (1, "calls kvm_mmu_is_direct(), which reads tdp_enabled"),
            },
        ),
        (SVM, "ept", {}),
    ],
)
def test_how_a_function_reads_parameters(path, function, expected):
    (found,) = (each for place, each in SOURCE.named(function) if place == path)
    read = {each.name: SOURCE.how_read(found, path, each) for each in SOURCE.parameters}
    assert {name: how for name, how in read.items() if how[1]} == expected


@pytest.mark.parametrize(("length", "expected"), [(1, "calls g(), which reads enable_apicv"), (50, "")])
def test_a_long_function_stands_for_nothing_that_it_reads(length, expected):
    text = "void f(void)\n{\n\tg();\n}\nvoid g(void)\n{\n\tuse(enable_apicv);\n" + length * "\tx();\n" + "}\n"
    source = KvmSource.of({path: text.encode() for path, text in (SOURCES | {NESTED: text}).items()})
    ((_, found),) = source.named("f")
    (parameter,) = (each for each in source.parameters if each.name == "kvm_intel.enable_apicv")
    assert source.how_read(found, NESTED, parameter)[1] == expected
