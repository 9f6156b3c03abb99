"""The oracles by name, and what is asked of one: its features of a kernel, and from these the exact counts.

A series names its oracle in ``series.toml``. Which features a kernel has is found out from its source, never from a
version or the name of a patch; a source that is none of the forms which the oracle knows is *not described*: there is
no prediction then, and the reason is kept where the prediction would be.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol

from kvmharness.errors import UsageError
from kvmharness.oracle.rootcache.oracle import RootCacheOracle
from kvmharness.oracle.scenario import Scenario
from kvmharness.results.record import FROM_SOURCE, OracleView, Prediction

if TYPE_CHECKING:
    from kvmharness.oracle.csource import ReadSource

NO_ORACLE = "none"
"""What a series says that is to be held against no model."""


class Oracle(Protocol):
    """A model of some part of KVM.

    Attributes:
        name: as a series writes it.
        words: features that a kernel has or has not, as a user can say them.
        usual: of which kernels all of them are true.
    """

    @property
    def name(self) -> str: ...

    @property
    def words(self) -> tuple[str, ...]: ...

    @property
    def usual(self) -> str: ...

    def found(self, read: "ReadSource", before: "ReadSource") -> Mapping[str, int]:
        """The features of a kernel's source, in the oracle's own words; 1 is yes and 0 is no.

        Args:
            read: the source.
            before: the same kernel without the series: what differs there is of the series.

        Raises:
            NotDescribedError: it is none of the forms that the model describes; says which place is not.
        """
        ...

    def told(self, words: Collection[str]) -> Mapping[str, int]:
        """The features of a kernel that has just these."""
        ...

    def predict(self, features: Mapping[str, int], scenario: Scenario, warmup: int, round_trips: int) -> Prediction:
        """The exact counts of so many round trips of a fresh VM, after so many others."""
        ...


_ORACLES: tuple[Oracle, ...] = (RootCacheOracle(),)
NAMES = (*(oracle.name for oracle in _ORACLES), NO_ORACLE)
DEFAULT = NAMES[0]

READ = ("arch/x86/kvm/", "arch/x86/include/asm/")
"""The folders of a kernel's source that oracles look into."""


def named(name: str) -> Oracle:
    """The oracle of that name.

    Raises:
        UsageError: there is none.
    """
    for oracle in _ORACLES:
        if oracle.name == name:
            return oracle
    raise UsageError(f"there is no oracle {name!r}", f"Known: {', '.join(NAMES)}.")


def found(name: str, read: "ReadSource", before: "ReadSource | None" = None) -> OracleView | None:
    """How an oracle sees the kernel of a source; None for no oracle. See :meth:`Oracle.found`.

    Raises:
        UsageError: there is no such oracle.
    """
    from kvmharness.oracle.csource import NotDescribedError  # not for an emulated host

    if name == NO_ORACLE:
        return None
    try:
        return OracleView(name, named(name).found(read, before or read), FROM_SOURCE)
    except NotDescribedError as e:
        return OracleView(name, None, str(e))


def told(name: str, words: Collection[str] | None) -> OracleView:
    """How an oracle sees a kernel without its source: as somebody says, or with None as kernels usually are.

    Raises:
        UsageError: there is no such oracle.
    """
    oracle = named(name)
    if words is None:
        return OracleView(name, oracle.told(oracle.words), f"taken {oracle.usual}: its source is not at hand")
    return OracleView(name, oracle.told(words), "as it was said")


def predict(view: OracleView | None, scenario: Scenario, warmup: int, round_trips: int) -> Prediction | None:
    """The exact counts over so many round trips of a fresh VM, after so many others.

    Args:
        view: the kernel.
        scenario: what its vCPU does: see :func:`kvmharness.cells.rotation.scenario`.
        warmup: round trips before those that are counted.
        round_trips: these.

    Returns:
        None where no oracle describes the kernel.
    """
    if view is None or view.features is None:
        return None
    return named(view.oracle).predict(view.features, scenario, warmup, round_trips)
