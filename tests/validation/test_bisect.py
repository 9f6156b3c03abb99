from fractions import Fraction

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.errors import UsageError
from kvmharness.lab.kernels import build, builtin
from kvmharness.results.record import CellError, Probes
from kvmharness.validation.bisect import Answer, BisectCode, Question, ask, check, judge, kvm_overlay
from tests import builders

A33 = Cell(Setup.NO_EPT, 3, 3)
SKIP = BisectCode.SKIP


def changed(**fields):
    from dataclasses import replace

    return replace(builders.result(A33), **fields)


@pytest.mark.parametrize(
    ("metric", "bound", "code"),
    [
        ("loads", "2", 0),
        ("loads", "1.5", 1),
        ("exits.VMCALL", "1", 0),
        ("time", "20100", 0),
        ("time", "20099", 1),
        ("probe_failures", "0", 0),
    ],
)
def test_figures_against_the_bound(metric, bound, code):
    assert judge(Question.of(A33, metric, bound), builders.result(A33)).code == code


def test_the_answer_says_why():
    answer = judge(Question.of(A33, "loads", "1"), builders.result(A33))
    assert answer == Answer(BisectCode.BAD, "a:3x3: loads 2, above 1")


def test_a_cell_without_the_figure_is_skipped():
    loads = Question.of(A33, "loads", "1")
    assert judge(loads, changed(skipped="nested: no VMX")) == Answer(SKIP, "a:3x3: loads: skipped: nested: no VMX")
    assert judge(loads, changed(error=CellError("GuestShutdown", "triple fault"))).code == SKIP
    assert judge(loads, changed(counts={}, missing={"kvm_mmu_load": "no kprobes"})).code == SKIP
    assert judge(Question.of(A33, "time", "1"), changed(samples=())).code == SKIP


def test_a_stale_translation_is_bad_when_that_is_the_question():
    stale = changed(error=CellError("StaleTranslation", "iteration 3"), probes=Probes(1, 1))
    assert judge(Question.of(A33, "probe_failures", "0"), stale).code == BisectCode.BAD


@pytest.mark.parametrize(("metric", "bound"), [("lodes", "1"), ("exits.*", "1"), ("loads", "few"), ("loads", "1/0")])
def test_questions_that_make_no_sense(metric, bound):
    with pytest.raises(UsageError):
        Question.of(A33, metric, bound)
    assert Question.of(A33, "loads", "1/2").bound == Fraction(1, 2)


def test_only_kvms_sources_that_differ_are_put_over_the_base(tmp_path):
    base, tree = tmp_path / "base", tmp_path / "tree"
    for root in (base, tree):
        (root / "arch/x86/kvm/mmu").mkdir(parents=True)
        (root / "arch/x86/kvm/same.c").write_text("same\n")
        (root / "arch/x86/kvm/mmu/mmu.c").write_text(f"{root.name}\n")
        (root / "other.c").write_text(f"{root.name}\n")
    (base / "virt/kvm").mkdir(parents=True)
    (base / "virt/kvm/kvm_main.c").write_text("x\n")
    (base / "arch/x86/kvm/gone.c").write_text("x\n")
    (base / "arch/x86/kvm/kvm.mod.c").write_text("made by the build\n")
    (base / "arch/x86/kvm/kvm-asm-offsets.h").write_text("made by the build\n")
    (base / "arch/x86/kvm/same.o").write_text("made by the build\n")
    (tree / "arch/x86/kvm/new.h").write_text("new\n")
    assert kvm_overlay(tree, base) == {
        "arch/x86/kvm/gone.c": None,
        "arch/x86/kvm/mmu/mmu.c": b"tree\n",
        "arch/x86/kvm/new.h": b"new\n",
    }


REASONS = ("VMWRITE", "VMCALL")


@pytest.mark.parametrize(
    ("cell", "metric", "says"),
    [
        ("a:1x1", "exits.VMWRTE", "exits for VMWRTE, which no host of this run counts"),
        ("a:1x1", "exits.VMRUN", "exits for VMRUN"),
        ("a:1x1", "stat.tlb_flsh", "statistic tlb_flsh, which this kernel does not have"),
        ("a:1x1/kvm.nosuch=1", "loads", "kvm.nosuch is no parameter"),
    ],
)
def test_a_figure_that_nobody_takes_is_not_good(cell, metric, says, tmp_path):
    (tmp_path / "arch/x86/kvm").mkdir(parents=True)
    (tmp_path / "include/linux").mkdir(parents=True)
    (tmp_path / "arch/x86/kvm/x86.c").write_text(
        "STATS_DESC_COUNTER(VCPU, tlb_flush),\nmodule_param(tdp_mmu, bool, 0);\n"
    )
    with pytest.raises(UsageError, match=says):
        check(Question.of(Cell.parse(cell), metric, "0"), tmp_path, REASONS)


def test_a_question_that_can_be_answered(tmp_path):
    with pytest.raises(UsageError, match="is no kernel tree"):
        check(Question.of(A33, "loads", "0"), tmp_path, REASONS)
    (tmp_path / "arch/x86/kvm").mkdir(parents=True)
    (tmp_path / "arch/x86/kvm/x86.c").write_text("module_param(tdp_mmu, bool, 0);\n")
    for cell, metric in (("a:1x1", "stat.remote_tlb_flush"), ("a:1x1/tdp_mmu=N", "exits.VMCALL")):
        check(Question.of(Cell.parse(cell), metric, "0"), tmp_path, REASONS)


def test_headers_that_kvm_includes_are_compared_too(tmp_path):
    """Those that a build's own command files name; generated ones are the base's."""
    tree, base = tmp_path / "commit", tmp_path / "base"
    for root, header in ((tree, "new"), (base, "old")):
        for path in ("arch/x86/kvm", "include/linux", "include/generated"):
            (root / path).mkdir(parents=True)
        (root / "include/linux/kvm_host.h").write_text(header)
        (root / "include/linux/other.h").write_text(header)
    (base / "include/linux/gone.h").write_text("x")
    (base / "arch/x86/kvm/.x86.o.cmd").write_text(
        "deps_arch/x86/kvm/x86.o := \\\n    $(wildcard include/config/X) \\\n  include/linux/kvm_host.h \\\n"
        "  include/linux/gone.h \\\n  include/generated/bounds.h \\\n"
    )
    assert kvm_overlay(tree, base) == {"include/linux/kvm_host.h": b"new", "include/linux/gone.h": None}


def test_a_commit_whose_kvm_is_for_another_kernel_is_no_verdict(monkeypatch, tmp_path):
    """Its modules would be loaded into a vmlinux that knows other structures."""
    (tmp_path / "arch/x86/kvm").mkdir(parents=True)
    kernel = build.Kernel(tmp_path / "bzImage", tmp_path / "modules", tree=tmp_path)
    monkeypatch.setattr(builtin, "changes", lambda tree, overlay: "kernel/entry/kvm.o is another one")
    answer = ask(Question.of(Cell(Setup.NO_EPT, 3, 3), "loads", "0"), tmp_path, kernel, machine=None)
    assert answer.code is BisectCode.SKIP
    assert "kernel/entry/kvm.o" in answer.text
