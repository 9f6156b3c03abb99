"""The user's own emulator: a Bochs or a QEMU built otherwise than the one that is installed.

What a program is, is found out by asking it, never by its name. What it holds tells it from every other one.
"""

import hashlib
import os
import selectors
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kvmharness.errors import UsageError
from kvmharness.hosts import catalogue
from kvmharness.hosts.catalogue import EmulatedHost, Emulator

VARIABLE = "KVMHARNESS_EMULATOR"
"""The environment variable that names one where no option does."""

_TIMEOUT_S = 10.0
_SAID_BYTES = 1 << 16
_ELF = b"\x7fELF"


@dataclass(frozen=True, slots=True)
class Build:
    """What an emulator says of itself.

    Attributes:
        version: its version.
        parts: what it was built with, of what its machine needs to know.
    """

    version: str
    parts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class OwnEmulator:
    """An emulator that the user names.

    Attributes:
        path: of the program, absolute.
        emulator: which one it is.
        build: what it says of itself.
        sha256: of the program, 64 hex digits.
    """

    path: Path
    emulator: Emulator
    build: Build
    sha256: str

    @property
    def identity(self) -> str:
        """Its version, and what tells it from another one of that version."""
        return f"{self.build.version} sha256:{self.sha256[:12]}"

    def for_host(self, host: EmulatedHost) -> "OwnEmulator | None":
        """Itself, if it emulates such hosts."""
        return self if host.emulator is self.emulator else None


def chosen_emulator(option: str, hosts: Iterable[EmulatedHost]) -> OwnEmulator | None:
    """The emulator that the user names for the hosts of its kind.

    Args:
        option: its path; when empty that of :data:`VARIABLE`, if there is one.
        hosts: where jobs are to run; with none of them, the variable does not count.

    Raises:
        UsageError: it is no emulator, or that of no host.
    """
    there = tuple(hosts)
    variable = os.environ.get(VARIABLE, "") if there else ""
    path, way_out = (option, "leave it away") if option else (variable, f"unset {VARIABLE}")
    if not path:
        return None
    if not there:
        raise UsageError("an emulator is of no use on this machine itself", "Choose an emulated --host for it.")
    own = identify(path)
    if not any(map(own.for_host, there)):
        fitting = next(host.spec for host in catalogue.HOSTS if own.for_host(host))
        others = ", ".join(dict.fromkeys(f"{host.name} runs in {host.emulator.title}" for host in there))
        raise UsageError(
            f"{path} is {own.emulator.title} {own.build.version}, but {others}",
            f"Choose --host {fitting}, name another emulator, or {way_out}.",
        )
    return own


def identify(text: str) -> OwnEmulator:
    """The emulator that a program is.

    Args:
        text: its path.

    Raises:
        UsageError: it is none, or cannot be started.
    """
    path = Path(os.path.abspath(text))
    sha256 = _checked(path, text)
    for emulator in catalogue.emulators():
        build: Build | None = emulator.machine_class().recognise(path)
        if build is not None:
            return OwnEmulator(path, emulator, build, sha256)
    known = " nor ".join(emulator.title for emulator in catalogue.emulators())
    raise UsageError(f"{text} is neither {known}: it does not answer as they do", _hint())


def _hint() -> str:
    return "Name the program itself: a Bochs (bochs-bin in Debian) or a qemu-system-x86_64."


def _checked(path: Path, text: str) -> str:
    """The hash of a program that can be started. Raises: UsageError, it is none."""
    try:
        if not path.is_file():  # of a FIFO, opening it would wait for ever
            path.stat()
            raise UsageError(f"{text} is no regular file", _hint())
        with path.open("rb") as file:
            is_elf = file.read(len(_ELF)) == _ELF
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest() if is_elf else ""
    except OSError as error:
        raise UsageError(f"{text}: {error.strerror}", _hint()) from None
    except ValueError:  # a NUL byte in it
        raise UsageError(f"{text!r} is no path", _hint()) from None
    if not sha256:
        raise UsageError(f"{text} is no program for Linux (ELF)", _hint())
    if not os.access(path, os.X_OK):
        raise UsageError(f"{text} is not executable", "Make it so: chmod +x")
    return sha256


def ask(program: Path, *words: str, told: bytes = b"") -> str:
    """What a program says, as far as it is short, on both its outputs, when it is started with these words.

    Args:
        program: to start, whatever it is.
        words: its arguments.
        told: its standard input.
    """
    try:
        process = subprocess.Popen(
            [program, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"},
            start_new_session=True,
        )
    except OSError as error:  # of another machine, for example
        raise UsageError(f"{program} does not start: {error.strerror}", _hint()) from None
    assert process.stdin is not None
    assert process.stdout is not None
    said, deadline = b"", time.monotonic() + _TIMEOUT_S
    with process.stdout as output, selectors.DefaultSelector() as selector:
        try:
            with process.stdin as stdin:
                stdin.write(told)
        except BrokenPipeError:
            pass
        selector.register(output, selectors.EVENT_READ)
        while len(said) < _SAID_BYTES and selector.select(max(0.0, deadline - time.monotonic())):
            if not (piece := os.read(output.fileno(), 1 << 12)):
                break
            said += piece
        process.kill()
        process.wait()
    return said.decode(errors="replace")
