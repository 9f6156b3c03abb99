"""Small kernel trees with a whole root cache: what the series' own patches show of it, and what they leave out."""

from pathlib import Path

from kvmharness.patches.series import load
from tests.lab.kernels.kernel_trees import tree_with

MMU = "arch/x86/kvm/mmu/mmu.c"
TDP = "arch/x86/kvm/mmu/tdp_mmu.c"
HEADER = "arch/x86/include/asm/kvm_host.h"

# (file, line of a hunk, what stands before it, what stands after it)
_USABLE_612 = (
    "static inline bool is_root_usable(struct kvm_mmu_root_info *root, gpa_t pgd)\n{\n\tstruct kvm_mmu_page *sp;\n\n"
)
_COMMON = [
    (
        MMU,
        "\t\tgoto out_unlock;\n",
        "static int mmu_alloc_direct_roots(struct kvm_vcpu *vcpu)\n{\n\tif (r < 0) {\n",
        "",
    ),
    (MMU, "\treturn r;\n", "", "}\n"),
    (MMU, "{\n\tuint i;\n", "static bool cached_root_find_and_keep_current(struct kvm *kvm)\n", ""),
    (
        MMU,
        "\t\t * The swaps end up rotating the cache like this:\n",
        "",
        "\t\t */\n\t\tswap(mmu->root, mmu->prev_roots[i]);\n"
        "\t\tif (is_root_usable(&mmu->root, new_pgd, new_role))\n\t\t\treturn true;\n\t}\n\n"
        "\tkvm_mmu_free_roots(kvm, mmu, KVM_MMU_ROOT_CURRENT);\n\treturn false;\n}\n",
    ),
]
_ONLY = {
    "6.1": [],
    "6.12": [
        (MMU, "\tif (!VALID_PAGE(root->hpa))\n", _USABLE_612, ""),
        (
            MMU,
            "\tsp = root_to_sp(root->hpa);\n",
            "",
            "\tif (WARN_ON_ONCE(!sp))\n\t\treturn false;\n\n\treturn role.word == sp->role.word;\n}\n",
        ),
        (TDP, "\t * mmu_lock, and the root can't", "int kvm_tdp_mmu_alloc_root(struct kvm_vcpu *vcpu)\n{\n\t/*\n", ""),
    ],
}

# The parts that no patch touches.
_REST = """
static bool cached_root_find_without_current(struct kvm *kvm)
{
	uint i;

	for (i = 0; i < KVM_MMU_NUM_PREV_ROOTS; i++)
		if (is_root_usable(&mmu->prev_roots[i], new_pgd, new_role))
			goto hit;

	return false;
hit:
	swap(mmu->root, mmu->prev_roots[i]);
	for (; i < KVM_MMU_NUM_PREV_ROOTS - 1; i++)
		mmu->prev_roots[i] = mmu->prev_roots[i + 1];
	mmu->prev_roots[i].hpa = INVALID_PAGE;
	return true;
}

static bool fast_pgd_switch(struct kvm *kvm)
{
	if (VALID_PAGE(mmu->root.hpa) && !%s(mmu->root.hpa))
		kvm_mmu_free_roots(kvm, mmu, KVM_MMU_ROOT_CURRENT);

	if (VALID_PAGE(mmu->root.hpa))
		return cached_root_find_and_keep_current(kvm, mmu, new_pgd, new_role);
	else
		return cached_root_find_without_current(kvm, mmu, new_pgd, new_role);
}

int kvm_mmu_load(struct kvm_vcpu *vcpu)
{
	return mmu_alloc_direct_roots(vcpu);
}
"""


def root_cache_tree(label: str, root: Path) -> Path:
    """A tree of that kernel version as it is released: with the whole series."""
    (patch_set,) = (candidate for candidate in load("fast-cr3-switch").sets if candidate.label == label)
    tree = tree_with(patch_set.patches, root)
    for path, line, before, after in _COMMON + _ONLY[label]:
        text = (tree / path).read_text()
        assert text.count(line) == 1, line
        (tree / path).write_text(text.replace(line, before + line + after))
    with (tree / MMU).open("a") as file:
        file.write(_REST % {"6.1": "to_shadow_page", "6.12": "root_to_sp"}[label])
    (tree / HEADER).parent.mkdir(parents=True)
    (tree / HEADER).write_text("#define KVM_MMU_NUM_PREV_ROOTS 3 /* and the current one */\n")
    return tree
