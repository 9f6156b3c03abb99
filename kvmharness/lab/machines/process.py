"""An emulator that is started, and gone afterwards whatever happens: it has nothing worth saving by itself."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from kvmharness.system.programs import die_with_parent, find

SAVE_TIMEOUT_S = 180.0
"""Wall seconds until a host is saved, several times what it takes on an idle machine."""

LOG = "emulator.log"
_STOP_WAIT_S = 5.0


@contextmanager
def started(
    argv: Sequence[str], folder: Path, environment: Mapping[str, str], *, stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """An emulator at work in *folder*, with a pipe from its standard output; the rest that it says is in :data:`LOG`.

    Args:
        argv: its command.
        folder: where it is started.
        environment: what it has of that besides ours.
        stdin: what is its standard input.

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
    texts = [path.read_text(errors="replace") for path in (folder / LOG, folder / "console") if path.exists()]
    return "\n".join(line for text in texts for line in text.splitlines()[-8:] if line.strip())
