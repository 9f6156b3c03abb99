"""What a claim comes to: its single comparisons, and the one answer that they add up to."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from kvmharness.results.verdict import ClaimResult, Outcome

_SHOWN = 8  # figures of one claim that are listed; the rest is counted


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison that a claim consists of.

    Attributes:
        outcome: of it.
        cell: the cell's label; empty when it is about none.
        line: the figures, ready to print; empty when there is nothing to say.
        variant: the one that is judged; empty when it is about none.
    """

    outcome: Outcome
    cell: str
    line: str
    variant: str = ""


def answer(
    name: str, text: str, findings: Iterable[Finding], *, figures: Iterable[str] = (), group: str = ""
) -> ClaimResult:
    """The claim, answered: the worst finding counts.

    Args:
        name, text: of the claim.
        findings: all of them.
        figures: lines to show where all is well.
        group: what the claim is about, as :class:`ClaimResult` has it.
    """
    found = list(findings)
    outcome = Outcome.overall([finding.outcome for finding in found])
    deciding = [finding for finding in found if finding.outcome is outcome]
    left_out = [finding for finding in found if finding.outcome is Outcome.SKIPPED and outcome is Outcome.PASS]
    # What was left out comes first: nobody may miss it.
    extra = figures if outcome is Outcome.PASS else ()
    every = (*(f.line for f in left_out), *extra, *(f.line for f in deciding))
    lines = list(dict.fromkeys(filter(None, every)))
    first = lines[:_SHOWN]
    if len(lines) > _SHOWN:
        first.append(f"... and {len(lines) - _SHOWN} more")
    return ClaimResult(
        name,
        text,
        outcome,
        tuple(first),
        cells=tuple(dict.fromkeys(finding.cell for finding in deciding if finding.cell)),
        variants=tuple(dict.fromkeys(finding.variant for finding in deciding if finding.variant)),
        group=group,
    )


def shown(number: Fraction) -> str:
    """A count as findings print it: exact when whole."""
    return str(number) if number.denominator == 1 else f"{float(number):.4g}"
