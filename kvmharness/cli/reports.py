"""What a verb writes beside what it prints: the record, HTML, KTAP, JUnit, the table for a commit message."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kvmharness.cli.output import Output
from kvmharness.errors import UsageError
from kvmharness.results.record import Record, save
from kvmharness.results.verdict import Verdict

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
    def of(cls, options: argparse.Namespace) -> "Reports":
        """What :func:`add_report_options` read; a name that cannot be written is refused before an hour is spent.

        Raises:
            UsageError: a folder is missing, or stands where a file should.
        """
        printed = options.json == _STANDARD_OUTPUT
        found = cls(
            None if printed else options.json,
            {kind: name for kind in _KINDS if (name := getattr(options, kind)) is not None},
            printed,
        )
        for name in filter(None, (found.json, *found.others.values())):
            _check(name)
        return found

    def write(self, output: Output, record: Record | None, verdict: Verdict | None = None) -> None:
        """Writes every file that was asked for; without a record there is only the verdict to write about.

        Raises:
            WriteError: the disk is full, say.
            HostRequirementError: what a report is made with is not installed.
        """
        from kvmharness.system.files import write_whole

        if self.json is not None:
            if record is None:
                write_whole(self.json, f"{document(None, verdict)}\n".encode())
            else:
                save(record, self.json)
            output.say(f"json: {self.json}")
        records = () if record is None else (record,)
        for kind, name in self.others.items():
            write_whole(name, _text(kind, records, verdict).encode())
            output.say(f"{kind}: {name}")


def _check(name: str) -> None:
    path = Path(name)
    if path.is_dir() or not path.resolve().parent.is_dir():
        why = "it is a folder" if path.is_dir() else f"there is no folder {path.resolve().parent}"
        raise UsageError(f"cannot write to {name}: {why}", "Name a file in a folder that exists.")


def document(record: Record | None, verdict: Verdict | None = None) -> str:
    """The record as it stands in a file; with a verdict, one JSON object that holds both."""
    if verdict is None:
        return "null" if record is None else record.text().rstrip()
    return json.dumps({"verdict": verdict.to_json(), "record": None if record is None else record.to_json()})


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
    return "\n".join(lines) + "\n"
