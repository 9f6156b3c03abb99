"""What is left of a run that is cut short, whatever cuts it: where it is, and how it goes on."""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kvmharness.cli.output import Output
from kvmharness.cli.reports import Reports
from kvmharness.errors import UsageError
from kvmharness.results.document import load_all
from kvmharness.results.journal import CONSOLE_SUFFIX, SUFFIX, Journal
from kvmharness.results.record import Record
from kvmharness.system import cache
from kvmharness.system.files import is_plain
from kvmharness.validation.campaign import Keeping

_KEPT = 8  # runs that were cut short, of those that nobody named a file for


def add_resume_option(parser: argparse.ArgumentParser) -> None:
    """The option that goes on with such a run."""
    parser.add_argument(
        "--resume",
        metavar="RECORD",
        action="append",
        default=[],
        help="go on with the run of this record, which was cut short: only what it lacks is run; of several hosts, "
        "once for each",
    )


def earlier(options: argparse.Namespace) -> tuple[Record, ...]:
    """What :func:`add_resume_option` read.

    Raises:
        UsageError: it is no record, or one of a run that went to its end.
    """
    found = tuple(record for name in options.resume for record in load_all(name))
    if found and not any(record.partial for record in found):
        raise UsageError(
            f"{', '.join(options.resume)}: the record of a whole run: nothing is left to do", "Leave --resume away."
        )
    return found


@contextmanager
def kept(reports: Reports, before: Sequence[Record], output: Output, host: str = "") -> Iterator[Keeping]:
    """Keeps what a run gives; told where that is when the run is cut short.

    Args:
        reports: the record's file, which the journal stands beside.
        before: what was kept of the run already, if it was cut short, on each of its hosts.
        output: takes where things are.
        host: one of several, which have a journal each.
    """
    earlier = next((record for record in before if not host or record.host.get("name") == host), None)
    with Journal(_beside(reports.json, host)) as journal:
        try:
            yield Keeping(journal, earlier, host)
        except BaseException:
            journal.cut_short = True
            raise
        finally:
            if journal.cut_short and journal.path is not None and journal.path.exists():
                output.say(f"cut short: what there is by now is in {journal.path}; --resume {journal.path} goes on")
            if journal.console is not None and journal.keeps_console:
                output.say(f"console: {journal.console}")
        journal.done()


def _beside(name: str | None, host: str) -> Path:
    path = Path(name or "")
    if name is not None and is_plain(path):  # a device holds no record
        return path.with_name(f"{path.name}.{host.replace(':', '-')}") if host else path
    folder = cache.folder("runs")
    cache.keep_newest("runs", _KEPT)
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}{f'.{host}' if host else ''}.json"
    for suffix in (SUFFIX, CONSOLE_SUFFIX):
        cache.in_use("runs", path.name + suffix)
    return path
