"""What travels to a worker: a job, as JSON, and its files by their hash; :mod:`kvmharness.fleet.answers` come back.

Nothing else does: no object of ours is pickled. Both ends read what comes by its schema, and refuse what is not of it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvmharness.errors import UsageError
from kvmharness.lab.job import Job
from kvmharness.lab.jobrun import MAX_JOB_BYTES
from kvmharness.lab.kernels.build import Kernel
from kvmharness.lab.kernels.modulefiles import content, load_order
from kvmharness.lab.steps import Call, Exec, Load, Step, Unload, encode, fields_of
from kvmharness.results.jsonread import (
    Fields,
    ShapeError,
    an_object,
    boolean,
    integer,
    list_of,
    map_of,
    number,
    or_none,
    parse,
    text,
    text_map,
    texts,
)

SCHEMA = 1

Files = dict[str, bytes]
"""Contents by their hash."""
_Names = Mapping[str, str]  # hashes by file name


class WireError(UsageError):
    """What came over the wire is not what may come; nothing was run."""


@dataclass(frozen=True, slots=True)
class Boot:
    """The emulated host that a job is for.

    Attributes:
        host: its name in the catalogue.
        image: hash of the kernel's image.
        modules: hashes of the kernel's own modules, by file name.
        command_line: the kernel's, besides the host's.
        of_variant: see :class:`kvmharness.lab.kernels.build.Kernel`.
        snapshot: whether it may be restored in the place of a boot.
    """

    host: str
    image: str
    modules: _Names
    command_line: str = ""
    of_variant: bool = False
    snapshot: bool = True


@dataclass(frozen=True, slots=True)
class Order:
    """A job, and what it is for.

    Attributes:
        steps: see :class:`kvmharness.lab.job.Job`, as are the two limits.
        files: hashes of its files, by path inside.
        modules: hashes of each variant's modules, by file name.
        boot: where it is done.
    """

    boot: Boot
    steps: tuple[Step, ...]
    timeout_s: float
    silence_s: float | None = None
    files: _Names = field(default_factory=dict)
    modules: Mapping[str, _Names] = field(default_factory=dict)

    @property
    def hashes(self) -> tuple[str, ...]:
        """Of every file that it takes, each once, in a fixed order."""
        named = [self.files, *self.modules.values(), self.boot.modules, {"image": self.boot.image}]
        return tuple(sorted({each for names in named for each in names.values()}))

    def job(self, folder: Path) -> Job:
        """The job, its files being in *folder*, each under its hash; modules are linked to their names there."""
        files = {place: folder / name for place, name in self.files.items()}
        modules = {
            variant: linked(names, folder / f"variant-{number}")
            for number, (variant, names) in enumerate(self.modules.items())
        }
        return Job(self.steps, files, modules, self.timeout_s, self.silence_s)


def linked(names: Mapping[str, str], folder: Path) -> Path:
    """The new *folder*, with files from beside it under the names that they are to have."""
    folder.mkdir()
    for name, content_hash in names.items():
        (folder / name).symlink_to(folder.parent / content_hash)
    return folder


def hash_of(data: bytes) -> str:
    """What a file is called by its content."""
    return hashlib.sha256(data).hexdigest()


def order_of(job: Job, kernel: Kernel, host: str, *, snapshot: bool) -> tuple[Order, Files]:
    """A job as it travels, and the contents that it takes.

    Args:
        job: what is to be done.
        kernel: what the emulated host *host* boots.
        snapshot: see :class:`Boot`.

    Raises:
        UsageError: a folder of modules holds none.
    """
    contents: Files = {}

    def keep(data: bytes) -> str:
        name = hash_of(data)
        contents[name] = data
        return name

    def modules(folder: Path) -> _Names:
        return {f"{path.name.partition('.')[0]}.ko": keep(content(path)) for path in load_order(folder)}

    image, own = keep(kernel.image.read_bytes()), modules(kernel.modules)
    boot = Boot(host, image, own, kernel.command_line, kernel.of_variant, snapshot)
    files = {place: keep(it if isinstance(it, bytes) else it.read_bytes()) for place, it in job.files.items()}
    variants = {name: modules(folder) for name, folder in job.modules.items()}
    return Order(boot, job.steps, job.timeout_s, job.silence_s, files, variants), contents


def write_order(order: Order) -> str:
    """As JSON."""
    document = {**fields_of(order), "boot": fields_of(order.boot), "steps": json.loads(encode(order.steps))}
    return json.dumps({"schema": SCHEMA, **document}, sort_keys=True, allow_nan=False)


def read_order(document: str) -> Order:
    """The inverse of :func:`write_order`.

    Raises:
        WireError: naming the place.
    """
    try:
        with Fields(parsed(document)) as top:
            check_version(top)
            return Order(
                steps=top.take("steps", list_of(_step)),
                timeout_s=top.take("timeout_s", number),
                silence_s=top.take("silence_s", or_none(number)),
                files=top.take("files", map_of(_hash)),
                modules=top.take("modules", map_of(_modules)),
                boot=top.take("boot", _boot),
            )
    except ShapeError as error:
        raise WireError(f"not a job: {error}") from None


def parsed(document: object) -> object:
    """The JSON value of a document that came. Raises: ShapeError, it is none, or too long."""
    if not isinstance(document, str) or len(document) > MAX_JOB_BYTES:
        raise ShapeError(f"expected a text of at most {MAX_JOB_BYTES >> 20} MiB")
    return parse(document.encode(errors="surrogatepass"))


def check_version(top: Fields) -> None:
    """Raises ShapeError for a document of another version."""
    version = top.take("schema", integer)
    if version != SCHEMA:
        raise ShapeError(f"schema version {version} is not known here (this end has version {SCHEMA})")


def _hash(value: object, where: str) -> str:
    name = text(value, where)
    if len(name) != 64 or set(name) - set("0123456789abcdef"):
        raise ShapeError(f"{where}: {name[:70]!r} is no SHA-256")
    return name


def _file_name(name: str, where: str) -> str:
    if not name or "/" in name or "\0" in name or name.startswith(".") or len(name) > 200:
        raise ShapeError(f"{where}: {name[:70]!r} is no file name")
    return name


def _modules(value: object, where: str) -> _Names:
    return {_file_name(name, where): each for name, each in map_of(_hash)(value, where).items()}


def _boot(value: object, where: str) -> Boot:
    with Fields(value, where) as fields:
        return Boot(
            host=fields.take("host", text),
            image=fields.take("image", _hash),
            modules=fields.take("modules", _modules),
            command_line=fields.take("command_line", text),
            of_variant=fields.take("of_variant", boolean),
            snapshot=fields.take("snapshot", boolean),
        )


# The fields of each kind of step, in the order in which its class takes them.
_STEPS: Mapping[str, tuple[Callable[..., Step], Mapping[str, Callable[[object, str], Any]]]] = {
    "load": (Load, {"variant": text, "params": text_map, "required": boolean}),
    "unload": (Unload, {"required": boolean, "memory": boolean}),
    "call": (Call, {"function": text, "args": an_object, "required": boolean}),
    "exec": (Exec, {"argv": texts, "timeout_s": or_none(number), "env": text_map, "stdin": text, "required": boolean}),
}


def _step(value: object, where: str) -> Step:
    with Fields(value, where) as fields:
        kind = fields.take("do", text)
        if kind not in _STEPS:
            raise ShapeError(f"{where}.do: {kind[:40]!r} is no step")
        made, shape = _STEPS[kind]
        return made(*(fields.take(name, reader) for name, reader in shape.items()))
