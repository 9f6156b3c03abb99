"""An emulator that is started, and gone afterwards whatever happens: it has nothing worth saving by itself."""

import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from kvmharness.system.programs import die_with_parent, find

SAVE_TIMEOUT_S = 180.0
"""Wall seconds until a host is saved, several times what it takes on an idle machine."""

LARGEST_FILE = 1 << 30
"""Bytes of any file that an emulator writes: more than a saved host's memory."""

LOG = "emulator.log"
_END_BYTES = 1 << 16  # of a file of others, for a message
_STOP_WAIT_S = 5.0


@contextmanager
def started(
    argv: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    stdin: int = subprocess.DEVNULL,
    largest_file: int = LARGEST_FILE,
) -> Iterator[subprocess.Popen[bytes]]:
    """An emulator at work in *folder*, with a pipe from its standard output; the rest that it says is in :data:`LOG`.

    What it writes more than that into a file ends it: what it says may come from a guest that never stops.

    Args:
        argv: its command.
        folder: where it is started.
        environment: what it has of that besides ours.
        stdin: what is its standard input.
        largest_file: bytes that a file of its own may have, its log among them.

    Raises:
        MissingToolError: it is not installed.
    """
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            [*die_with_parent(), find(argv[0]), *argv[1:]],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=log,
            # Ctrl-C is for us; we stop the emulator ourselves.
            start_new_session=True,
        )
    try:
        _limit_files(process.pid, largest_file)
        yield process
    finally:
        # It leads a group of its own, and whatever it has started ends with it. It has not been waited for until here,
        # so its number is nobody else's.
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait(_STOP_WAIT_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _limit_files(pid: int, most: int) -> None:
    """Holds a process that has just been started, and all that it starts, to files of so many bytes."""
    with suppress(ProcessLookupError):  # it is gone already
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


def wait_for_end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Waits until a process has closed its standard output and ended; what it says there is dropped.

    Raises:
        subprocess.TimeoutExpired: it has not.
    """
    assert process.stdout is not None
    deadline, number = time.monotonic() + timeout_s, process.stdout.fileno()
    while (left := deadline - time.monotonic()) > 0:
        if select.select([number], [], [], left)[0] and not os.read(number, 1 << 16):
            break
    process.wait(max(0.0, deadline - time.monotonic()))


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process of ours is at its end; it is not waited for."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def used_s(pid: int) -> float:
    """The processor time that a process of ours has used, in seconds; 0 where it is gone.

    Source: Documentation/filesystems/proc.rst, table 1-4: utime and stime, in clock ticks.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def last_words(folder: Path) -> str:
    """What a dead emulator said, and its guest's console, for a message."""
    texts = [end_of(path).decode(errors="replace") for path in (folder / LOG, folder / "console") if path.exists()]
    return "\n".join(line for text in texts for line in text.splitlines()[-8:] if line.strip())


def end_of(path: Path) -> bytes:
    """The last of what an emulator has written into a file."""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _END_BYTES))
        return file.read(_END_BYTES)
