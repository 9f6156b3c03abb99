"""The one place where an exception becomes a message, a hint and an exit code."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

from kvmharness.errors import ExitCode, KvmHarnessError, UsageError
from kvmharness.system.shown import shown

_LONGEST = 2000  # characters of a message
BISECT_SKIP = 125  # git bisect run: this revision cannot be judged
_SIGNAL_BASE = 128  # the shell's convention for a death by signal


def answer(command: Callable[[], int]) -> int:
    """Runs *command* and gives the process's exit code, whatever happens in it.

    A traceback is only shown for what nobody raised on purpose: it is a bug of the tool, never a verdict on a kernel.
    """
    try:
        with _terminable():
            code = command()
            _flush_results()  # here, where a full disk or a closed pipe can still be told
            return code
    except KvmHarnessError as error:
        _tell(str(error), error.hint, getattr(error, "last_lines", ()))
        return error.exit_code
    except KeyboardInterrupt:
        _tell("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _forget(sys.stdout)
        return _SIGNAL_BASE + signal.SIGPIPE
    except OSError as error:
        _forget(sys.stdout)
        _tell(*_describe(error))
        return ExitCode.LOST
    except MemoryError:
        _tell("this machine's memory, or what this process may have of it, is used up", "Free memory; see `ulimit -v`.")
        return ExitCode.LOST
    except Exception:
        import traceback

        with suppress(OSError):
            traceback.print_exc()
        _tell("this is a bug in kvmharness", "Report it with the command and the lines above.")
        return ExitCode.LOST


def for_bisect(code: int, *, judged: bool = True) -> int:
    """What `git bisect run` is to be told: good, bad, or 125 for all that is no verdict; a signal still ends it.

    Args:
        code: that the command ended with.
        judged: it came to its end; otherwise 1 is an error's code, and no commit is bad because of that.
    """
    if code == ExitCode.PASS or (code == ExitCode.FAIL and judged) or code >= _SIGNAL_BASE:
        return code
    return BISECT_SKIP


def check_results_have_a_place() -> None:
    """Refuses a standard output that takes nothing, before an hour is spent on what is to be printed there.

    Raises:
        UsageError: it is closed, or a full device, say.
    """
    hint = "Send it to /dev/null if nobody is to read it."
    if sys.stdout is None:  # it was closed before we began
        raise UsageError("standard output is closed", hint)
    try:
        os.write(1, b"")
    except OSError as error:
        raise UsageError(f"cannot write to standard output: {_describe(error)[0]}", hint) from None


def _flush_results() -> None:
    sys.stdout.flush()


def shortened(message: str) -> str:
    """A message, which may show what somebody else wrote, at a length that can be read."""
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."


def _tell(message: str, hint: str = "", console: tuple[str, ...] = ()) -> None:
    lines = [f"kvmharness: {shortened(message)}"]
    if console:
        lines += ["the machine's last lines:", *(f"  | {line}" for line in console)]
    if hint:
        lines.append(f"hint: {hint}")
    # Without a standard error, or with one on a full disk, there is nobody to tell; the exit code stays what it is.
    if sys.stderr is not None:  # print() would take the standard output for it
        with suppress(OSError, ValueError):
            print(shown("\n".join(lines)), file=sys.stderr, flush=True)


def _describe(error: OSError) -> tuple[str, str]:
    name = errno.errorcode.get(error.errno or 0, "no errno")
    what = f"{error.filename}: " if error.filename else ""
    hints = {
        errno.ENOSPC: "Free space there, or write elsewhere; the cache is under $XDG_CACHE_HOME/kvmharness.",
        errno.EDQUOT: "Your disk quota is used up.",
        errno.EACCES: "Check who may read and write it.",
        errno.EROFS: "Write elsewhere; the cache is under $XDG_CACHE_HOME/kvmharness.",
        errno.EFBIG: "Raise the limit of files' sizes: ulimit -f.",
        errno.EMFILE: "Raise the limit of open files: ulimit -n.",
        errno.EAGAIN: "Raise the limit of processes: ulimit -u.",
        errno.ENOMEM: "Free memory.",
    }
    return f"{what}{error.strerror or error} ({name})", hints.get(error.errno or 0, "")


def hold_streams() -> None:
    """Opens what was closed of the three standard streams, so that no file of ours gets a number that children use."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number: this one


def settle_streams() -> None:
    """Writes what is still buffered, or forgets it: at its end the interpreter would answer 120 for what cannot be."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            _forget(stream)


def _forget(stream: TextIO | None) -> None:
    """What is still buffered cannot be written; the interpreter must not try again at its end and complain."""
    try:
        fd = -1 if stream is None else stream.fileno()
    except (OSError, ValueError):
        return
    if fd < 0:
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, fd)
    os.close(null)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the stack like Ctrl-C does: emulators are stopped, files removed, modules put back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise SystemExit(_SIGNAL_BASE + number)

    # Who started us with nohup wants a closed terminal to mean nothing.
    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, terminate) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
