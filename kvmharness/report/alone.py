"""The command that shows one failure by itself: one cell on one host, under the variant that fails."""

import shlex
from collections.abc import Sequence

from kvmharness.cells.cell import Cell
from kvmharness.errors import UsageError
from kvmharness.report import words
from kvmharness.report.rows import Row
from kvmharness.results.record import Record
from kvmharness.results.tests import LITMUS, SELFTESTS, UNIT_TESTS, TestResult, program_of
from kvmharness.results.verdict import ClaimResult

# Options without which it would be another kernel or another emulator, and whether a value follows.
_RUN = {"--source": True, "--emulator": True}
_SERIES = _RUN | {"--repository": True, "--allow-unsandboxed-build": False}
_PLAIN = _SERIES | {"--kernel": True, "--modules": True, "--has": True, "--series": True, "--variant": True}
_VALIDATE = _SERIES | {"--reload-modules": False, "--claims": True, "--claims-only": False, "--unit-tests": True}
_SMALLEST = "d:1"  # a cell that takes no time, where it is about something else
_RANDOM = "random-"  # begins the names of litmus tests that no other run knows
_ASKED = {
    "litmus-tests-hold": (_SMALLEST, "--litmus"),
    "litmus-no-more-work": (_SMALLEST, "--litmus"),
    "debug-kernel-is-quiet": (_SMALLEST, "--debug-kernel"),
    "builds-cleanly": ("--thorough",),
    "selftests-hold": ("--thorough",),
    "unit-tests-hold": (),
}


def of_claim(claim: ClaimResult, records: Sequence[Record], command: Sequence[str]) -> str:
    """The command for a claim that fails.

    Args:
        claim: the claim; the first cell and variant that decided it count.
        records: of all hosts.
        command: what made them; nothing can be said where that is no validation of a series.
    """
    if list(command[:2]) != ["kvmharness", "validate"] or len(command) < 3:
        return ""
    record = _where(claim, records)
    cell = next(filter(_is_cell, claim.cells), "")
    variant = next(iter(claim.variants), "")
    if record is not None and cell and variant and record.host.get("emulated"):
        return _under_variant(record, cell, variant, command)
    asked = _ASKED.get(claim.name, (cell,) if cell else ())
    host = ["--host", words.host(record)] if record else []
    base = [record.variants[0].name] if record and variant else []
    names = ["--variants", *dict.fromkeys((*base, variant))] if variant else []
    return _line("validate", command[2], *asked, *_kept(command, _VALIDATE), *host, *names)


def of_row(record: Record, row: Row) -> str:
    """The command for a cell that fails by itself."""
    if list(record.command[:2]) == ["kvmharness", "validate"] and len(record.command) > 2:
        return _under_variant(record, row.id, row.variant, record.command)
    return _line("run", row.id, "--host", words.host(record), *_kept(record.command, _PLAIN))


def of_test(record: Record, test: TestResult) -> str:
    """The command for a test that fails, of a run of nothing but tests; empty where it has none of its own."""
    verb = {LITMUS: ("litmus",), SELFTESTS: ("suite", SELFTESTS), UNIT_TESTS: ("suite", UNIT_TESTS)}.get(test.battery)
    if verb is None or record.command[1 : len(verb) + 1] != verb or test.name.startswith(_RANDOM):
        return ""
    name = program_of(test)
    name = next((word for word in record.command if word.endswith(f"/{name}.litmus")), name)
    params = [word for each in sorted(test.params.items()) for word in ("--param", "=".join(each))]
    kept = _kept(record.command, _PLAIN | {"--tree": True})
    return _line(*verb, name, "--host", words.host(record), *params, *kept)


def _under_variant(record: Record, cell: str, variant: str, command: Sequence[str]) -> str:
    return _line(
        *("run", cell, "--host", words.host(record), "--series", command[2], "--variant", variant),
        *_kept(command, _SERIES),
    )


def _where(claim: ClaimResult, records: Sequence[Record]) -> Record | None:
    """The record of the first host that the claim's figures name; where there is one host, they name none."""
    first = (claim.figures or ("",))[0].partition(": ")[0].split(", ")
    return next((record for record in records if words.host(record) in first), next(iter(records), None))


def _is_cell(name: str) -> bool:
    try:
        Cell.parse(name)
    except UsageError:
        return False
    return True


def _kept(command: Sequence[str], options: dict[str, bool]) -> list[str]:
    found: list[str] = []
    rest = iter(command)
    for word in rest:
        name, has_value, _ = word.partition("=")
        if name in options:
            found += [word, next(rest, "")] if options[name] and not has_value else [word]
    return found


def _line(*words_: str) -> str:
    """A command to paste; mails that came by standard input have to come that way again."""
    return shlex.join(("kvmharness", *words_)) + (" < MAILS" if "-" in words_ else "")
