"""What a verb writes beside what it prints: the record, HTML, KTAP, JUnit, the table for a commit message."""

import argparse
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvmharness.cli.output import Output
from kvmharness.errors import HostRequirementError, UsageError
from kvmharness.results.document import written
from kvmharness.results.record import Record
from kvmharness.results.store import save
from kvmharness.results.verdict import Verdict
from kvmharness.system.files import WriteError, check_writable, write_whole
from kvmharness.system.shown import shown

_STANDARD_OUTPUT = "-"

_KINDS = {
    "html": "one self-contained page with plots",
    "ktap": "KTAP, the kernel's own test format",
    "junit": "JUnit XML, for CI",
    "commit": "a table of at most 72 columns for a commit message",
}


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """One option for each file that can be written."""
    group = parser.add_argument_group("files to write")
    group.add_argument("--json", metavar="FILE", help="the record; - prints it instead of the tables")
    for kind, what in _KINDS.items():
        group.add_argument(f"--{kind}", metavar="FILE", help=what)


@dataclass(frozen=True, slots=True)
class Reports:
    """The files to write.

    Attributes:
        json: of the record, None for none.
        others: by kind.
        printed: the record is printed instead of the tables.
    """

    json: str | None
    others: Mapping[str, str]
    printed: bool

    @classmethod
    def of(cls, options: argparse.Namespace, inputs: Iterable[str | Path | None] = ()) -> "Reports":
        """What :func:`add_report_options` read; what could not be written is refused before an hour is spent.

        Args:
            options: of the command line.
            inputs: files that the verb reads, which no report may replace.

        Raises:
            UsageError: a name cannot be written, or is said twice, or that of an input; or what a report is made with
                is not installed.
        """
        printed = options.json == _STANDARD_OUTPUT
        found = cls(
            None if printed else options.json,
            {kind: name for kind in _KINDS if (name := getattr(options, kind)) is not None},
            printed,
        )
        found._check(inputs)
        return found

    def _check(self, inputs: Iterable[str | Path | None]) -> None:
        taken = {os.path.realpath(name): "what this command reads" for name in inputs if name is not None}
        for kind, name in {"json": self.json, **self.others}.items():
            if name is None:
                continue
            if name == _STANDARD_OUTPUT:
                raise UsageError(f"--{kind} -: only --json is printed", f"Name a file, or /dev/stdout: --{kind} FILE.")
            try:
                check_writable(name)
            except WriteError as error:
                raise UsageError(f"--{kind}: {error}", error.hint) from None
            path = os.path.realpath(name)
            if path in taken and (os.path.isfile(path) or not os.path.exists(path)):  # a device takes them all
                raise UsageError(f"--{kind} {name} would replace {taken[path]}", "Name another file.")
            taken[path] = f"what --{kind} writes there"
        if "html" in self.others:
            from kvmharness.report.html import check_installed

            try:
                check_installed()
            except HostRequirementError as error:
                raise UsageError(f"--html: {error}", error.hint) from None

    def write(self, output: Output, records: Sequence[Record], verdict: Verdict | None = None) -> None:
        """Writes every file that was asked for; without records there is only the verdict to write about.

        Raises:
            WriteError: the disk is full, say.
            HostRequirementError: what a report is made with is not installed.
        """
        if self.json is not None:
            if len(records) == 1:
                save(records[0], self.json)
            else:
                write_whole(self.json, f"{written(records, verdict)}\n".encode())
            output.say(f"json: {self.json}")
        for kind, name in self.others.items():
            write_whole(name, _text(kind, tuple(records), verdict).encode())
            output.say(f"{kind}: {name}")


def document(records: Sequence[Record], verdict: Verdict | None = None) -> str:
    """What --json prints: the record as it stands in a file; with a verdict, one JSON object that holds both."""
    if verdict is None and len(records) == 1:
        return records[0].text().rstrip()
    if verdict is None or len(records) > 1:
        return written(records, verdict)
    return json.dumps({"verdict": verdict.to_json(), "record": records[0].to_json() if records else None})


def _text(kind: str, records: tuple[Record, ...], verdict: Verdict | None) -> str:
    # Each imported only when it is asked for: matplotlib alone takes longer than a short run.
    if kind == "html":
        from kvmharness.report.html import page

        return page(records, verdict)
    if kind == "junit":
        from kvmharness.report.junit import junit

        return junit(records, verdict)
    if kind == "ktap":
        from kvmharness.report.ktap import run_ktap, verdict_ktap

        lines = run_ktap(records) if verdict is None else verdict_ktap(verdict)
    else:
        from kvmharness.report.commit import commit_lines

        lines = commit_lines(records, verdict) if records else ["No figures: a variant took the host down."]
    return shown("\n".join(lines)) + "\n"
