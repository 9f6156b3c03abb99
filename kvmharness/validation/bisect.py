"""What ``git bisect run`` asks of one commit of KVM: is a figure of one cell still within its bound?

Only the KVM folders of the tree under bisection are built, as modules for a kernel that is already there: some seconds
a step, not minutes. A commit whose KVM does not build for that kernel, or gives no figure, is skipped (125).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from fractions import Fraction
from pathlib import Path

from kvmharness.cells.cell import Cell
from kvmharness.claims.answerable import Offer, check_metric
from kvmharness.claims.metrics import SURVIVING, Missing, is_metric, metric_names, value
from kvmharness.claims.table import fraction
from kvmharness.errors import KvmHarnessError, UsageError
from kvmharness.lab.job import Machine
from kvmharness.lab.kernels import build, builtin, parameters, statistics
from kvmharness.lab.kernels.trees import KVM_FOLDERS
from kvmharness.patches.gitrange import checked_out
from kvmharness.results.noise import typical
from kvmharness.results.record import CellResult, Record, VariantId
from kvmharness.system.programs import Progress, silent
from kvmharness.validation.campaign import EMULATED_PLAN, Variant, run_in
from kvmharness.validation.trust import check_build

_SOURCE_SUFFIXES = (".c", ".h", ".S", "Makefile", "Kbuild", "Kconfig", ".kvm")
_MADE = (".mod.c", "kvm-asm-offsets.h")  # by the build itself


class BisectCode(IntEnum):
    """The exit codes that ``git bisect run`` knows."""

    GOOD = 0
    BAD = 1
    SKIP = 125


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of each commit.

    Attributes:
        cell: where.
        metric: a metric of claims: counts per round trip, time in ticks per round trip.
        bound: a commit is good whose figure is no larger.
    """

    cell: Cell
    metric: str
    bound: Fraction

    @classmethod
    def of(cls, cell: Cell, metric: str, bound: str) -> "Question":
        """From what the user typed.

        Raises:
            UsageError: no such metric, or the bound is no number.
        """
        if not is_metric(metric) or metric == "exits.*":
            raise UsageError(f"unknown metric {metric!r}", f"Known metrics: {', '.join(metric_names())}.")
        number = fraction(bound)
        if number is None:
            raise UsageError(f"the bound {bound!r} is not a number from 0 up", "Write 0, 0.5 or 1/2, for example.")
        return cls(cell, metric, number)


@dataclass(frozen=True, slots=True)
class Answer:
    """About one commit.

    Attributes:
        code: for git.
        text: why, in one line.
        record: what was measured; None where it did not come to that.
    """

    code: BisectCode
    text: str
    record: Record | None = None

    @property
    def measured(self) -> str:
        """What was measured, and on what, in one line; empty where nothing was."""
        if self.record is None or not self.record.results:
            return ""
        result, host = self.record.results[0], self.record.host
        where = host.get("emulator") or host.get("cpu") or "this machine"
        return (
            f"{result.id}: {result.round_trips} round trips counted, {len(result.samples)} samples of "
            f"{result.batch_round_trips} timed in {self.record.unit}; KVM of {self.record.variants[0].source}, "
            f"under Linux {host.get('kernel_release')} on {where}"
        )


def check(question: Question, tree: Path, reasons: Collection[str]) -> None:
    """Refuses a question that no run could answer, before anything is built.

    Args:
        question: cell, metric and bound.
        tree: the kernel tree under bisection.
        reasons: of the exits that are counted on the host.

    Raises:
        UsageError: the tree holds no KVM, or one without the metric's statistic or the cell's parameters; or the exits
            are not counted. A figure that nobody took is 0, and would be good for ever.
    """
    if not (tree / KVM_FOLDERS[0]).is_dir():
        raise UsageError(
            f"{tree} is no kernel tree: it has no {KVM_FOLDERS[0].rstrip('/')}", "Run it at the top of the tree."
        )
    # Where only KVM's own folders are under bisection, the statistics of all architectures are not there to be read.
    kept = statistics.of_tree(tree) if (tree / statistics.FOLDER).is_dir() else None
    check_metric(question.metric, Offer((), reasons, kept or None), "the question")
    parameters.check((name for name, _ in question.cell.params), parameters.of_tree(tree))


def ask(
    question: Question,
    tree: Path,
    kernel: build.Kernel,
    machine: Machine,
    *,
    unsandboxed: bool = False,
    command: tuple[str, ...] = (),
    progress: Progress = silent,
) -> Answer:
    """Builds the KVM folders of a tree, runs the cell, and answers.

    Args:
        question: cell, metric and bound.
        tree: holds arch/x86/kvm, and virt/kvm if that is under bisection too, see :func:`check`; only read.
        kernel: whose modules KVM is built as.
        machine: boots that kernel.
        unsandboxed: the tree's own commands may run outside of a sandbox.
        command: that was typed.
        progress: takes a line about once a second.

    Raises:
        UsageError: the kernel was given without its build; or as :func:`kvmharness.validation.trust.check_build`.
    """
    if kernel.tree is None:
        raise UsageError("modules can only be built for a kernel that was built here", "Leave --kernel away.")
    overlay = kvm_overlay(tree, kernel.tree)
    check_build("this commit", overlay, allowed=unsandboxed)
    try:
        modules = build.variant(kernel.tree, overlay, name="this commit", progress=progress)
        source = " at ".join(filter(None, (str(tree.resolve()), checked_out(tree))))
        variant = Variant(VariantId("commit", source, build_id=build.modules_id(modules)), modules)
        record = run_in(
            machine,
            (variant,),
            ("commit",),
            (question.cell,),
            EMULATED_PLAN,
            command=command,
            on_result=lambda result, done, total: None,
        )
    except build.ChangesVmlinuxError as e:
        return Answer(BisectCode.SKIP, f"no verdict: its KVM is made for another kernel than the one at hand: {e.why}")
    except KvmHarnessError as e:
        return Answer(BisectCode.SKIP, f"no verdict: {e}")
    if not record.results:
        return Answer(BisectCode.SKIP, "no verdict: no result")
    return replace(judge(question, record.results[0]), record=record)


def judge(question: Question, result: CellResult) -> Answer:
    """A result against the bound."""
    where = f"{result.id}: {question.metric}"
    if result.skipped:
        return Answer(BisectCode.SKIP, f"{where}: skipped: {result.skipped}")
    seen: Fraction | Missing
    if question.metric == "time":
        ticks = result.ticks_per_round_trip
        seen = Fraction(typical(ticks, exact=True)) if ticks else Missing("no samples")
    else:
        found = value(question.metric, result)
        seen = found if isinstance(found, Missing) else Fraction(found, _divisor(question.metric, result))
    if isinstance(seen, Missing):
        return Answer(BisectCode.SKIP, f"{where}: {seen.why}")
    good = seen <= question.bound
    text = f"{where} {float(seen):.6g}, {'within' if good else 'above'} {float(question.bound):.6g}"
    return Answer(BisectCode.GOOD if good else BisectCode.BAD, text)


def kvm_overlay(tree: Path, base: Path) -> Mapping[str, bytes | None]:
    """In which KVM sources, and headers that these include, a tree differs: files to put over the base."""
    overlay: dict[str, bytes | None] = {}
    for folder in (name for name in KVM_FOLDERS if (tree / name).is_dir()):
        ours, theirs = _sources(tree, folder), _sources(base, folder)
        overlay |= dict.fromkeys(theirs - ours)
        overlay |= _differing(tree, base, ours)
    if (tree / "include").is_dir():  # else only KVM's folders are under bisection
        headers = builtin.module_inputs(base)
        overlay |= dict.fromkeys(path for path in headers if not (tree / path).is_file())
        overlay |= _differing(tree, base, (path for path in headers if (tree / path).is_file()))
    return overlay


def _differing(tree: Path, base: Path, paths: Iterable[str]) -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {}
    for path in sorted(paths):
        content = (tree / path).read_bytes()
        if not (base / path).is_file() or (base / path).read_bytes() != content:
            found[path] = content
    return found


def _sources(tree: Path, folder: str) -> set[str]:
    return {
        str(path.relative_to(tree))
        for path in (tree / folder).rglob("*")
        if path.name.endswith(_SOURCE_SUFFIXES) and not path.name.endswith(_MADE) and path.is_file()
    }


def _divisor(metric: str, result: CellResult) -> int:
    return 1 if metric in SURVIVING else max(result.round_trips, 1)
