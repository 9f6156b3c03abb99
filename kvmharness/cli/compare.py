"""compare: two records, or two variants of one, side by side: what is noise and what is not."""

import argparse
import json

from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output
from kvmharness.errors import UsageError


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "compare",
        run,
        "compare two records, or two variants of one record",
        "A is the reference. Ends with 1 when B is slower beyond the noise, did other work or saw a stale "
        "translation, with 3 when that could not be told.",
    )
    made.add_argument("a", metavar="A.json", help="a record that `run --json` or `validate --json` wrote")
    made.add_argument("b", metavar="B.json", nargs="?", help="another one; without it, name --variants of A")
    made.add_argument("--variants", nargs=2, metavar=("A", "B"), help="compare these variants of the one record")
    made.add_argument(
        "--tolerance", type=_percent, metavar="PERCENT", help="the largest change of time that counts as none"
    )
    made.add_argument("--bisect", action="store_true", help="exit codes for git bisect run: 0, 1, or 125")
    made.add_argument("--json", action="store_true", help="print one JSON document instead")


def _percent(text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 100")
    return value / 100


def run(options: argparse.Namespace, output: Output) -> int:
    """Prints the comparison."""
    from kvmharness.report.comparison import comparison_json, comparison_lines
    from kvmharness.results import noise as stats
    from kvmharness.results.compare import compare, compare_variants
    from kvmharness.results.record import load

    if (options.b is None) == (options.variants is None):
        raise UsageError("compare takes two records, or one record and --variants A B")
    tolerance = stats.TOLERANCE if options.tolerance is None else options.tolerance
    a = load(options.a)
    if options.b is not None:
        found = compare(a, load(options.b), tolerance=tolerance)
    else:
        found = compare_variants(a, *options.variants, tolerance=tolerance)
    if options.json:
        output.result(json.dumps(comparison_json(found), indent=1))
    else:
        output.result("\n".join(comparison_lines(found)))
    return found.outcome.exit_code
