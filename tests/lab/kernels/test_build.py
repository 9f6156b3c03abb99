"""Variants and builds, on a tree of a few files; the real kernel is built by the emulated host's tests."""

import os
import shutil
from pathlib import Path

import pytest

from kvmharness.errors import UsageError
from kvmharness.lab.inside.modules import module_name
from kvmharness.lab.kernels import build, trees
from kvmharness.lab.kernels.make import KernelBuildError, check_tools, make
from kvmharness.lab.kernels.modulefiles import load_order
from kvmharness.system.programs import MissingToolError, silent


@pytest.fixture
def tree(tmp_path):
    base = tmp_path / "base/tree"
    for name in ("Makefile", "arch/x86/kvm/mmu/mmu.c", "arch/x86/kvm/x86.c", "arch/x86/Kconfig", "virt/kvm/kvm_main.c"):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(f"base {name}")
    for name in ("include/linux/kvm_host.h", "include/linux/mm.h", "lib/string.c"):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(f"base {name}")
    return base


def contents(folder):
    places = (Path(place, name) for place, _, names in os.walk(folder, followlinks=True) for name in names)
    return {str(path.relative_to(folder)): path.read_text() for path in places}


def test_a_variants_tree_looks_like_the_base_with_the_overlay_on_it(tree, tmp_path):
    overlay = {"arch/x86/kvm/mmu/mmu.c": b"new", "include/linux/kvm_host.h": b"newer", "arch/x86/kvm/x86.c": None}
    before = contents(tree)
    trees.link_tree(tree, tmp_path / "farm", overlay)
    expected = before | {"arch/x86/kvm/mmu/mmu.c": "new", "include/linux/kvm_host.h": "newer"}
    del expected["arch/x86/kvm/x86.c"]
    assert contents(tmp_path / "farm") == expected
    assert contents(tree) == before


def test_what_is_built_in_a_variants_tree_does_not_reach_the_base(tree, tmp_path):
    before = contents(tree)
    farm = tmp_path / "farm"
    trees.link_tree(tree, farm, {})
    for name in ("arch/x86/kvm/kvm.o", "arch/x86/kvm/x86.c", "virt/kvm/kvm_main.o"):
        (farm / name).write_text("written by make")
    assert contents(tree) == before
    assert (farm / "include").is_symlink()


def test_a_variant_that_changes_the_kernel_proper_is_refused(tree):
    with pytest.raises(UsageError, match=r"series is more than KVM's modules: mm/memory\.c"):
        build.variant(tree, {"mm/memory.c": b""}, name="series")


def test_no_change_is_a_cached_kernels_own_modules(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tree = tmp_path / "kvmharness/kernels/0123/tree"
    assert build.variant(tree, {}) == tree.parent / "modules"


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Variants without a compiler: a list of the trees that make was started in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    farms = []
    for name, replacement in (
        ("check_tools", lambda: None),
        ("make", lambda farm, *targets, **options: farms.append(farm)),
        ("_collect_modules", lambda farm, base, target: None),
    ):
        monkeypatch.setattr(build, name, replacement)
    return farms


def test_a_tree_that_somebody_works_on_is_built_without_change_too(tree, made):
    assert build.variant(tree, {}).is_dir()
    assert len(made) == 1


def test_an_edited_tree_gives_a_variant_anew_an_unchanged_one_does_not(tree, made):
    overlay = {"arch/x86/kvm/mmu/mmu.c": b"new"}
    first = build.variant(tree, overlay)
    assert build.variant(tree, overlay) == first
    (tree / "virt/kvm/kvm_main.c").write_text("edited")
    assert build.variant(tree, overlay) != first
    assert len(made) == 2


def test_two_trees_side_by_side_are_not_taken_for_each_other(tree, made):
    other = tree.with_name("other")
    shutil.copytree(tree, other)
    overlay = {"arch/x86/kvm/mmu/mmu.c": b"new"}
    assert build.variant(tree, overlay) != build.variant(other, overlay)


@pytest.mark.slow
@pytest.mark.needs("emulated_vmx")
def test_modules_of_a_tree_outside_the_cache(tmp_path):
    kernel = build.kernel()
    (tmp_path / "linux").symlink_to(kernel.tree)
    found = build.variant(tmp_path / "linux", {})
    assert [module_name(path.name) for path in load_order(found)] == ["irqbypass", "kvm", "kvm_intel", "kvm_amd"]


def test_a_given_kernel_must_be_there(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        build.given(tmp_path / "bzImage", tmp_path)


def test_a_release_is_read_from_the_image(tmp_path):
    image = tmp_path / "bzImage"
    header = bytearray(0x4000)
    header[0x202:0x206] = b"HdrS"
    header[0x20E:0x210] = (0x3000).to_bytes(2, "little")
    header[0x3200:0x3200] = b"6.1.192 (kvmharness@lab) #1\0"
    image.write_bytes(header)
    assert build.Kernel(image, tmp_path).release == "6.1.192"
    header[0x1F1], header[0x1F4:0x1F6] = 3, (0x300).to_bytes(2, "little")  # 0x800 bytes of set-up, then 0x3000
    image.write_bytes(header[:0x3800])
    assert build.Kernel(image, tmp_path).release == "6.1.192"
    image.write_bytes(header[:0x37FF])
    with pytest.raises(UsageError, match="is cut off"):
        _ = build.Kernel(image, tmp_path).release
    image.write_bytes(b"no kernel")
    with pytest.raises(UsageError, match="is not a bzImage"):
        _ = build.Kernel(image, tmp_path).release


def run_make(folder, makefile, **more):
    (folder / "Makefile").write_text(makefile)
    make(folder, "all", what="the kernel", progress=more.pop("progress", silent), timeout_s=more.pop("timeout_s", 30.0))


def test_a_failed_build_shows_the_compilers_lines(tmp_path):
    (tmp_path / "x.c").write_text("int f(void) { return missing; }\n")
    with pytest.raises(KernelBuildError, match="the kernel: make failed") as caught:
        run_make(tmp_path, "all:\n\t@echo '  CC      x.o'\n\t@gcc -c x.c -o x.o\n")
    assert any("x.c:1" in line and "error" in line and "missing" in line for line in caught.value.lines)
    assert not any("CC      x.o" in line for line in caught.value.lines)


def _read(path):
    try:
        return path.read_bytes()
    except OSError:  # gone meanwhile
        return b""


@pytest.mark.slow
def test_a_build_that_takes_too_long_is_stopped_with_all_its_processes(tmp_path):
    with pytest.raises(KernelBuildError, match=r"not done after 0\.5 s"):
        run_make(tmp_path, f"all:\n\t@sleep {os.getpid()}.25\n", timeout_s=0.5)
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if f"{os.getpid()}.25".encode() in _read(path)]


@pytest.mark.slow
def test_progress_counts_objects(tmp_path):
    said = []
    run_make(tmp_path, "all:\n\t@echo '  CC [M]  a/b.o'\n\t@echo '  AS      c.o'\n\t@sleep 1.3\n", progress=said.append)
    assert said[0].startswith("the kernel: 2 objects in 1 s, c.o")


def test_all_missing_tools_are_named_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError) as caught:
        check_tools()
    assert {"flex", "bison", "bc", "gcc", "make", "lz4"} <= set(caught.value.hint.split())
