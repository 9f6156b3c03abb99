"""Measures what a build costs more in the sandbox than outside of it."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from bench_emulated import in_turns
from bench_figures import Result

from kvmharness.lab.kernels import build as kernels
from kvmharness.lab.kernels.make import make
from kvmharness.lab.kernels.trees import link_tree
from kvmharness.system import sandbox
from kvmharness.system.programs import silent

SANDBOX_AT_MOST = 1.05
_TIMEOUT_S = 600.0
_CHANGED = [f"arch/x86/kvm/{name}.c" for name in ("mmu/mmu", "vmx/nested", "svm/nested", "x86")]  # as a series does


def builds(runs: int) -> list[Result]:
    """KVM's modules after a change of a few files, inside against outside; in processor seconds."""
    name = "sandbox: a variant built inside, against outside"
    target = f"<= {SANDBOX_AT_MOST:g}"
    if why := sandbox.why_not():
        return [Result(name, None, target, None, note=f"skipped: {why}")]
    tree = kernels.kernel().tree
    assert tree is not None  # one that was built here has one
    inside, outside = in_turns(runs, lambda: _build(tree), lambda: _without_sandbox(lambda: _build(tree)))
    ratio = inside.processor / outside.processor
    ours, theirs = (f"{each.processor:.2f} s" for each in (inside, outside))
    return [Result(name, ratio, target, ratio <= SANDBOX_AT_MOST, ours=ours, c=theirs)]


def _build(tree: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="kvmharness-bench-"))
    try:
        farm = folder / "tree"
        link_tree(tree, farm, {name: (tree / name).read_bytes() + b"\n" for name in _CHANGED})
        fresh = {"CCACHE_DISABLE": "1"}
        targets = ("M=arch/x86/kvm", "modules")
        make(farm, *targets, what="modules", progress=silent, timeout_s=_TIMEOUT_S, base=tree, env=fresh)
    finally:
        shutil.rmtree(folder)


def _without_sandbox(work: Callable[[], None]) -> None:
    with mock.patch.object(sandbox, "why_not", return_value="measured without"):
        work()
