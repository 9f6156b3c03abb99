"""Runs a command and watches over all that it starts: they end together, and when they take too much.

A script that needs nothing but Python: ``python3 watched.py COMMAND...``, either as process 1 of a PID namespace, where
it also keeps to the limits, or anywhere, with SIGTERM to tell it that whoever started it is gone. It ends as the
command does, and none of the command's processes goes on after it.

Source: pid_namespaces(7), PR_SET_CHILD_SUBREAPER in prctl(2), proc_pid_statm(5).
"""

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

_PR_SET_CHILD_SUBREAPER = 36
_PERIOD_S = 0.25
_PAGE = os.sysconf("SC_PAGE_SIZE")

# Several times what the largest kernel build takes.
PROCESSES = 4096
MEMORY = os.sysconf("SC_PHYS_PAGES") * _PAGE // 4 * 3
"""Bytes, resident, of all of them."""
DISK_LEFT = 1 << 30
"""Bytes that they leave free where they write, or half of what there was."""


class TooMuchError(Exception):
    """The processes took more than they may, and what."""


def _processes() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]


def _resident(process: str) -> int:
    try:
        return int(Path("/proc", process, "statm").read_text().split()[1]) * _PAGE
    except OSError:  # gone meanwhile
        return 0


def _free(folder: str) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def check(floor: int) -> None:
    """Raises TooMuchError unless this PID namespace's processes keep to the limits; *floor* is what is to stay free."""
    processes = _processes()
    if len(processes) > PROCESSES:
        raise TooMuchError(f"more than {PROCESSES} processes")
    if sum(map(_resident, processes)) > MEMORY:
        raise TooMuchError(f"more than {MEMORY >> 20} MiB of memory")
    if _free(".") < floor:
        raise TooMuchError(f"less than {floor >> 20} MiB left on the disk")


def _end_all() -> None:
    """Ends all processes below this one, whatever they have done to get away from it."""
    if os.getpid() == 1:
        return  # the kernel does it when we end, to all at once: none can start another meanwhile
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while running := children.read_text().split():
        for child in running:
            os.kill(int(child), signal.SIGKILL)
        # Their own children are ours from then on.
        os.waitpid(int(running[0]), 0)


def _ended(command: int) -> int | None:
    """Takes leave of who has ended: the command's exit status, once it has."""
    status = None
    try:
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] == command:
                code = os.waitstatus_to_exitcode(found[1])
                status = code if code >= 0 else 128 - code
    except ChildProcessError:
        pass
    return status


def _watch(command: int) -> int:
    floor = min(DISK_LEFT, _free(".") // 2)
    while True:
        told = signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, _PERIOD_S)
        if (status := _ended(command)) is not None:
            return status
        if told and told.si_signo == signal.SIGTERM:
            return 128 + signal.SIGTERM
        if os.getpid() == 1:
            check(floor)


def _become(command: list[str]) -> NoReturn:
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
    os._exit(127)


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit status, 128 and the number for a signal."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    command = os.fork()
    if command == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _become(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command has it, too, and decides
    try:
        return _watch(command)
    except TooMuchError as error:
        print(f"error: all processes were stopped: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        _end_all()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
