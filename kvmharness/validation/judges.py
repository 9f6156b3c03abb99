"""From what ran to the verdict: the safety net and the series' claims, over the records of one host or of several."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kvmharness.claims import Claim, evaluate
from kvmharness.claims.effects import Effect, effect_lines
from kvmharness.claims.evaluate import Results
from kvmharness.claims.net import Net
from kvmharness.claims.untested import untested
from kvmharness.claims.waivers import Waived, Waiver
from kvmharness.results.incidents import LOAD, UNLOAD
from kvmharness.results.record import Record
from kvmharness.results.verdict import KERNEL_WELL, ClaimResult, Outcome, Verdict

PRESENT = "results-present"


@dataclass(frozen=True, slots=True)
class Subject:
    """The series that is judged.

    Attributes:
        series: its name.
        patches: titles of its patches, in order.
        prefixes: the variants that are judged, each with how many of the patches it has; 0 is the kernel without.
        claims, waivers: what it brings.
        left_out: variants that did not run, and why.
    """

    series: str
    patches: tuple[str, ...]
    prefixes: Mapping[str, int]
    claims: tuple[Claim, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def judged(self, record: Record) -> dict[str, int]:
        """The prefixes that ran; where only patches alone were asked for, these."""
        ran = [variant.name for variant in record.variants]
        prefixes = {name: count for name, count in self.prefixes.items() if name in ran}
        return prefixes if any(prefixes.values()) else {name: int(name not in prefixes) for name in ran}


def judge(
    subject: Subject,
    records: Mapping[str, Record],
    others: Iterable[ClaimResult] = (),
    *,
    command: Sequence[str] = (),
) -> Verdict:
    """The verdict.

    Args:
        subject: the series.
        records: of each host, by the host's name; empty when nothing came back.
        others: claims that were answered on the way: whether variants build.
        command: what reproduces it.
    """
    waived = Waived(subject.waivers)
    effects: list[Effect] = []
    by_host: dict[str, list[ClaimResult]] = {}
    judged: dict[str, int] = {}
    for host, record in records.items():
        judged |= subject.judged(record)
        net = Net(Results(record, judged), min(judged, key=lambda name: judged[name]), waived)
        by_host[host] = [*net.answers(), *evaluate(subject.claims, record, judged), _loading(record)]
        effects += [replace(each, host=host) if len(records) > 1 else each for each in net.effects]
    answers = (*merged(by_host), *others)
    verdict = Verdict.of(
        subject.series,
        answers,
        tuple(dict.fromkeys(variant.name for record in records.values() for variant in record.variants)),
        tuple(command),
        titles={f"p{number}": title for number, title in enumerate(subject.patches, 1)},
        broken=_broken(subject, answers, judged or subject.prefixes),
        effects=effect_lines(effects, judged),
        waived=waived.lines(),
        untested=untested(tuple(records.values()), subject.left_out) if records else (),
    )
    return _not_vacuous(verdict)


def _loading(record: Record) -> ClaimResult:
    """Whether a variant did not load or unload, or took the kernel down by it."""
    lost = [loss for loss in record.losses if loss.step in (LOAD, UNLOAD)]
    times = len({(result.variant, result.turn, tuple(result.params.items())) for result in record.results})
    return ClaimResult(
        "modules-load-and-unload",
        "Every variant's modules load, unload, and leave the kernel running.",
        Outcome.FAIL if lost else Outcome.PASS,
        tuple(f"variant {loss.variant}, {loss.step}: {loss.message}" for loss in lost)
        or (f"{times} times loaded and unloaded",),
        variants=tuple(dict.fromkeys(loss.variant for loss in lost)),
        group=KERNEL_WELL,
    )


def merged(by_host: Mapping[str, list[ClaimResult]]) -> list[ClaimResult]:
    """The answers of several hosts as one each: the worst counts, and every figure says where it was found."""
    if len(by_host) == 1:
        return list(next(iter(by_host.values())))
    by_name: dict[str, list[tuple[str, ClaimResult]]] = {}
    for host, own in by_host.items():
        for answer in own:
            by_name.setdefault(answer.name, []).append((host, answer))
    answers: list[ClaimResult] = []
    for name, found in by_name.items():
        outcome = Outcome.overall([answer.outcome for _, answer in found])
        telling = [(host, answer) for host, answer in found if answer.outcome is outcome]
        answers.append(
            ClaimResult(
                name,
                found[0][1].text,
                outcome,
                _figures(telling, outcome),
                cells=tuple(dict.fromkeys(cell for _, answer in telling for cell in answer.cells)),
                variants=tuple(dict.fromkeys(variant for _, answer in telling for variant in answer.variants)),
                group=found[0][1].group,
            )
        )
    return answers


def _figures(telling: Iterable[tuple[str, ClaimResult]], outcome: Outcome) -> tuple[str, ...]:
    """Each figure with its hosts; of what holds the first one alone is shown, so all the hosts' are in it."""
    hosts: dict[tuple[bool, str], list[str]] = {}
    for host, answer in telling:
        for number, line in enumerate(answer.figures):
            hosts.setdefault((number == 0 and outcome is Outcome.PASS, line), []).append(host)
    lines = [(first, f"{', '.join(names)}: {line}") for (first, line), names in hosts.items()]
    together = "; ".join(line for first, line in lines if first)
    return (*filter(None, [together]), *(line for first, line in lines if not first))


def _broken(subject: Subject, answers: Iterable[ClaimResult], judged: Mapping[str, int]) -> str:
    """Which patch is the first that breaks something, and which one repairs it."""
    failing: dict[str, list[str]] = {}
    for answer in answers:
        for variant in answer.variants if answer.outcome is Outcome.FAIL else ():
            failing.setdefault(variant, []).append(answer.name)
    there = {name: count for name, count in subject.prefixes.items() if count and (name in judged or name in failing)}
    order = sorted(there, key=lambda name: there[name])
    first = next((name for name in order if name in failing), None)
    if first is None:
        return ""
    rows, number = failing[first], subject.prefixes[first]
    text = f"{_patch(subject, number)} breaks {', '.join(dict.fromkeys(rows))}"
    behind = order[order.index(first) + 1 :]
    bad = [name for name in behind if set(rows) & set(failing.get(name, ()))]
    repaired = behind[behind.index(bad[-1]) + 1 :] if bad else behind
    return f"{text}; patch {subject.prefixes[repaired[0]]} repairs it" if repaired else text


def _patch(subject: Subject, number: int) -> str:
    return f"patch {number} of {len(subject.patches)}, {subject.patches[number - 1]},"


def _not_vacuous(verdict: Verdict) -> Verdict:
    """A series of which nothing could be compared has not passed, whatever else holds."""
    present = [claim.outcome for claim in verdict.claims if claim.name == PRESENT]
    if verdict.outcome is Outcome.PASS and Outcome.PASS not in present:
        return replace(verdict, outcome=Outcome.SKIPPED)
    return verdict
