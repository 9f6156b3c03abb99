"""What one run found, as one JSON document: everything that is needed to judge it later, and nothing else.

A record is read strictly: an unknown schema version, a missing, unknown or wrongly typed field is a
:class:`RecordError` that names the place. Only
``when`` differs between two runs of the same job in an emulated host; the rest is repeatable to the byte.

Schema history:
    1: first version.
    2: what the oracle takes a kernel to have is in the oracle's own words, not in patches of one series.
    3: a line of the kernel's log belongs to the cell, the load or the unload that it came in; what the kernel reported
        and where it went down is there; a run that was cut short says so.
    4: tests that hold or do not, beside the cells.
    5: when the samples of a cell were taken, where time is real.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import get_args

from kvmharness.errors import UsageError
from kvmharness.lean.dataclasses import dataclass, field, fields
from kvmharness.measure.clock import UNIT_EMULATED, UNIT_TSC
from kvmharness.results.incidents import KernelReport, Leftover, Loss, StepLog, kernel_report, leftover, loss, step_log
from kvmharness.results.jsonread import (
    Fields,
    ShapeError,
    an_object,
    integer,
    integer_map,
    integers,
    list_of,
    number,
    or_none,
    text,
    text_map,
    texts,
)
from kvmharness.results.tests import TestResult, read_test

SCHEMA = 5

UNITS = (UNIT_TSC, UNIT_EMULATED)

MOST_SAMPLES = 1 << 16
"""Of one result: as many as a guest has room for."""

CellKey = tuple[str, tuple[tuple[str, str], ...]]


class RecordError(UsageError):
    """A record could not be read, or does not say what a record must say."""


@dataclass(frozen=True, slots=True)
class When:
    """Time of day of the run: the only part of a record that two identical runs do not share."""

    started: str  # ISO 8601, with offset
    seconds: float  # wall-clock length of the run


FROM_SOURCE = "found in its source"


@dataclass(frozen=True, slots=True)
class OracleView:
    """How an oracle sees a kernel: all that its predictions depend on, but for what the guest does."""

    oracle: str  # its name, as a series gives it: "root-cache"
    features: Mapping[str, int] | None  # in its words, 1 is yes and 0 is no; None: it does not describe this kernel
    why: str  # where the features come from: FROM_SOURCE, ...; or why it does not describe the kernel

    def to_json(self) -> dict[str, object]:
        """Plain JSON values."""
        return _plain_fields(self)


@dataclass(frozen=True, slots=True)
class VariantId:
    """One set of KVM modules (or one kernel), named so that somebody else can make it again."""

    name: str  # as :mod:`kvmharness.patches.variants` calls it; "host" for the running kernel as it is
    source: str  # kernel tree or package with version
    patches: tuple[str, ...] = ()
    config_hash: str = ""
    build_id: str = ""  # of kvm.ko, as in its .note.gnu.build-id
    oracle: OracleView | None = None  # None: it was not to be held against a model


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the oracle expects over the counted round trips of one cell, exactly."""

    loads: int  # calls of kvm_mmu_load()
    switches: int  # calls of kvm_mmu_new_pgd()


@dataclass(frozen=True, slots=True)
class Probes:
    """Reads of the probe page through a table just switched to; a failure is a stale translation."""

    checked: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class CellError:
    """Why a cell has no figures although it was tried."""

    type: str  # class name of the error
    message: str


@dataclass(frozen=True, slots=True)
class CellResult:
    """One cell of the matrix under one variant, in one turn of the interleaving.

    ``exits``, ``counts`` and ``stats`` belong to the counting pass of ``round_trips`` round trips; ``samples`` to the
    timing pass, in ticks of the record's unit for ``batch_round_trips`` round trips each. They stand in
    the order in which they were taken, each begun as the one before it ended.
    """

    id: str  # workloads.Cell.id, without variant: "a:3x3"
    cell: Mapping[str, object]  # the fields of workloads.Cell
    variant: str  # VariantId.name
    turn: int = 0
    params: Mapping[str, str] = field(default_factory=dict)  # module parameters asked for: {"kvm.tdp_mmu": "N"}
    round_trips: int = 0
    exits: Mapping[str, int] = field(default_factory=dict)  # by reason name, over round_trips
    counts: Mapping[str, int] = field(default_factory=dict)  # by kernel function or tracepoint, over round_trips
    missing: Mapping[str, str] = field(default_factory=dict)  # source that this host does not offer -> why
    stats: Mapping[str, int] = field(default_factory=dict)  # KVM binary statistics, difference over round_trips
    predicted: Prediction | None = None
    batch_round_trips: int = 0
    samples: tuple[int, ...] = ()
    began_s: float | None = None  # the first of them, in seconds of CLOCK_MONOTONIC; None in an emulated host
    probes: Probes = Probes()
    skipped: str | None = None
    error: CellError | None = None
    dmesg: tuple[str, ...] = ()  # lines gained while this cell ran

    @property
    def key(self) -> CellKey:
        """What a result is paired by when variants or records are compared: the cell and its module parameters."""
        return self.id, tuple(sorted(self.params.items()))

    @property
    def ticks_per_round_trip(self) -> tuple[float, ...]:
        """The timing samples, each for one round trip, in the record's unit."""
        batch = self.batch_round_trips
        return tuple([sample / batch for sample in self.samples])  # a million of them in one record

    def per_round_trip(self, total: int) -> float:
        """*total* of the counting pass, for one round trip."""
        return total / self.round_trips

    def to_json(self) -> dict[str, object]:
        """Plain JSON values: how a result travels out of a host under test, one event a cell."""
        return _plain_fields(self)

    @classmethod
    def from_json(cls, document: object) -> "CellResult":
        """Read :meth:`to_json`'s document back.

        Raises:
            RecordError: a field is missing, unknown or of a wrong type.
        """
        try:
            return _result(document, "result")
        except ShapeError as error:
            raise RecordError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Record:
    """One run.

    ``host`` holds plain JSON: kernel_release, config_hash, module_parameters, cpu, microcode, mitigations, emulator
    (None on bare metal), l0_ept, ...
    """

    tool_version: str
    command: tuple[str, ...]
    when: When
    host: Mapping[str, object]
    unit: str  # one of UNITS
    variants: tuple[VariantId, ...]
    results: tuple[CellResult, ...]
    dmesg: tuple[str, ...] = ()  # lines that the kernel log gained during the run
    notes: tuple[str, ...] = ()
    logs: tuple[StepLog, ...] = ()  # those of them that came in while no cell was running
    reports: tuple[KernelReport, ...] = ()  # what the kernel complained of, with everything that it said about it
    losses: tuple[Loss, ...] = ()
    tests: tuple[TestResult, ...] = ()
    leftovers: tuple[Leftover, ...] = ()  # of every load but the first of a boot, which sets up things for good
    partial: str = ""  # why results are missing; empty for a run that went to its end
    schema: int = SCHEMA

    @property
    def titles(self) -> dict[str, str]:
        """Of the variants that have one patch, its title: what "p1" stands for."""
        return {variant.name: variant.patches[0] for variant in self.variants if len(variant.patches) == 1}

    def to_json(self, *, when: bool = True) -> dict[str, object]:
        """The document as plain JSON values; without *when*, what two runs of the same job must have in common."""
        document = _plain_fields(self)
        if not when:
            del document["when"]
        return document

    def text(self, *, when: bool = True) -> str:
        """The document as it stands in a file: keys sorted, one line a result, so that two can be compared by diff."""
        lines = []
        for key, value in sorted(self.to_json(when=when).items()):
            if key in ("results", "tests", "variants") and isinstance(value, list) and value:
                body = "[\n" + ",\n".join("  " + _dumps(item) for item in value) + "\n ]"
            else:
                body = _dumps(value)
            lines.append(f" {_dumps(key)}: {body}")
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, document: object) -> "Record":
        """Read a document back.

        Raises:
            RecordError: unknown schema version; a field missing, unknown, of a wrong type or contradicting another.
        """
        try:
            return cls._read(document)
        except ShapeError as error:
            raise RecordError(str(error)) from None

    @classmethod
    def _read(cls, document: object) -> "Record":
        # The version comes first: another version's fields are not errors of this one.
        version = integer(an_object(document, "").get("schema"), "schema")
        if version != SCHEMA:
            raise RecordError(
                f"schema version {version} is not known here (this tool reads version {SCHEMA})",
                "read it with the version of kvmharness that wrote it, or make the run again",
            )
        with Fields(document) as top:
            record = cls(
                schema=top.take("schema", integer),
                tool_version=top.take("tool_version", text),
                command=top.take("command", texts),
                when=top.take("when", _when),
                host=top.take("host", an_object),
                unit=top.take("unit", text),
                variants=top.take("variants", list_of(_variant)),
                results=top.take("results", list_of(_result)),
                dmesg=top.take("dmesg", texts),
                notes=top.take("notes", texts),
                logs=top.take("logs", list_of(step_log)),
                reports=top.take("reports", list_of(kernel_report)),
                losses=top.take("losses", list_of(loss)),
                tests=top.take("tests", list_of(read_test)),
                leftovers=top.take("leftovers", list_of(leftover)),
                partial=top.take("partial", text),
            )
        record.check()
        return record

    def check(self) -> None:
        """Refuse a record whose parts contradict each other.

        Raises:
            RecordError: naming the place.
        """
        if self.unit not in UNITS:
            raise RecordError(f"unit: {self.unit!r} is none of {', '.join(map(repr, UNITS))}")
        names = Counter(variant.name for variant in self.variants)
        for name, count in names.items():
            if count > 1:
                raise RecordError(f"variants: {name!r} is there twice")
        for index, result in enumerate(self.results):
            where = f"results[{index}] ({result.id})"
            if result.variant not in names:
                raise RecordError(f"{where}: variant {result.variant!r} is not among the record's variants")
            if result.round_trips < 0 or result.batch_round_trips < 0:
                raise RecordError(f"{where}: a negative number of round trips")
            if (result.exits or result.counts) and not result.round_trips:
                raise RecordError(f"{where}: counts without round_trips")
            if min((*result.exits.values(), *result.counts.values()), default=0) < 0:
                raise RecordError(f"{where}: a negative count")
            if len(result.samples) > MOST_SAMPLES:
                raise RecordError(
                    f"{where}: {len(result.samples)} samples, and {MOST_SAMPLES} is the limit for one result"
                )
            if min(result.samples, default=1) <= 0:
                raise RecordError(f"{where}: a sample of {min(result.samples)}; a time is longer than nothing")
            if result.samples and not result.batch_round_trips:
                raise RecordError(f"{where}: samples without batch_round_trips")


def _dumps(value: object) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _plain(value: object) -> object:
    """Dataclasses, tuples and mappings as what json knows (dataclasses.asdict deep-copies each integer: slow)."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, _PARTS):
        return _plain_fields(value)
    return value


_Part = (
    When
    | VariantId
    | OracleView
    | Prediction
    | Probes
    | CellError
    | CellResult
    | StepLog
    | KernelReport
    | Loss
    | Leftover
    | TestResult
)
_PARTS = get_args(_Part)


def _plain_fields(value: "_Part | Record") -> dict[str, object]:
    return {entry.name: _plain(getattr(value, entry.name)) for entry in fields(value)}


def _when(value: object, where: str) -> When:
    with Fields(value, where) as taken:
        return When(taken.take("started", text), taken.take("seconds", number))


def _variant(value: object, where: str) -> VariantId:
    with Fields(value, where) as taken:
        return VariantId(
            name=taken.take("name", text),
            source=taken.take("source", text),
            patches=taken.take("patches", texts),
            config_hash=taken.take("config_hash", text),
            build_id=taken.take("build_id", text),
            oracle=taken.take("oracle", or_none(_oracle_view)),
        )


def _oracle_view(value: object, where: str) -> OracleView:
    with Fields(value, where) as taken:
        return OracleView(
            oracle=taken.take("oracle", text),
            features=taken.take("features", or_none(integer_map)),
            why=taken.take("why", text),
        )


def _prediction(value: object, where: str) -> Prediction:
    with Fields(value, where) as taken:
        return Prediction(taken.take("loads", integer), taken.take("switches", integer))


def _probes(value: object, where: str) -> Probes:
    with Fields(value, where) as taken:
        return Probes(taken.take("checked", integer), taken.take("failures", integer))


def cell_error(value: object, where: str) -> CellError:
    """Reads an error's document, of a record or as it comes out of a host. Raises: ShapeError, for what is none."""
    with Fields(value, where) as taken:
        return CellError(taken.take("type", text), taken.take("message", text))


def _result(value: object, where: str) -> CellResult:
    with Fields(value, where) as taken:
        return CellResult(
            id=taken.take("id", text),
            cell=taken.take("cell", an_object),
            variant=taken.take("variant", text),
            turn=taken.take("turn", integer),
            params=taken.take("params", text_map),
            round_trips=taken.take("round_trips", integer),
            exits=taken.take("exits", integer_map),
            counts=taken.take("counts", integer_map),
            missing=taken.take("missing", text_map),
            stats=taken.take("stats", integer_map),
            predicted=taken.take("predicted", or_none(_prediction)),
            batch_round_trips=taken.take("batch_round_trips", integer),
            samples=taken.take("samples", integers),
            began_s=taken.take("began_s", or_none(number)),
            probes=taken.take("probes", _probes),
            skipped=taken.take("skipped", or_none(text)),
            error=taken.take("error", or_none(cell_error)),
            dmesg=taken.take("dmesg", texts),
        )
