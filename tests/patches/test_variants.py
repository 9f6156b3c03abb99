import time

import pytest

from kvmharness.patches.apply import Overlay
from kvmharness.patches.diff import PatchError, parse
from kvmharness.patches.mbox import Patch
from kvmharness.patches.series import PatchSet, Series, load
from kvmharness.patches.variants import Variant, plan
from kvmharness.validation.settings import following
from tests.folders import FAULTS
from tests.lab.kernels.kernel_trees import tree_with

MMU = "arch/x86/kvm/mmu/mmu.c"
TDP = "arch/x86/kvm/mmu/tdp_mmu.c"
BEFORE = "".join(f"line {n}\n" for n in range(60))


def patch(number, old, new, context_from):
    """One line changed, as a mail of a numbered series."""
    lines = [f"line {n}" for n in range(context_from, context_from + 3)]
    body = "".join(f" {line}\n" for line in lines)
    after = "".join(f" line {n}\n" for n in range(context_from + 4, context_from + 7))
    return (
        f"From: a@b.example\nSubject: [PATCH {number}/3] KVM: Step {number}\n\n--- a/arch/x86/kvm/x.c\n"
        f"+++ b/arch/x86/kvm/x.c\n@@ -{context_from + 1},7 +{context_from + 1},7 @@\n{body}-{old}\n+{new}\n{after}"
    )


@pytest.fixture
def tree(tmp_path):
    tree = tmp_path / "linux"
    (tree / "arch/x86/kvm").mkdir(parents=True)
    (tree / "arch/x86/kvm/x.c").write_text(BEFORE)
    return tree


@pytest.fixture
def series(tmp_path):
    """Three patches, of which the third builds on the first."""
    folder = tmp_path / "series"
    folder.mkdir()
    steps = [("line 10", "ten", 7), ("line 30", "thirty", 27), ("ten", "TEN", 7)]
    for number, (old, new, at) in enumerate(steps, 1):
        (folder / f"{number}.patch").write_text(patch(number, old, new, at))
    return load(str(folder))


def content(variant: Variant):
    return variant.files.get("arch/x86/kvm/x.c", BEFORE.encode()).decode()


def test_every_variant_of_three_patches(tree, series):
    found = plan(series, tree)
    assert found.in_tree == (False, False, False)
    assert [variant.name for variant in found.variants] == ["none", "p1", "p2", "p1-2", "all"]
    assert list(found.left_out) == ["p3"]
    assert "hunk #1 of arch/x86/kvm/x.c does not apply" in found.left_out["p3"]
    none, p1, p2, first_two, whole = found.variants
    assert none.files == {}
    assert content(p1) == BEFORE.replace("line 10\n", "ten\n")
    assert content(p2) == BEFORE.replace("line 30\n", "thirty\n")
    assert content(first_two) == content(p1).replace("line 30\n", "thirty\n")
    assert content(whole) == BEFORE.replace("line 10\n", "TEN\n").replace("line 30\n", "thirty\n")
    assert whole.patches == ("KVM: Step 1", "KVM: Step 2", "KVM: Step 3")
    assert (tree / "arch/x86/kvm/x.c").read_text() == BEFORE


@pytest.mark.parametrize("present", [(0,), (1,), (0, 1), (0, 2), (0, 1, 2)])
def test_what_the_tree_has_already_is_recognised(tree, series, present):
    overlay = Overlay(tree)
    for i in present:
        overlay = overlay.applied(series.sets[0].patches[i].changes)
    (tree / "arch/x86/kvm/x.c").write_bytes(overlay.files["arch/x86/kvm/x.c"])
    found = plan(series, tree)
    assert found.in_tree == tuple(i in present for i in range(3))
    none = found.select(("none",))[0]
    assert found.before.read("arch/x86/kvm/x.c") == BEFORE.encode()
    assert none.files == {"arch/x86/kvm/x.c": BEFORE.encode()}
    whole = Overlay(tree, found.select(("all",))[0].files)
    expected = BEFORE.replace("line 10\n", "TEN\n").replace("line 30\n", "thirty\n")
    assert whole.read("arch/x86/kvm/x.c").decode() == expected


def test_a_series_that_does_not_apply_names_patch_hunk_and_file(tree, series):
    (tree / "arch/x86/kvm/x.c").write_text(BEFORE.replace("line 30\n", "other\n"))
    with pytest.raises(PatchError) as caught:
        plan(series, tree)
    assert "KVM: Step 2" in str(caught.value)
    assert "hunk #1 of arch/x86/kvm/x.c does not apply: around line 31" in str(caught.value)
    assert caught.value.exit_code == 2


def test_choosing_variants(tree, series):
    found = plan(series, tree)
    assert [variant.name for variant in found.select(("all", "none", "all"))] == ["all", "none"]
    assert found.select(()) == found.variants
    with pytest.raises(PatchError, match="no variant 'p9'"):
        found.select(("p9",))
    with pytest.raises(PatchError, match="'p3' cannot be made"):
        found.select(("p3",))


def test_not_a_kernel(tmp_path, series):
    with pytest.raises(PatchError, match="not an x86 kernel source"):
        plan(series, tmp_path)


IGNORES_PGD = {"6.1": "(role.direct || pgd == root->pgd)", "6.12": "!role.direct && pgd != root->pgd"}


class TestFastCr3Switch:
    """The edits that undo the series, in trees that hold the hunks' own lines."""

    @pytest.fixture(params=["6.1", "6.12"])
    def found(self, request, tmp_path):
        series = load("fast-cr3-switch")
        (patch_set,) = (candidate for candidate in series.sets if candidate.label == request.param)
        return plan(series, tree_with(patch_set.patches, tmp_path))

    def text(self, found, name):
        overlay = Overlay(found.tree, {v.name: v for v in found.variants}[name].files)
        return (overlay.read(MMU) or b"").decode(), (overlay.read(TDP) or b"").decode()

    def test_the_tree_has_it_and_its_form_is_recognised(self, found, request):
        assert found.label == request.node.callspec.params["found"]
        assert found.in_tree == (True, True)
        assert found.left_out == {}
        assert [v.name for v in found.variants] == ["none", "p1", "p2", "both"]
        assert all(path.startswith("arch/x86/kvm/") for v in found.variants for path in v.files)

    def test_each_variant_has_the_edits_it_should(self, found):
        for name, p1, p2 in [("none", 0, 0), ("p1", 1, 0), ("p2", 0, 1), ("both", 1, 1)]:
            mmu, tdp = self.text(found, name)
            # Edit 1 and edit 2 go together: comparing what was never stored would miss on every switch.
            assert (IGNORES_PGD[found.label] in mmu) == bool(p1)
            assert ("mmu->root.pgd = kvm_mmu_get_guest_pgd(vcpu, mmu);" in mmu) == (not p1)
            assert ("mmu->root.pgd = 0;" in mmu) == bool(p1)
            if found.label == "6.12":
                assert ("mmu->root.pgd = mmu->get_guest_pgd(vcpu);" in tdp) == (not p1)
            assert mmu.count("if (is_root_usable(&mmu->root, new_pgd, new_role))\n\t\treturn true;") == p2


@pytest.mark.parametrize("name", sorted(path.parent.name for path in FAULTS.glob("*/series.toml")))
def test_seeded_faults_apply_where_the_true_series_is(name, tmp_path):
    true = load("fast-cr3-switch").sets[0].patches
    fault = load(str(FAULTS / name))
    tree = tree_with([*true, *(p for p in fault.sets[0].patches if name == "root-not-reloaded")], tmp_path)
    if name == "root-not-reloaded":  # touches a place that the true patches do not
        text = Overlay(tree).read(MMU)
        request = b"\tkvm_make_request(KVM_REQ_LOAD_MMU_PGD, vcpu);\n\n"
        (tree / MMU).write_bytes(text.replace(b"\tif (force_flush", request + b"\tif (force_flush"))
    found = plan(fault, tree)
    assert [variant.name for variant in found.variants] == ["none", "p1", "p2", "both"]
    assert found.in_tree == ((True, True) if name == "compared-but-not-stored" else (False, False))


@pytest.mark.slow
@pytest.mark.parametrize("per_file", [300, 1])
def test_a_long_series_is_planned_in_time(per_file, tmp_path):
    """Of 1,500 patches, each on top of the others: every prefix is made of the one before."""
    count = 1500
    (tmp_path / "arch/x86/kvm").mkdir(parents=True)
    patches = []
    for n in range(count):
        path, line = f"arch/x86/kvm/f{n // per_file}.c", 10 * (n % per_file) + 5
        text = f"--- a/{path}\n+++ b/{path}\n@@ -{line} +{line} @@\n-line {line}\n+LINE {line}\n"
        patches.append(Patch(f"x{n}", parse(text.encode()), "a"))
    for n in range(count // per_file):
        (tmp_path / f"arch/x86/kvm/f{n}.c").write_text("".join(f"line {k}\n" for k in range(1, 10 * per_file + 1)))
    started = time.process_time()
    made = plan(Series("s", "s", (PatchSet("", tuple(patches)),)), tmp_path)
    if per_file == 1:  # what a patch changes is found by reading the whole file before and after it
        assert len(following(made, frozenset()).chosen) == 1
    assert time.process_time() - started < 5
    assert len(made.variants) == 2 * count
    last = made.variants[-1]
    assert (last.name, len(last.files), len(last.patches)) == ("all", count // per_file, count)
    assert sum(text.count(b"LINE") for text in last.files.values()) == count
