"""cache: what is stored, how large it is, when it was last used; and its removal."""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output
from kvmharness.errors import UsageError
from kvmharness.system import cache
from kvmharness.system.cache import Stored

WHAT = {
    "builds": "what compilers said of variants built in other ways",
    "configured": "built trees with options of KVM switched",
    "initramfs": "initial file systems of emulated hosts",
    "kernels": "built kernels",
    "preload": "what saves a running Bochs",
    "reports": "what scripts/validate wrote",
    "runs": "records of runs that were cut short",
    "selftests": "built KVM selftests",
    "snapshots": "saved emulated hosts",
    "sources": "unpacked kernel sources",
    "surroundings": "what a kernel's KVM said of itself",
    "variants": "KVM modules of variants",
}
"""Kind -> what it is."""

# Results are not made again by the next who wants them.
_RESULTS = ("reports", "runs")


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "cache",
        read,
        act,
        "what is stored from earlier runs and how large it is; --prune removes it",
        "All but reports and runs is made again when it is wanted. Older entries go by themselves as newer ones of "
        "their kind come.",
        examples=(
            "kvmharness cache",
            "kvmharness cache --prune snapshots",
        ),
    )
    made.add_argument(
        "--prune",
        metavar="KIND",
        nargs="*",
        help="remove all entries of these kinds that no living process uses; without a kind, of all but "
        f"{' and '.join(_RESULTS)}",
    )
    made.add_argument("--json", action="store_true", help="print one JSON document instead")


@dataclass(frozen=True, slots=True)
class Request:
    """What to do with the cache.

    Attributes:
        prune: the kinds to remove; None: none, only listed.
        as_json: prints JSON.
    """

    prune: tuple[str, ...] | None
    as_json: bool


def read(options: argparse.Namespace) -> Request:
    """What is asked for.

    Raises:
        UsageError: no such kind.
    """
    if options.prune is None:
        return Request(None, options.json)
    there = cache.kinds()
    known = {*there, *WHAT}
    if unknown := [name for name in options.prune if name not in known]:
        raise UsageError(f"no such kind of entries: {', '.join(unknown)}", f"There are {', '.join(sorted(known))}.")
    return Request(tuple(options.prune) or tuple(kind for kind in there if kind not in _RESULTS), options.json)


def act(request: Request, output: Output) -> int:
    """Removes what is to go, and lists what there is."""
    kept: list[str] = []
    removed = 0
    with output.task("Cache") as task:
        for kind in request.prune or ():
            for entry in cache.entries(kind):
                task.tick(f"removing {kind}/{entry.key}")
                if cache.remove(kind, entry.key):
                    removed += entry.size_bytes
                else:
                    kept.append(f"{kind}/{entry.key}")
        found = {kind: cache.entries(kind) for kind in cache.kinds()}
    if request.as_json:
        output.result(json.dumps(_document(found, removed, kept, pruned=request.prune is not None), indent=1))
        return 0
    if request.prune is not None:
        output.say(f"removed {_megabytes(removed)}")
        for name in kept:
            output.say(f"kept {name}: a living process uses it")
    output.result("\n".join(_lines(found)))
    return 0


def _lines(found: Mapping[str, Sequence[Stored]]) -> list[str]:
    rows = [
        (kind, str(len(each)), _megabytes(_size(each)), _age(max(entry.used_s for entry in each)), WHAT.get(kind, ""))
        for kind, each in found.items()
        if each
    ]
    count = sum(len(each) for each in found.values())
    total = ("all", str(count), _megabytes(sum(map(_size, found.values()))), "", str(cache.root()))
    table = [("kind", "entries", "size", "last use", "what it is"), *rows, total]
    wide = [max(len(row[column]) for row in table) for column in range(4)]
    return [f"{a:<{wide[0]}}  {b:>{wide[1]}}  {c:>{wide[2]}}  {d:<{wide[3]}}  {e}".rstrip() for a, b, c, d, e in table]


def _document(
    found: Mapping[str, Sequence[Stored]], removed: int, kept: list[str], *, pruned: bool
) -> dict[str, object]:
    kinds = {
        kind: [{"key": entry.key, "bytes": entry.size_bytes, "last_use": entry.used_s} for entry in each]
        for kind, each in found.items()
    }
    return {
        "folder": str(cache.root()),
        "kinds": kinds,
        **({"removed_bytes": removed, "in_use": kept} if pruned else {}),
    }


def _size(entries: Sequence[Stored]) -> int:
    return sum(entry.size_bytes for entry in entries)


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def _age(when_s: float) -> str:
    minutes = (time.time() - when_s) / 60
    if minutes < 1:
        return "just now"
    hours = minutes / 60
    return (
        f"{minutes:.0f} min ago" if hours < 2 else f"{hours:.0f} h ago" if hours < 48 else f"{hours / 24:.0f} days ago"
    )
