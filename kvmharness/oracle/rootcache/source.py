"""Which form of the root cache a kernel's source has.

The functions that are the cache must have one of the forms below, word for word but for comments and white space. What
else decides about roots is longer and differs between kernels; of that the series must have changed nothing.

Source: arch/x86/kvm/mmu/mmu.c of Linux 6.1 and 6.12, with the commits that :class:`Features` names and without them.
"""

from kvmharness.oracle.csource import CSource, NotDescribedError, ReadSource, normal
from kvmharness.oracle.rootcache.simulation import Features

_MMU = "arch/x86/kvm/mmu/mmu.c"
_TDP_MMU = "arch/x86/kvm/mmu/tdp_mmu.c"
_HEADER = "arch/x86/include/asm/kvm_host.h"

# Each with whether it is reached for a direct root whatever its pgd.
_IS_ROOT_USABLE = {
    normal(body): ignores_pgd
    for condition_61, condition_612, ignores_pgd in (
        ("(role.direct || pgd == root->pgd)", "!role.direct && pgd != root->pgd", True),
        ("pgd == root->pgd", "pgd != root->pgd", False),
    )
    for body in (
        f"return {condition_61} && VALID_PAGE(root->hpa) && role.word == to_shadow_page(root->hpa)->role.word;",
        f"""
        struct kvm_mmu_page *sp;
        if (!VALID_PAGE(root->hpa)) return false;
        if ({condition_612}) return false;
        sp = root_to_sp(root->hpa);
        if (WARN_ON_ONCE(!sp)) return false;
        return role.word == sp->role.word;
        """,
    )
}

# Each with whether it tries the current root first.
_KEEP_CURRENT = {
    normal(f"""
    uint i;
    {first}
    for (i = 0; i < KVM_MMU_NUM_PREV_ROOTS; i++) {{
        swap(mmu->root, mmu->prev_roots[i]);
        if (is_root_usable(&mmu->root, new_pgd, new_role)) return true;
    }}
    kvm_mmu_free_roots(kvm, mmu, KVM_MMU_ROOT_CURRENT);
    return false;
    """): bool(first)
    for first in ("if (is_root_usable(&mmu->root, new_pgd, new_role)) return true;", "")
}

# What has the same meaning in every kernel.
_FIXED = {
    "cached_root_find_without_current": (
        """
        uint i;
        for (i = 0; i < KVM_MMU_NUM_PREV_ROOTS; i++)
            if (is_root_usable(&mmu->prev_roots[i], new_pgd, new_role)) goto hit;
        return false;
    hit:
        swap(mmu->root, mmu->prev_roots[i]);
        for (; i < KVM_MMU_NUM_PREV_ROOTS - 1; i++) mmu->prev_roots[i] = mmu->prev_roots[i + 1];
        mmu->prev_roots[i].hpa = INVALID_PAGE;
        return true;
        """,
    ),
    "fast_pgd_switch": tuple(
        f"""
        if (VALID_PAGE(mmu->root.hpa) && !{page}(mmu->root.hpa)) kvm_mmu_free_roots(kvm, mmu, KVM_MMU_ROOT_CURRENT);
        if (VALID_PAGE(mmu->root.hpa)) return cached_root_find_and_keep_current(kvm, mmu, new_pgd, new_role);
        else return cached_root_find_without_current(kvm, mmu, new_pgd, new_role);
        """
        for page in ("to_shadow_page", "root_to_sp")
    ),
}

# Where the root of a direct MMU is made, and what may be stored as its pgd there: nothing, or the guest's.
_MAKES_DIRECT_ROOT = ((_MMU, "mmu_alloc_direct_roots"), (_TDP_MMU, "kvm_tdp_mmu_alloc_root"))
_STORED = {
    normal("0"): False,
    normal("kvm_mmu_get_guest_pgd(vcpu, mmu)"): True,
    normal("mmu->get_guest_pgd(vcpu)"): True,
}

# What the model also describes, as far as no series touches it.
_BESIDE = {
    _MMU: ("kvm_mmu_new_pgd", "kvm_mmu_load", "kvm_mmu_free_roots"),
    "arch/x86/kvm/mmu.h": ("kvm_mmu_reload",),
    "arch/x86/kvm/x86.c": ("kvm_set_cr3", "kvm_invalidate_pcid"),
    "arch/x86/kvm/vmx/nested.c": ("nested_vmx_load_cr3", "handle_invept"),
    "arch/x86/kvm/svm/nested.c": ("nested_svm_load_cr3",),
}

# Who switches, loads or frees roots is in many functions of these files; of that too no series must change anything.
_CALLED = ("kvm_mmu_new_pgd", "kvm_mmu_load", "kvm_mmu_free_roots", "kvm_mmu_unload", "kvm_mmu_reset_context")
_CALLERS = (
    *(_MMU, _TDP_MMU, "arch/x86/kvm/mmu.h", "arch/x86/kvm/x86.c"),
    *(f"arch/x86/kvm/{vendor}/{name}.c" for vendor in ("vmx", "svm") for name in ("nested", vendor)),
)


def features(read: ReadSource, before: ReadSource) -> Features:
    """The features of the root cache in a kernel's source.

    Args:
        read: the source.
        before: the same kernel without the series.

    Raises:
        NotDescribedError: a function has none of the forms known here, or the series changes one of the others.
    """
    mmu = CSource(_MMU, read(_MMU))
    ignores_pgd = _form(mmu, "is_root_usable", _IS_ROOT_USABLE)
    reuses_current = _form(mmu, "cached_root_find_and_keep_current", _KEEP_CURRENT)
    for name, forms in _FIXED.items():
        _form(mmu, name, dict.fromkeys(map(normal, forms), True))
    if not ignores_pgd and not _stores_pgd(read):
        raise NotDescribedError(
            "is_root_usable() compares the pgd of direct roots, but none is stored for them: every switch would miss"
        )
    _refuse_changes(read, before)
    return Features(ignores_pgd, reuses_current, CSource(_HEADER, read(_HEADER)).number("KVM_MMU_NUM_PREV_ROOTS"))


def _form(source: CSource, name: str, known: dict[str, bool]) -> bool:
    body = source.body(name)
    if body not in known:
        raise NotDescribedError(f"{name}() in {source.path} has none of the forms that the model knows")
    return known[body]


def _stores_pgd(read: ReadSource) -> bool:
    """Whether a direct root is stored with the guest's pgd."""
    target = normal("mmu->root.pgd =")
    seen: dict[str, bool] = {}
    for path, name in _MAKES_DIRECT_ROOT:
        for body in CSource(path, read(path)).bodies(name):
            for rest in body.split(f"{target} ")[1:]:
                stored = rest.partition(" ;")[0]
                if stored not in _STORED:
                    raise NotDescribedError(f"{name}() in {path} stores as the pgd of a direct root: {stored}")
                seen[f"{name}()"] = _STORED[stored]
    if len(set(seen.values())) != 1:
        what = f"by some, not by others: {', '.join(seen)}" if seen else "nowhere that the model knows of"
        raise NotDescribedError(f"the pgd of a direct root is stored {what}")
    return next(iter(seen.values()))


def _refuse_changes(read: ReadSource, before: ReadSource) -> None:
    for path, names in _BESIDE.items():
        ours, theirs = read(path), before(path)
        if ours == theirs:
            continue
        changed, unchanged = CSource(path, ours), CSource(path, theirs)
        for name in names:
            if changed.bodies(name) != unchanged.bodies(name):
                raise NotDescribedError(f"the series changes {name}() in {path}, on which the model depends")
    for path in _CALLERS:
        ours, theirs = read(path), before(path)
        if ours == theirs:
            continue
        changed, unchanged = CSource(path, ours), CSource(path, theirs)
        for name in _CALLED:
            if changed.mentions(name) != unchanged.mentions(name):
                raise NotDescribedError(f"the series changes who calls {name}() in {path}, on which the model depends")
