"""What tests count in the kernel: VM exits by reason, and root switches of KVM's MMU, on the test's own thread."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from kvmharness.errors import HostRequirementError, UsageError
from kvmharness.measure.perf import ROOT_SWITCHES, Counters, Spec, exit_specs, exits_by_reason, open_counters

if TYPE_CHECKING:
    from enum import IntEnum
    from types import TracebackType

_counting: set[int] = set()


def is_counting() -> bool:
    """Whether anything is being counted now: no time may be taken then."""
    return bool(_counting)


class _Counting:
    """Counts between entering and leaving the ``with`` block; what the host cannot count is an error, never a zero."""

    def __init__(self, specs: Sequence[Spec]) -> None:
        self._specs = specs
        self._counters: Counters | None = None
        self._counts: dict[str, int] | None = None

    def __enter__(self) -> Self:
        self._counters = open_counters(self._specs)
        if self._counters.missing:
            missing = "; ".join(f"{name}: {why}" for name, why in self._counters.missing.items())
            self._counters.close()
            raise HostRequirementError(f"cannot be counted on this host: {missing}")
        _counting.add(id(self))
        self._counters.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        counters, self._counters = self._counters, None
        _counting.discard(id(self))
        if counters is not None:
            with counters:
                self._counts = counters.stop()

    def _result(self) -> dict[str, int]:
        if self._counts is None:
            raise UsageError("the counts are read after the `with` block that counts them")
        return self._counts


class ExitCounts(_Counting):
    """VM exits by reason.

    Args:
        reasons: as in :class:`kvmharness.x86.vmx_exits.VmxExit`, or :class:`kvmharness.x86.svm.SvmExit`.
        svm: the host's processor has SVM.

    Raises:
        UsageError: there is no such reason.
    """

    def __init__(self, reasons: Sequence[str], *, svm: bool) -> None:
        names = _exit_reasons(svm)
        unknown = [name for name in reasons if name not in names.__members__]
        if unknown:
            raise UsageError(
                f"no exit reason is called {', '.join(unknown)}", f"There are: {', '.join(names.__members__)}."
            )
        self._reasons = {name: int(names[name]) for name in reasons}
        super().__init__(exit_specs(self._reasons))

    def __getitem__(self, reason: str) -> int:
        """How many exits had this reason."""
        found = exits_by_reason(self._result(), self._reasons)
        if reason not in found:
            raise KeyError(f"{reason} was not counted; name it: exit_counts({reason!r})")
        return found[reason]

    @property
    def total(self) -> int:
        """All exits, interrupts of the host among them."""
        return self._result()["kvm_exit"]

    def __repr__(self) -> str:
        return (
            f"<exits: {exits_by_reason(self._counts, self._reasons) if self._counts is not None else 'not read yet'}>"
        )


class RootLoads(_Counting):
    """Root switches of KVM's MMU, and how many of them missed its cache: see :mod:`kvmharness.rootcache`."""

    def __init__(self) -> None:
        super().__init__(ROOT_SWITCHES)

    @property
    def loads(self) -> int:
        """Calls of ``kvm_mmu_load()``: the misses."""
        return self._result()["kvm_mmu_load"]

    @property
    def switches(self) -> int:
        """Calls of ``kvm_mmu_new_pgd()``."""
        return self._result()["kvm_mmu_new_pgd"]

    def __repr__(self) -> str:
        return f"<root loads: {self._counts if self._counts is not None else 'not read yet'}>"


def _exit_reasons(svm: bool) -> "type[IntEnum]":
    if svm:
        from kvmharness.x86.svm import SvmExit

        return SvmExit
    from kvmharness.x86.vmx_exits import VmxExit

    return VmxExit
