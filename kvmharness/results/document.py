"""Files with one record, as most runs write them, or with those of several hosts and their verdict."""

import json
import os
from collections.abc import Sequence

from kvmharness.results.jsonread import Fields, list_of, or_none, parse
from kvmharness.results.record import Record, RecordError
from kvmharness.results.store import JOURNAL, from_bytes, read_with
from kvmharness.results.verdict import Verdict


def written(records: Sequence[Record], verdict: Verdict | None) -> str:
    """The text of a document with any number of records."""
    document = {
        "verdict": None if verdict is None else verdict.to_json(),
        "records": [record.to_json() for record in records],
    }
    return json.dumps(document)


def load_all(path: str | os.PathLike[str]) -> tuple[Record, ...]:
    """The records in a file: the one that it is, or those that it holds beside a verdict.

    Raises:
        ReadError: the file cannot be read, or holds no record; names the place.
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


def _read(data: bytes) -> tuple[Record, ...]:
    if data.startswith(JOURNAL):
        return (from_bytes(data),)
    document = parse(data)
    if not isinstance(document, dict) or "verdict" not in document:
        return (Record.from_json(document),)
    with Fields(document) as top:
        top.take("verdict", or_none(lambda value, where: Verdict.from_json(value)))
        if "record" in top:  # as `validate --json -` prints it
            found = tuple(filter(None, [top.take("record", or_none(_record))]))
        else:
            found = top.take("records", list_of(_record))
    if not found:
        raise RecordError("there is none in it")
    return found


def _record(value: object, where: str) -> Record:
    return Record.from_json(value)
