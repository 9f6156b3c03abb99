"""Measures the harness: its run loop side by side with C on this machine, and what sandboxes and emulated hosts cost.

Needs /dev/kvm and a C compiler for the first, the emulators for the second, and leaves out what is not there. Ends with
0 when every target is met, with 1 otherwise, and with 4 when nothing could be measured.
"""

import argparse
import json
import sys
from dataclasses import asdict

from bench_builds import builds
from bench_emulated import emulated
from bench_figures import Result, table
from bench_fleet import fleet
from bench_local import fixtures, local

from kvmharness.errors import ExitCode, HostRequirementError, KvmHarnessError


def main() -> int:
    """Measures what the options ask for, prints it, and says by the exit code whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, help="pairs of measurements beside C (default 300)")
    parser.add_argument("--seconds", type=float, default=0.005, help="how long each lasts, about (default 0.005)")
    parser.add_argument(
        "--boots", type=int, default=5, help="times that each thing is done in emulated hosts; 0 leaves them out"
    )
    parser.add_argument(
        "--quick", action="store_true", help="each thing once in emulated hosts, no validation, a tenth of the rounds"
    )
    parser.add_argument("--json", action="store_true", help="the results as JSON")
    options = parser.parse_args()
    rounds, boots = (
        (max(options.rounds // 10, 10), min(options.boots, 1)) if options.quick else (options.rounds, options.boots)
    )
    results: list[Result] = []
    try:
        results += local(rounds, options.seconds)
        results += fixtures()
    except HostRequirementError as e:
        results.append(Result("run loop and VM lifecycle", None, "", None, note=f"skipped: {e}; {e.hint}"))
    if boots:
        results += builds(boots)
        results += fleet(boots)
        results += emulated(boots, quick=options.quick)
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    else:
        print(table(results))
    measured = [result for result in results if result.met is not None]
    if not measured:
        return ExitCode.SKIPPED
    return ExitCode.PASS if all(result.met for result in measured) else ExitCode.FAIL


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KvmHarnessError as e:
        sys.exit(f"bench: {e}\n{e.hint}")
