#!/usr/bin/env python3
"""Runs the static checks all at once and says of each PASSED, FAILED or SKIPPED with why.

Ends with 0 when none failed, with 1 otherwise.
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Check:
    """One tool: run as ``python -m module arguments``."""

    name: str
    module: str
    arguments: tuple[str, ...]


_SCRIPTS = tuple(str(path.relative_to(ROOT)) for path in sorted((ROOT / "scripts").glob("*.py")))

CHECKS = (
    Check("ruff check", "ruff", ("check", "--quiet", ".")),
    Check("ruff format", "ruff", ("format", "--check", "--quiet", ".")),
    Check("mypy", "mypy", ("--no-error-summary", "kvmharness", *_SCRIPTS)),
    Check("codespell", "codespell_lib", (".",)),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a check ended, what it said, and how long it took."""

    name: str
    result: str
    output: str
    seconds: float


def run(check: Check) -> Outcome:
    """Runs one check to its end."""
    started = time.monotonic()
    if find_spec(check.module) is None:
        why = f"SKIPPED ({check.module} is not installed; pip install -e '.[dev]')"
        return Outcome(check.name, why, "", 0.0)
    command = [sys.executable, "-m", check.module, *check.arguments]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    result = "PASSED" if done.returncode == 0 else "FAILED"
    return Outcome(check.name, result, done.stdout + done.stderr, time.monotonic() - started)


def main() -> int:
    """Runs all checks and prints their outcomes."""
    with ThreadPoolExecutor() as pool:
        outcomes = list(pool.map(run, CHECKS))
    for outcome in outcomes:
        if outcome.result == "FAILED":
            print(f"--- {outcome.name}\n{outcome.output.rstrip()}")
    for outcome in outcomes:
        print(f"{outcome.name:<12} {outcome.result}  {outcome.seconds:.1f} s")
    return int(any(outcome.result == "FAILED" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
