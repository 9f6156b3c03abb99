"""Which settings follow from a series: the shipped one on both kernels, small ones on a small KVM."""

from difflib import unified_diff
from pathlib import Path

import pytest

from kvmharness.lab.kernels import parameters
from kvmharness.lab.kernels.source import at, debian
from kvmharness.patches.series import load
from kvmharness.patches.variants import plan
from kvmharness.system import packages
from kvmharness.validation.look import look
from kvmharness.validation.settings import following
from tests.folders import written

KVM = "arch/x86/kvm"
FILES = {
    f"{KVM}/vmx/vmx.c": """
bool __read_mostly enable_ept = 1;
module_param_named(ept, enable_ept, bool, S_IRUGO);
bool __read_mostly enable_vpid = 1;
module_param_named(vpid, enable_vpid, bool, 0444);
static bool __read_mostly nested = 1;
module_param(nested, bool, S_IRUGO);
module_param(enable_apicv, bool, 0444);
static unsigned int ple_window = 4096;
module_param(ple_window, uint, 0444);

static int vmx_set_msr(void)
{
	return nested + ple_window;
}
""",
    f"{KVM}/vmx/nested.c": """
static bool __read_mostly enable_shadow_vmcs = 1;
module_param_named(enable_shadow_vmcs, enable_shadow_vmcs, bool, S_IRUGO);

static int prepare_vmcs02(void)
{
	return enable_vpid;
}
""",
    f"{KVM}/svm/svm.c": """
bool npt_enabled = true;
module_param_named(npt, npt_enabled, bool, 0444);
int vgif = true;
module_param(vgif, int, 0444);
static bool avic;
module_param(avic, bool, 0444);

static void init_vmcb(void)
{
	set(npt_enabled, vgif, avic);
}
""",
    f"{KVM}/x86.c": """
bool __read_mostly enable_apicv = true;
static int __read_mostly force_emulation_prefix;
module_param(force_emulation_prefix, int, 0644);
bool __read_mostly eager_page_split = true;
module_param(eager_page_split, bool, 0644);

int kvm_set_cr0(void)
{
	return 0;
}
""",
    f"{KVM}/emulate.c": "int x86_decode_insn(void)\n{\n\treturn 0;\n}\n",
    f"{KVM}/lapic.c": "int kvm_apic_set_state(void)\n{\n\treturn 0;\n}\n",
    f"{KVM}/mmu/mmu.c": """
static bool __read_mostly tdp_mmu_enabled = true;
module_param_named(tdp_mmu, tdp_mmu_enabled, bool, 0444);

void kvm_mmu_new_pgd(void)
{
	go(0, NUM_PREV_ROOTS);
}
""",
    "include/linux/kvm_host.h": "#define NUM_PREV_ROOTS 3\n#define OTHER 1\n",
    "virt/kvm/kvm_main.c": "int kvm_vcpu_block(void)\n{\n\treturn 0;\n}\n",
    "mm/memory.c": "int fault(void)\n{\n\treturn 0;\n}\n",
    "Documentation/virt/kvm/api.rst": "Text\n",
}
DEFAULT = "default: KVM as it is loaded by default"


@pytest.fixture
def tree(tmp_path):
    return written(tmp_path / "linux", FILES)


def follow(tree, *edits, **how):
    """What follows from patches of one edit each: (path, old, new)."""
    folder = tree.parent / "series"
    folder.mkdir()
    texts = dict(FILES)
    for number, (path, old, new) in enumerate(edits, 1):
        assert old in texts[path]
        before, texts[path] = texts[path], texts[path].replace(old, new)
        lines = unified_diff(before.splitlines(True), texts[path].splitlines(True), f"a/{path}", f"b/{path}")
        mail = f"From: a@b.example\nSubject: [PATCH {number}/{len(edits)}] Step {number}\n\n---\n{''.join(lines)}"
        (folder / f"{number}.patch").write_text(mail)
    known = parameters.of_files({path: text.encode() for path, text in texts.items()})
    return following(plan(load(str(folder)), tree), known, **how)


@pytest.mark.parametrize(
    ("path", "old", "new", "vendors", "chosen", "left_out"),
    [
        (
            f"{KVM}/vmx/nested.c",
            "return enable_vpid",
            "return !enable_vpid",
            ("vmx",),
            [
                "kvm_intel.ept=0: p1 changes prepare_vmcs02() in vmx/nested.c, and L2 then runs on shadow page tables",
                "kvm_intel.enable_shadow_vmcs=N: p1 changes prepare_vmcs02() in vmx/nested.c, "
                "and every VMREAD and VMWRITE of L1 then exits",
                "kvm_intel.vpid=N: p1 changes prepare_vmcs02() in vmx/nested.c, which reads enable_vpid",
            ],
            [],
        ),
        (
            f"{KVM}/svm/svm.c",
            "set(",
            "put(",
            ("svm",),
            [
                "kvm_amd.npt=0: p1 changes init_vmcb() in svm/svm.c, which reads npt_enabled",
                "kvm_amd.vgif=0: p1 changes init_vmcb() in svm/svm.c, which reads vgif",
            ],
            [
                "kvm_amd.avic takes hardware that emulated hosts do not have; "
                "p1 changes init_vmcb() in svm/svm.c, which reads avic"
            ],
        ),
        (
            f"{KVM}/vmx/vmx.c",
            "nested +",
            "nested -",
            ("vmx",),
            [],
            [
                "kvm_intel.nested without it nothing nested runs; "
                "p1 changes vmx_set_msr() in vmx/vmx.c, which reads nested",
                "kvm_intel.ple_window is not a switch; p1 changes vmx_set_msr() in vmx/vmx.c, which reads ple_window",
            ],
        ),
        (
            f"{KVM}/emulate.c",
            "return 0",
            "return 1",
            ("vmx", "svm"),
            [
                "kvm.force_emulation_prefix=1: p1 changes x86_decode_insn() in emulate.c, "
                "and guests can then have any instruction emulated"
            ],
            [],
        ),
        (
            f"{KVM}/lapic.c",
            "return 0",
            "return 1",
            ("vmx", "svm"),
            [
                "kvm_intel.enable_apicv=N: p1 changes kvm_apic_set_state() in lapic.c, "
                "and interrupts then take the way of software"
            ],
            [],
        ),
        (
            f"{KVM}/x86.c",
            "eager_page_split = true",
            "eager_page_split",
            ("vmx", "svm"),
            ["kvm.eager_page_split=Y: p1 changes how x86.c declares eager_page_split"],
            [],
        ),
        (
            f"{KVM}/x86.c",
            "module_param(eager",
            "bool new_one;\nmodule_param(new_one, bool, 0444);\nmodule_param(eager",
            ("vmx", "svm"),
            ["kvm.new_one=Y: p1 changes how x86.c declares new_one"],
            [],
        ),
        (
            "include/linux/kvm_host.h",
            "ROOTS 3",
            "ROOTS 4",
            ("vmx", "svm"),
            [
                f"{switch}: p1 changes NUM_PREV_ROOTS in include/linux/kvm_host.h, which mmu/mmu.c uses, {why}"
                for switch, why in (
                    ("kvm_intel.ept=0", "where shadow paging takes another way"),
                    ("kvm_amd.npt=0", "where shadow paging takes another way"),
                    ("kvm.tdp_mmu=N", "which has to work without the TDP MMU, too"),
                )
            ],
            [],
        ),
        ("include/linux/kvm_host.h", "OTHER 1", "OTHER 2", ("vmx", "svm"), [], []),
        (f"{KVM}/x86.c", "return 0", "return 1", ("vmx", "svm"), [], []),
        (f"{KVM}/vmx/vmx.c", "\nstatic int vmx_set", "/* words */\nstatic int vmx_set", ("vmx",), [], []),
        ("virt/kvm/kvm_main.c", "return 0", "return 1", ("vmx", "svm"), [], []),
        ("mm/memory.c", "return 0", "return 1", ("vmx", "svm"), [], []),
        ("Documentation/virt/kvm/api.rst", "Text", "Words", ("vmx", "svm"), [], []),
    ],
)
def test_what_follows_from_one_change(tree, path, old, new, vendors, chosen, left_out):
    found = follow(tree, (path, old, new))
    assert list(map(str, found.chosen)) == [DEFAULT, *chosen]
    assert list(found.left_out) == left_out
    assert found.vendors == vendors


def test_the_patch_that_asks_for_a_setting_is_named(tree):
    found = follow(
        tree,
        (f"{KVM}/x86.c", "return 0", "return 1"),
        ("Documentation/virt/kvm/api.rst", "Text", "Words"),
        (f"{KVM}/vmx/nested.c", "return enable_vpid", "return 5"),
    )
    assert found.vendors == ("vmx", "svm")
    assert "p3 changes prepare_vmcs02() in vmx/nested.c, which reads enable_vpid" in [
        each.reason for each in found.chosen
    ]


def test_each_vendor_has_its_own_settings(tree):
    found = follow(tree, (f"{KVM}/mmu/mmu.c", "go(0", "go(1"))
    tdp_mmu = ("kvm.tdp_mmu", "N")
    assert found.under("kvm_intel") == ((), (("kvm_intel.ept", "0"),), (tdp_mmu,))
    assert found.under("kvm_amd") == ((), (("kvm_amd.npt", "0"),), (tdp_mmu,))


def test_no_more_settings_than_there_is_time_for(tree):
    change = (f"{KVM}/mmu/mmu.c", "go(0", "go(eager_page_split")
    found = follow(tree, change, limit=3)
    assert len(found.under("kvm_intel")) == len(found.under("kvm_amd")) == 3
    assert found.left_out == (
        "kvm.eager_page_split=N: p1 changes kvm_mmu_new_pgd() in mmu/mmu.c, which reads eager_page_split; "
        "3 settings are enough",
    )


@pytest.mark.slow
@pytest.mark.parametrize("version", ["6.1", "6.12"])
def test_the_shipped_series_on_real_kernels(version):
    """Shadow paging by either vendor's name, and the MMU that is neither: known from what its cover letter is about."""
    newer = Path(f"/usr/src/linux-source-{version}.tar.xz")
    if packages.missing(("linux-source-6.1.tar.xz",)) or not newer.exists():
        pytest.skip(f"apt-get install linux-source-{version}")
    source = debian() if version == "6.1" else at(newer)
    seen = look(load("fast-cr3-switch"), source)
    found = following(seen.plan, seen.parameters)
    names = ["=".join(name) for each in found.chosen for name in each.params]
    assert names == ["kvm_intel.ept=0", "kvm_amd.npt=0", "kvm.tdp_mmu=N"]
    assert found.vendors == ("vmx", "svm")
