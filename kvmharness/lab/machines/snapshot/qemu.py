"""What it takes to save and to restore a host in QEMU: its migration stream, taken while the guest stands at an OUT.

The device pvpanic stops the machine when the guest writes to its port, at exactly that instruction. The guest's memory
is a file, which the stream leaves out.
"""

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kvmharness.errors import LostMachineError
from kvmharness.lab.machines.process import SAVE_TIMEOUT_S, last_words, started
from kvmharness.lab.machines.snapshot.state import STATE, NoSnapshotError

MEMORY = "ram"
PORT, SAVE_BYTE = 0x505, 0x01
"""docs/specs/pvpanic.rst: the port, and its bit for a guest that has panicked."""

STREAM = "stream"
_POLL_S = 0.05
_LINE_BYTES = 1 << 16  # of QEMU's own a line has fewer
_LEAVE_MEMORY_OUT = (
    "migrate-set-capabilities",
    {"capabilities": [{"capability": "x-ignore-shared", "state": True}]},
)
# The state that the machine was in, as the stream has it; padded so that no length changes.
_STOPPED, _RUNNING = b"guest-panicked\0", b"running".ljust(15, b"\0")


def memory_options(megabytes: int, *, shared: bool) -> list[str]:
    """The guest's memory as a file; *shared* while it is saved, so that the file changes."""
    share = "on" if shared else "off"
    return [
        *("-object", f"memory-backend-file,id=ram,size={megabytes}M,mem-path={STATE}/{MEMORY},share={share}"),
        *("-machine", "pc,memory-backend=ram"),
        *("-device", "pvpanic", "-action", "panic=pause"),
        *("-global", "migration.store-global-state=off"),
    ]


def restore_command(command: Sequence[str], folder: Path) -> list[str]:
    """Goes on with what was saved, in the place of a boot.

    Args:
        command: starts the machine, with its memory and its results, without a boot.
        folder: where it is started.
    """
    orders: tuple[tuple[str, Mapping[str, Any]], ...]
    orders = (("qmp_capabilities", {}), _LEAVE_MEMORY_OUT, ("migrate-incoming", {"uri": f"exec:cat {STATE}/{STREAM}"}))
    (folder / "orders").write_bytes(b"".join(_request(order, arguments) for order, arguments in orders))
    # QEMU takes orders from a socket, a pipe or its standard input. What it answers gets among the results as noise.
    words = [*command, "-incoming", "defer", "-qmp", "stdio"]
    return ["sh", "-c", 'exec "$@" <orders', "sh", *words]


def save(command: Sequence[str], folder: Path) -> None:
    """Boots until the guest stands at its OUT, and saves it to :data:`STATE` in *folder*.

    Args:
        command: boots a guest whose agent waits; with QMP on standard input and output.

    Raises:
        LostMachineError: the guest has not been saved.
        NoSnapshotError: the stream is not of the form that is known.
    """
    (folder / STATE).mkdir()
    with started(command, folder, {}, stdin=subprocess.PIPE) as process:
        qmp = _Qmp(process, folder)
        qmp.wait_for(lambda said: "QMP" in said)
        qmp.ask("qmp_capabilities")
        qmp.wait_for(lambda said: said.get("event") == "GUEST_PANICKED")
        qmp.ask(*_LEAVE_MEMORY_OUT)
        qmp.ask("migrate", {"uri": f"exec:cat > {STATE}/{STREAM}"})
        while (status := qmp.ask("query-migrate").get("status")) != "completed":
            if status in ("failed", "cancelled"):
                raise LostMachineError(f"QEMU did not save the host: {status}", last_words(folder))
            time.sleep(_POLL_S)
        qmp.ask("quit")
        process.wait(SAVE_TIMEOUT_S)
    path = folder / STATE / STREAM
    path.write_bytes(running(path.read_bytes()))


def running(stream: bytes) -> bytes:
    """A stream of a stopped machine as one of a machine that is to run.

    Raises:
        NoSnapshotError: it does not say once that the machine was stopped.
    """
    if stream.count(_STOPPED) != 1:
        raise NoSnapshotError("QEMU's migration stream does not say where the machine stopped")
    return stream.replace(_STOPPED, _RUNNING)


def _request(command: str, arguments: Mapping[str, Any]) -> bytes:
    return json.dumps({"execute": command, "arguments": dict(arguments)}).encode() + b"\n"


class _Qmp:
    """QEMU's machine protocol: a JSON object a line, answers and events mixed."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self._process, self._folder = process, folder
        self._deadline = time.monotonic() + SAVE_TIMEOUT_S
        self._lines = self._read()

    def ask(self, command: str, arguments: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        """Gives a command and returns its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(_request(command, arguments))
        self._process.stdin.flush()
        answer = self.wait_for(lambda said: "return" in said or "error" in said)
        if "error" in answer:
            error = answer["error"]
            why = error.get("desc") if isinstance(error, dict) else error
            raise LostMachineError(f"QEMU refuses {command}: {why}", last_words(self._folder))
        returned = answer["return"]
        return returned if isinstance(returned, dict) else {}

    def wait_for(self, wanted: Any) -> dict[str, Any]:
        """The first object that is *wanted*, and drops those before it."""
        for said in self._lines:
            if wanted(said):
                return said
        raise LostMachineError(
            "QEMU ended, or was not ready in time, before the host was saved", last_words(self._folder)
        )

    def _read(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout is not None
        rest, number = b"", self._process.stdout.fileno()
        while (left := self._deadline - time.monotonic()) > 0 and select.select([number], [], [], left)[0]:
            piece = os.read(number, 1 << 16)
            if not piece:
                return
            *whole, rest = (rest[-_LINE_BYTES:] + piece).split(b"\n")
            for line in whole:
                # What the guest says is in between.
                with suppress(ValueError, RecursionError):
                    if isinstance(said := json.loads(line), dict):
                        yield said
