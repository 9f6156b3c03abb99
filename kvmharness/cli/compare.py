"""compare: two records, or two variants of one, side by side: what is noise and what is not."""

import argparse
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvmharness.cli.options import Verbs, percent, verb
from kvmharness.cli.output import Output
from kvmharness.errors import UsageError

if TYPE_CHECKING:
    from kvmharness.results.compare import RecordComparison


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "compare",
        read,
        act,
        "compare two records, or two variants of one record",
        "A is the reference. Ends with 1 when B is slower beyond the noise, did other work or saw a stale "
        "translation, with 3 when that could not be told.",
        examples=(
            "kvmharness compare before.json after.json",
            "kvmharness compare record.json --variants none p1",
        ),
    )
    made.add_argument("a", metavar="A.json", help="a record that `run --json` or `validate --json` wrote")
    made.add_argument("b", metavar="B.json", nargs="?", help="another one; without it, name --variants of A")
    made.add_argument("--variants", nargs=2, metavar=("A", "B"), help="compare these variants of the one record")
    made.add_argument(
        "--tolerance", type=percent, metavar="PERCENT", help="the largest change of time that counts as none"
    )
    made.add_argument("--bisect", action="store_true", help="exit codes for git bisect run: 0, 1, or 125")
    made.add_argument("--json", action="store_true", help="print one JSON document instead")


@dataclass(frozen=True, slots=True)
class Request:
    """Two runs to compare.

    Attributes:
        a, b: names of records; without b it is a by itself.
        variants: the two of a to compare, where there is no b.
        tolerance: the largest relative change of time that counts as none; None for the usual one.
        as_json: prints JSON.
    """

    a: str
    b: str | None
    variants: tuple[str, str] | None
    tolerance: float | None
    as_json: bool


def read(options: argparse.Namespace) -> Request:
    """What is asked for.

    Raises:
        UsageError: one record and no variants of it, or two records and variants.
    """
    if (options.b is None) == (options.variants is None):
        raise UsageError("compare takes two records, or one record and --variants A B")
    variants = None if options.variants is None else tuple(options.variants)
    return Request(options.a, options.b, variants, options.tolerance, options.json)


def act(request: Request, output: Output) -> int:
    """Prints the comparison, of each host where there are several."""
    from kvmharness.report.comparison import comparison_json, comparison_lines
    from kvmharness.results.store import uncollected
    from kvmharness.results.verdict import Outcome

    with uncollected():
        found = run(request)
    only = len(found) == 1
    if request.as_json:
        documents = {host: comparison_json(each) for host, each in found.items()}
        output.document(json.dumps(next(iter(documents.values())) if only else documents, indent=1))
    else:
        parts = [[*([] if only else [f"{host}:"]), *comparison_lines(each)] for host, each in found.items()]
        output.result("\n\n".join(map("\n".join, parts)))
    return Outcome.overall([each.outcome for each in found.values()]).exit_code


def run(request: Request) -> "dict[str, RecordComparison]":
    """Compares, host by host.

    Raises:
        UsageError: a record cannot be read, has no such variant, or is of other hosts than the other one.
    """
    from kvmharness.results.compare import compare, compare_variants
    from kvmharness.results.document import by_host, load_all, pairs
    from kvmharness.results.noise import TOLERANCE

    tolerance = TOLERANCE if request.tolerance is None else request.tolerance
    a = load_all(request.a)
    if request.variants is not None:
        names = request.variants
        return {host: compare_variants(record, *names, tolerance=tolerance) for host, record in by_host(a).items()}
    assert request.b is not None
    found = pairs(a, load_all(request.b))
    return {host: compare(one, other, tolerance=tolerance) for host, (one, other) in found.items()}
