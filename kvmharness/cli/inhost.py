"""lab exec and lab shell: a program of the user's in the emulated host, and a shell there."""

import argparse
import os
import signal
import stat
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

from kvmharness.cli.booted import NO_LIMIT_S, Booted, add_machine_options
from kvmharness.cli.options import verb
from kvmharness.cli.output import Output as Screen
from kvmharness.cli.terminal import Joined, joined
from kvmharness.errors import ExitCode, LostMachineError, UsageError
from kvmharness.guest.shipped import source_folder
from kvmharness.lab.events import Begin, Dmesg, End, Event, Output
from kvmharness.lab.image.initramfs import ImageParts
from kvmharness.lab.image.interpreter import ENVIRONMENT, LIBRARY, PYTHON, libraries
from kvmharness.lab.inside.modules import BUSYBOX
from kvmharness.lab.machines.supervisor import STOPPED
from kvmharness.lab.steps import Exec, Exited
from kvmharness.system.reading import PROGRAM, opened
from kvmharness.system.shown import shown
from kvmharness.validation.chosen import Chosen

_SIGNAL_BASE = 128
_STDIN_BYTES = 1 << 26
_STDIN_WAIT_S = 2.0
_STDIN = "job/stdin"
_PUT = "root"
_TERMINAL = "/dev/ttyS1"
_LIBRARY = """
    argparse bz2 concurrent.futures csv ctypes email gettext gzip logging lzma socket subprocess tempfile typing
    unicodedata urllib.parse zipfile
"""
# The package whole, with what it takes of others, and of the standard library what measured cells do without.
_PACKAGES = ("kvmharness", "keystone", *_LIBRARY.split())
_KVMHARNESS = f'#!/bin/sh\nexec {PYTHON} -S -P -m kvmharness "$@"\n'.encode()
_WELCOME = """\
{kernel}, KVM of {variant}: {modules}
/dev/kvm, /sys/kernel/tracing, /sys/kernel/debug; busybox, python3, kvmharness{files}
exit or Ctrl-D ends it, and Ctrl-] too, whatever it is doing
"""


def add_exec(parts: Any) -> None:
    """Registers `lab exec`."""
    made = verb(
        parts,
        "exec",
        read_exec,
        act_exec,
        "run a program in the emulated host, with /dev/kvm and nesting on",
        "Its output comes out here, and it reads what stands on the standard input, unless that is a terminal; it ends "
        "with the program's exit status, with 128 + N when signal N ended it. The libraries that it is linked with are "
        "taken along.",
        examples=(
            "kvmharness lab exec /bin/cat /proc/cpuinfo",
            "kvmharness lab exec --host svm /usr/bin/sort <README.md",
            "kvmharness lab exec --put README.md /usr/bin/wc README.md",
        ),
    )
    add_machine_options(made)
    _add_put(made)
    made.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=600.0, help="how long it may take, the boot included"
    )
    made.add_argument("file", metavar="FILE", type=Path, help="a program of this machine, or a script for /bin/sh")
    made.add_argument("arguments", metavar="ARG", nargs=argparse.REMAINDER, help="passed on to it")


def add_shell(parts: Any) -> None:
    """Registers `lab shell`."""
    made = verb(
        parts,
        "shell",
        read_shell,
        act_shell,
        "a shell in the emulated host",
        "With /dev/kvm and nesting on, tracefs and debugfs, busybox, Python and kvmharness itself. Keys go to what "
        "runs there, Ctrl-C too; exit ends the host.",
        examples=(
            "kvmharness lab shell",
            "kvmharness lab shell --series fast-cr3-switch --variant p1",
        ),
    )
    add_machine_options(made)
    _add_put(made)


def _add_put(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--put",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help=f"take this file along, to /{_PUT}, where programs start; with its libraries; may be given several times",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A program to run in an emulated host.

    Attributes:
        booted: the host.
        file: the program, seen to be one.
        arguments: of it.
        put: files to take along.
        timeout_s: wall seconds for all, the boot included.
    """

    booted: Booted
    file: Path
    arguments: tuple[str, ...]
    put: tuple[Path, ...]
    timeout_s: float


def read_exec(options: argparse.Namespace) -> ExecRequest:
    """What is asked for. Raises: UsageError, not a program or no such file, or as :meth:`Booted.of_options`."""
    with opened(options.file, PROGRAM) as file:
        start = file.read(4)
    if start[:2] != b"#!" and start != b"\x7fELF":
        raise UsageError(f"{options.file} is neither a program for Linux (ELF) nor a script (#!)", "Name one that is.")
    _check_put(options.put)
    return ExecRequest(
        Booted.of_options(options), options.file, tuple(options.arguments), tuple(options.put), options.timeout
    )


def act_exec(request: ExecRequest, output: Screen) -> int:
    """Runs the program; its output goes to standard output as it comes."""
    place = f"bin/{request.file.name}"
    log: list[str] = []
    ended: list[Exited] = []
    began = [time.monotonic()] * 2

    def take(event: Event) -> None:
        match event:
            case Begin(step=number):
                began[number] = time.monotonic()
            case Output(text=said):
                sys.stdout.write(shown(said))
                sys.stdout.flush()
            case Dmesg(lines=lines):
                log.extend(lines)
            case End(result=Exited() as how):
                ended.append(how)

    standard_input = _standard_input(output)
    step = Exec((f"/{place}", *request.arguments), env=ENVIRONMENT, required=True, stdin=f"/{_STDIN}")
    files = {**_with_libraries({place: request.file, **_put(request.put)}), _STDIN: standard_input}
    with request.booted.ready(output) as (one, machine):
        started = time.monotonic()
        machine.run(request.booted.job(one, step, files=files, timeout_s=request.timeout_s), take)
    done = time.monotonic()
    for line in log:
        output.detail(f"dmesg: {line}")
    output.say(f"{request.file.name} took {done - began[1]:.1f} s, the host {done - started:.1f} s in all")
    return _status(ended[0])


def _standard_input(output: Screen) -> bytes:
    """All of the standard input; nothing of a terminal. Raises: UsageError, it is too much."""
    if sys.stdin is None or sys.stdin.isatty():
        return b""
    waiting = Timer(_STDIN_WAIT_S, output.say, ["reading the standard input to its end; </dev/null if there is none"])
    waiting.daemon = True
    waiting.start()
    try:
        data = sys.stdin.buffer.read(_STDIN_BYTES + 1)
    finally:
        waiting.cancel()
    if len(data) > _STDIN_BYTES:
        raise UsageError(f"more than {_STDIN_BYTES >> 20} MiB on the standard input", "Take it along with --put FILE.")
    return data


def _check_put(files: Iterable[Path]) -> None:
    """Refuses what cannot be taken along before anything is built for it."""
    seen: dict[str, Path] = {}
    for path in files:
        with opened(path, PROGRAM):
            pass
        if other := seen.get(path.name):
            raise UsageError(f"--put {other} and {path}: both would be /{_PUT}/{path.name}", "Rename one of them.")
        seen[path.name] = path


def _put(files: Iterable[Path]) -> dict[str, Path]:
    return {f"{_PUT}/{path.name}": path for path in files}


def _with_libraries(files: Mapping[str, Path]) -> dict[str, Path | bytes]:
    """Files by their places, and the libraries that the programs among them are linked with."""
    programs = [path for path in files.values() if stat.S_IXUSR & path.stat().st_mode]
    return {**{place.lstrip("/"): path for place, path in libraries(programs).items()}, **files}


def _status(ended: Exited) -> int:
    """The program's exit status as ours."""
    if ended.status is None:
        return _SIGNAL_BASE + signal.Signals[str(ended.signal)]
    return ended.status


@dataclass(frozen=True, slots=True)
class ShellRequest:
    """A shell to open.

    Attributes:
        booted: the host.
        put: files to take along.
    """

    booted: Booted
    put: tuple[Path, ...]


def read_shell(options: argparse.Namespace) -> ShellRequest:
    """What is asked for. Raises: UsageError, no such file, or as :meth:`Booted.of_options`."""
    _check_put(options.put)
    return ShellRequest(Booted.of_options(options), tuple(options.put))


def act_shell(request: ShellRequest, output: Screen) -> int:
    """Boots, joins the terminal with the shell inside, ends with the shell's status."""
    left: list[bool] = []
    ended: list[Exited] = []

    def take(event: Event) -> None:
        if isinstance(event, End) and isinstance(event.result, Exited):
            ended.append(event.result)

    STOPPED.set(lambda: bool(left))
    with (
        joined(lambda: left.append(True)) as terminal,
        request.booted.ready(output, terminal.path, _shell_parts()) as (one, machine),
    ):
        step = Exec((BUSYBOX, "sh", "-c", _script(terminal)), env=_environment(one), required=True)
        files = {**_with_libraries(_put(request.put)), "etc/motd": _welcome(one, request.put).encode()}
        try:
            machine.run(request.booted.job(one, step, files=files, timeout_s=NO_LIMIT_S), take)
        except LostMachineError:
            if not left:
                raise
            return ExitCode.PASS
    return _status(ended[0])


def _script(terminal: Joined) -> str:
    """What makes the second serial port the terminal of a shell, and waits for that."""
    size = f"stty rows {terminal.rows} cols {terminal.columns}; " if terminal.rows else ""
    inner = f"cat /etc/motd; {BUSYBOX} --install -s /bin; {size}exec sh -i"
    # setsid would not wait in a process that leads a group, as the outer shell does; so it is not the last command.
    return f"{BUSYBOX} setsid -c sh -c '{inner}' <{_TERMINAL} >{_TERMINAL} 2>&1; exit $?"


def _environment(one: Chosen) -> dict[str, str]:
    return {**ENVIRONMENT, "TERM": os.environ.get("TERM", "vt100"), "PS1": f"{one.variant.id.name}# "}


def _welcome(one: Chosen, put: Iterable[Path]) -> str:
    names = " ".join(path.name for path in put)
    return _WELCOME.format(
        kernel=f"Linux {one.kernel.release}",
        variant=one.variant.id.name,
        modules=", ".join(one.variant.id.patches) or one.variant.id.source,
        files=names and f"; here: {names}",
    )


def _shell_parts() -> ImageParts:
    """Besides what every image holds: all of this package, with the assembler and the guests' sources."""
    sources = {f"{LIBRARY.lstrip('/')}/kvmharness/guests/{path.name}": path for path in source_folder().iterdir()}
    return ImageParts(_PACKAGES, files={**sources, "bin/kvmharness": _KVMHARNESS})
