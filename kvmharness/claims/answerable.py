"""Refuses, before anything is built, claims that no run of the hosts at hand could answer."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from kvmharness.cells.cell import Cell
from kvmharness.cells.labels import label
from kvmharness.claims.metrics import EXITS, statistic
from kvmharness.claims.table import ClaimError
from kvmharness.claims.vocabulary import Claim
from kvmharness.claims.waivers import Waiver


@dataclass(frozen=True, slots=True)
class Offer:
    """What a run can give.

    Attributes:
        cells: that can run on any of its hosts, whether or not they were chosen this time.
        reasons: names of the exits that are counted one by one on any of the hosts.
        statistics: names of KVM's statistics in the kernel's source; None where that is not at hand.
    """

    cells: Collection[Cell]
    reasons: Collection[str]
    statistics: Collection[str] | None = None

    @property
    def labels(self) -> set[str]:
        """What the cells may be called: whether L0 uses EPT or NPT shows on the host only."""
        return {label(cell, {"l0_ept": tdp}) for cell in self.cells for tdp in (True, False)}


def check_answerable(claims: Iterable[Claim], waivers: Iterable[Waiver], offer: Offer, origin: str) -> None:
    """Refuses claims and waivers about figures or cells that there are not.

    Args:
        claims, waivers: of a series.
        offer: what there is.
        origin: the file, for messages.

    Raises:
        ClaimError: naming the claim, and what there is instead.
    """
    labels = offer.labels
    for claim in claims:
        check_metric(claim.metric, offer, f"{origin}: claim {claim.name!r}")
        if not any(claim.covers(each) for each in labels):
            raise _no_cell(f"{origin}: claim {claim.name!r}", claim.cells)
    for waiver in waivers:
        if not any(waiver.covers_cell(each) for each in labels):
            raise _no_cell(f"{origin}: the waiver of {waiver.row}", waiver.cells)


def _no_cell(what: str, cells: tuple[str, ...]) -> ClaimError:
    return ClaimError(
        f"{what} is about cells that no host of this run has: {', '.join(cells)}",
        "`kvmharness run --list` shows the cells.",
    )


def check_metric(metric: str, offer: Offer, what: str) -> None:
    """Refuses a metric that is well formed, and that no run could give.

    Args:
        metric: in the vocabulary.
        offer: what there is.
        what: is about it, for the message.

    Raises:
        ClaimError: naming it, and what there is instead.
    """
    if metric.startswith(EXITS) and metric != f"{EXITS}*":
        reason, known = metric.removeprefix(EXITS), {*offer.reasons, "other"}
        if reason not in known:
            raise ClaimError(
                f"{what} is about exits for {reason}, which no host of this run counts",
                f"Counted are: {', '.join(sorted(known))}.",
            )
    name = statistic(metric)
    if name and offer.statistics is not None and name not in offer.statistics:
        raise ClaimError(
            f"{what} is about KVM's statistic {name}, which this kernel does not have",
            f"It has: {', '.join(sorted(offer.statistics))}.",
        )
