"""Every error the tool raises on purpose, and the exit code each one ends in.

An error's text is one clear message: what was tried, on what, and what went wrong. ``hint`` says what to do next.
Anything that is not a :class:`KvmHarnessError` reaching the command line is a bug in the tool.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process answers to the script that called it."""

    PASS = 0
    FAIL = 1
    USAGE = 2
    INCONCLUSIVE = 3
    SKIPPED = 4
    LOST = 5
    INTERRUPTED = 130  # the shell's convention for SIGINT


class KvmHarnessError(Exception):
    """Base of all the tool's own errors.

    Attributes:
        exit_code: what the command line ends with when nobody handles the error.
        hint: what the user can do next, or an empty string.
    """

    exit_code = ExitCode.LOST

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(KvmHarnessError):
    """The request or an input file is wrong; nothing was run."""

    exit_code = ExitCode.USAGE


class HostRequirementError(KvmHarnessError):
    """This host lacks something that the request needs."""

    exit_code = ExitCode.SKIPPED


class GuestError(KvmHarnessError):
    """A guest did what it must not do, or did not do what it must: the kernel or the guest is wrong."""

    exit_code = ExitCode.FAIL


class LostMachineError(KvmHarnessError):
    """The emulated host, or another piece of infrastructure, went away: never a verdict on the kernel.

    Attributes:
        console: what the machine printed on its console, oldest first.
    """

    exit_code = ExitCode.LOST

    def __init__(self, message: str, hint: str = "", console: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.console = console

    @property
    def last_lines(self) -> tuple[str, ...]:
        """Of the console, as many as a terminal shows."""
        return self.console[-40:]
