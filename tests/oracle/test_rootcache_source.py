"""What a kernel's root cache is like is found in its source, in every form that it has there, or is said not to be."""

import pytest

from kvmharness.lab.kernels.source import debian, to_read
from kvmharness.lab.kernels.trees import KVM_FOLDERS
from kvmharness.oracle import oracles
from kvmharness.oracle.csource import NotDescribedError
from kvmharness.oracle.rootcache.source import features
from kvmharness.patches.apply import Overlay
from kvmharness.patches.series import load
from kvmharness.patches.variants import plan
from kvmharness.system.programs import MissingToolError
from tests.folders import FAULTS, HARMLESS, SEEDED
from tests.oracle.kernels import BOTH, NONE, P1, P2
from tests.oracle.root_cache_trees import HEADER, MMU, TDP, root_cache_tree

FORM, STORED, CHANGED = "none of the forms", "every switch would miss", "the series changes kvm_mmu_new_pgd()"

# Of each seeded fault, what its variants none, p1, p2 and both have, or why they are not described.
EXPECTED = {
    "does-nothing": (NONE, NONE, NONE, NONE),
    "compared-but-not-stored": (STORED, P1, STORED, BOTH),
    "every-switch-misses": (NONE, FORM, P2, FORM),
    "pgd-ignored-for-indirect-roots": (NONE, FORM, P2, FORM),
    "root-not-reloaded": (NONE, CHANGED, P2, CHANGED),
}
ALONE = ("panics-at-load", "refuses-to-load")
# Of the series that have a fault of their own, those that the model describes as something else than Linux, or not.
SEEDED_ONES = {
    "cr3-compared-for-direct-roots": P2,
    "current-root-not-tried": P1,
    "cache-one-root-smaller": FORM,
    "stale-nested-root": FORM,
    "stale-host-cr3": FORM,
    "roots-freed-on-nested-exit": "changes who calls kvm_mmu_free_roots()",
    "switches-doubled": "changes nested_vmx_load_cr3()",
}


def variants(spec, tree, left_out=()):
    """The features of each variant, or why it is not described."""
    found = plan(load(spec), tree)
    assert tuple(found.left_out) == left_out
    return {variant.name: seen(found.source(variant).read, found.before.read) for variant in found.variants}


def seen(read, before=None):
    try:
        return features(read, before or read)
    except NotDescribedError as e:
        return str(e)


def check(seen, *expected):
    assert list(seen) == ["none", "p1", "p2", "both"]
    for (name, has), wanted in zip(seen.items(), expected, strict=True):
        assert wanted in has if isinstance(wanted, str) and isinstance(has, str) else has == wanted, name


@pytest.fixture(params=["6.1", "6.12"])
def tree(request, tmp_path):
    return root_cache_tree(request.param, tmp_path)


def edited(tree, path, old, new):
    text = (tree / path).read_text()
    assert old in text
    return Overlay(tree, {path: text.replace(old, new).encode()}).read


def test_every_variant_of_the_series(tree):
    check(variants("fast-cr3-switch", tree), NONE, P1, P2, BOTH)


@pytest.mark.parametrize("fault", sorted(EXPECTED.keys() - {"root-not-reloaded"}))
def test_a_fault_is_never_taken_for_what_it_is_not(fault, tmp_path):
    check(variants(str(FAULTS / fault), root_cache_tree("6.1", tmp_path)), *EXPECTED[fault])


def test_neither_comments_nor_white_space_matter(tmp_path):
    tree = root_cache_tree("6.1", tmp_path)
    read = edited(
        tree,
        MMU,
        "\treturn (role.direct || pgd == root->pgd) &&\n",
        '\t/* return false; } " */ return(role.direct// pgd\n\t\t||pgd==root->pgd)&&',
    )
    assert features(read, read) == BOTH


def test_the_number_of_previous_roots_is_the_headers(tree):
    read = edited(tree, HEADER, "PREV_ROOTS 3", "PREV_ROOTS (7)")
    assert features(read, Overlay(tree).read) == BOTH._replace(previous_roots=7)


@pytest.mark.parametrize(
    ("path", "old", "new", "why"),
    [
        (HEADER, "PREV_ROOTS 3", "PREV_ROOTS (MAX_ROOTS - 1)", "has MAX_ROOTS - 1 as KVM_MMU_NUM_PREV_ROOTS"),
        (HEADER, "KVM_MMU_NUM_PREV_ROOTS", "KVM_MMU_PREV_ROOTS", "has nothing as KVM_MMU_NUM_PREV_ROOTS"),
        (MMU, "find_and_keep_current(struct", "available(struct", "has no cached_root_find_and_keep_current()"),
        (MMU, "i < KVM_MMU_NUM_PREV_ROOTS;", "i < nr_roots;", "cached_root_find_and_keep_current() in .* none of the"),
        (MMU, "prev_roots[i + 1];", "prev_roots[i + 2];", "cached_root_find_without_current() in .* none of the"),
        (MMU, "\tif (VALID_PAGE(mmu->root.hpa))\n", "\tif (n++ & 1)\n", "fast_pgd_switch() in .* none of the"),
        (MMU, "\treturn (role", "#ifdef X\n\treturn (role", "is_root_usable() in .* none of the"),
        (MMU, "\nint kvm_mmu_load", "\nstatic bool fast_pgd_switch(int a)\n{\n}\nint kvm_mmu_load", "has several fast"),
        (
            MMU,
            "return mmu_alloc_direct_roots",
            "load(); return mmu_alloc_direct_roots",
            "series changes kvm_mmu_load()",
        ),
        (
            MMU,
            "static bool fast_pgd_switch(",
            "void leave(void)\n{\n\tkvm_mmu_free_roots(kvm, mmu, 1);\n}\nstatic bool fast_pgd_switch(",
            "series changes who calls kvm_mmu_free_roots()",
        ),
    ],
)
def test_what_the_model_does_not_describe_is_said(tmp_path, path, old, new, why):
    tree = root_cache_tree("6.1", tmp_path)
    with pytest.raises(NotDescribedError, match=why.replace("()", r"\(\)")):
        features(edited(tree, path, old, new), Overlay(tree).read)


def test_a_pgd_that_is_stored_by_one_path_and_not_by_the_other(tmp_path):
    tree = root_cache_tree("6.12", tmp_path)
    none = plan(load("fast-cr3-switch"), tree).before.files
    half = Overlay(tree, {**none, TDP: (tree / TDP).read_bytes()}).read
    assert "mmu_alloc_direct_roots(), kvm_tdp_mmu_alloc_root()" in seen(half)
    odd = Overlay(tree, {**none, TDP: none[TDP].replace(b"mmu->get_guest_pgd(vcpu)", b"~0ull")}).read
    assert "kvm_tdp_mmu_alloc_root() in arch/x86/kvm/mmu/tdp_mmu.c stores" in seen(odd)
    nowhere = Overlay(tree, {**none, MMU: none[MMU].replace(b"root.pgd = ", b"root.x = "), TDP: None}).read
    assert "nowhere that the model knows of" in seen(nowhere)


@pytest.fixture(scope="module")
def linux():
    """The part of Debian's kernel source that matters here."""
    try:
        source = debian()
    except MissingToolError as e:
        pytest.skip(f"{e}: {e.hint}")
    return to_read(source, tuple({*KVM_FOLDERS, *oracles.READ}))


@pytest.mark.slow
class TestLinux61:
    """The same on the kernel's own source."""

    def test_as_released(self, linux):
        read = Overlay(linux).read
        assert features(read, read) == BOTH

    def test_every_variant_of_the_series(self, linux):
        check(variants("fast-cr3-switch", linux), NONE, P1, P2, BOTH)

    @pytest.mark.parametrize("fault", EXPECTED)
    def test_faults(self, linux, fault):
        check(variants(str(FAULTS / fault), linux), *EXPECTED[fault])

    @pytest.mark.parametrize("fault", ALONE)
    def test_a_series_that_has_nothing_to_do_with_it(self, linux, fault):
        assert variants(str(FAULTS / fault), linux) == {"none": BOTH, "p1": BOTH}

    @pytest.mark.parametrize("name", sorted(path.name for path in SEEDED.iterdir()))
    def test_seeded_faults(self, linux, name):
        repairs = name == "breaks-and-repairs"  # and what repairs has nothing to repair alone
        seen = variants(str(SEEDED / name), linux, ("p3",) if repairs else ())
        assert seen["none"] == BOTH
        wanted = SEEDED_ONES.get(name, BOTH)
        last = list(seen.values())[-1]
        assert wanted in last if isinstance(wanted, str) and isinstance(last, str) else last == wanted

    @pytest.mark.parametrize("name", sorted(path.name for path in HARMLESS.iterdir()))
    def test_harmless_series(self, linux, name):
        roots = 7 if name == "more-previous-roots" else 3
        assert list(variants(str(HARMLESS / name), linux).values())[-1] == BOTH._replace(previous_roots=roots)
