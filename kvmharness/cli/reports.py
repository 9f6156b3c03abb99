"""What a verb writes beside what it prints: the record, HTML, KTAP, JUnit, the table for a commit message."""

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kvmharness.cli.output import Output
from kvmharness.errors import HostRequirementError, UsageError
from kvmharness.results.document import written
from kvmharness.results.journal import CONSOLE_SUFFIX, SUFFIX
from kvmharness.results.record import Record
from kvmharness.results.verdict import Verdict
from kvmharness.system.files import WriteError, check_writable, is_plain, write_whole
from kvmharness.system.shown import shown

_STANDARD_OUTPUT = "-"
_INPUTS = ("source", "kernel", "claims")  # options that name a file to read

_KINDS = {
    "html": "one self-contained page with plots",
    "ktap": "KTAP, the kernel's own test format",
    "junit": "JUnit XML, for CI",
    "commit": "a table of at most 72 columns for a commit message",
}


_FILES = ("json", *_KINDS, "resume")  # options that name a file of this machine, and say nothing of what is run


def add_report_options(parser: argparse.ArgumentParser, *, record: bool = True) -> None:
    """One option for each file that can be written; the record among them unless the verb takes one."""
    group = parser.add_argument_group("files to write")
    if record:
        group.add_argument("--json", metavar="FILE", help="the record; - prints it instead of the tables")
    for kind, what in _KINDS.items():
        group.add_argument(f"--{kind}", metavar="FILE", help=what)


def to_reproduce(words: Sequence[str], options: argparse.Namespace) -> tuple[str, ...]:
    """The command line that does the same again: without the files that it writes or goes on with.

    The series comes first, which no option can then be taken for.

    Args:
        words: the command line, without the program's name, as it was taken.
        options: what was read of it.
    """
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        name, has_value, _ = word.partition("=")
        # An abbreviation was taken, so it is one of this option's alone.
        written = [each for each in _FILES if name[2:] and f"--{each}".startswith(name)]
        if not any(isinstance(getattr(options, each, None), str | list) for each in written):
            kept.append(word)
        elif not has_value:
            next(rest, None)
    series = getattr(options, "series", None)
    if kept[:1] == ["validate"] and series in kept:
        kept.remove(series)
        kept.insert(1, series)
    return ("kvmharness", *kept)


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
            inputs: files that the verb reads, beside those of options that several verbs have: no report may replace
                them.

        Raises:
            UsageError: a name cannot be written, or is said twice, or that of an input; or what a report is made with
                is not installed.
        """
        record = getattr(options, "json", None)
        printed = record == _STANDARD_OUTPUT
        found = cls(
            None if printed else record,
            {kind: name for kind in _KINDS if (name := getattr(options, kind)) is not None},
            printed,
        )
        read = (getattr(options, option, None) for option in _INPUTS)
        found._check([name for name in (*inputs, *read, *getattr(options, "resume", ())) if name is not None])
        return found

    def _check(self, inputs: Sequence[str | Path]) -> None:
        taken: dict[str, str] = {}
        if self.json is not None:
            check_output("json", self.json, inputs)
            taken[self.json] = "what --json writes there"
            if is_plain(self.json):
                for suffix in (SUFFIX, CONSOLE_SUFFIX):
                    check_output("json", self.json + suffix, ())
                    taken[self.json + suffix] = "what --json keeps there until the run has ended"
        for kind, name in self.others.items():
            if name == _STANDARD_OUTPUT:
                raise UsageError(f"--{kind} -: only --json is printed", f"Name a file, or /dev/stdout: --{kind} FILE.")
            check_output(kind, name, inputs, taken)
            taken[name] = f"what --{kind} writes there"
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
            for record in records:
                record.check()
            write_whole(self.json, f"{document(records, verdict)}\n".encode())
            output.say(f"json: {self.json}")
        for kind, name in self.others.items():
            write_whole(name, _text(kind, tuple(records), verdict).encode())
            output.say(f"{kind}: {name}")


def check_output(
    option: str, name: str, inputs: Iterable[str | Path], taken: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Refuses a file that an option names where it could not be written, or would replace another.

    Args:
        option: without its dashes.
        name: of the file.
        inputs: files that are read.
        taken: other files that are written, and what stands in them. What is no file, a device say, takes them all.

    Raises:
        UsageError: with what to do.
    """
    try:
        check_writable(name)
    except WriteError as error:
        raise UsageError(f"--{option}: {error}", error.hint) from None
    if not is_plain(name):
        return
    for other, what in {**{str(each): "what this command reads" for each in inputs}, **taken}.items():
        if os.path.realpath(other) == os.path.realpath(name) or _is_same(other, name):
            raise UsageError(f"--{option} {name} would replace {what}", "Name another file.")


def _is_same(a: str, b: str) -> bool:
    """Whether two names are one file's: hard links are."""
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False


def document(records: Sequence[Record], verdict: Verdict | None = None) -> str:
    """What --json writes and prints: the record of a run by itself; with a verdict, an object that holds both."""
    return records[0].text().rstrip() if verdict is None and len(records) == 1 else written(records, verdict)


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
        from kvmharness.report.commit import answered_lines, commit_lines

        lines = answered_lines(records, verdict) if verdict else commit_lines(records)
    return shown("\n".join(lines)) + "\n"
