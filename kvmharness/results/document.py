"""Files with one record, as most runs write them, or with those of several hosts and their verdict."""

import json
import os
from collections.abc import Sequence

from kvmharness.results.jsonread import Fields, list_of, or_none, parse
from kvmharness.results.record import Record, RecordError
from kvmharness.results.store import JOURNAL, from_bytes, read_with
from kvmharness.results.verdict import Verdict


def written(records: Sequence[Record], verdict: Verdict | None) -> str:
    """The text of a document with any number of records, each as :meth:`Record.text` has it."""
    answer = json.dumps(None if verdict is None else verdict.to_json(), sort_keys=True)
    return f'{{"verdict": {answer},\n"records": [{",".join(record.text().rstrip() for record in records)}]}}'


def load_all(path: str | os.PathLike[str]) -> tuple[Record, ...]:
    """The records in a file: the one that it is, or those that it holds beside a verdict.

    Raises:
        ReadError: the file cannot be read, or holds no record; names the place.
    """
    return read_with(_records, path)


def load_answered(path: str | os.PathLike[str]) -> tuple[tuple[Record, ...], Verdict | None]:
    """The records in a file, and their verdict if they have one; there may be a verdict alone.

    Raises:
        ReadError: the file cannot be read, or holds neither; names the place.
    """
    return read_with(_read, path)


def by_host(records: Sequence[Record]) -> dict[str, Record]:
    """The records of a file by the names of their hosts; a lone one may have none.

    Raises:
        RecordError: two have the same name.
    """
    found = {str(record.host.get("name", "")): record for record in records}
    if len(found) < len(records):
        raise RecordError("two records are of hosts with the same name", "Give them in files of their own.")
    return found


def pairs(a: Sequence[Record], b: Sequence[Record]) -> dict[str, tuple[Record, Record]]:
    """The records of two files that belong together, by host: the only one of each, or those of the same host.

    Raises:
        RecordError: the files are about different hosts.
    """
    if len(a) == len(b) == 1:
        return {"": (a[0], b[0])}
    ours, theirs = by_host(a), by_host(b)
    if ours.keys() != theirs.keys():
        named = " and ".join(", ".join(name or "a host without a name" for name in each) for each in (ours, theirs))
        raise RecordError(f"the two are not about the same hosts: {named}", "Compare runs on the same hosts.")
    return {name: (record, theirs[name]) for name, record in ours.items()}


def _records(data: bytes) -> tuple[Record, ...]:
    records, _ = _read(data)
    if not records:
        raise RecordError("there is none in it")
    return records


def _read(data: bytes) -> tuple[tuple[Record, ...], Verdict | None]:
    if data.startswith(JOURNAL):
        return (from_bytes(data),), None
    document = parse(data)
    if not isinstance(document, dict) or "verdict" not in document:
        return (Record.from_json(document),), None
    with Fields(document) as top:
        verdict = top.take("verdict", or_none(lambda value, where: Verdict.from_json(value)))
        records = top.take("records", list_of(lambda value, where: Record.from_json(value)))
    if verdict is None and not records:
        raise RecordError("there is none in it")
    return records, verdict
