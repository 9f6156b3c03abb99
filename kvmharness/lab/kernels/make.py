"""Runs the kernel's ``make``: with progress, a time limit, and errors that show the compiler's own lines."""

import contextlib
import errno
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache as cache_results
from pathlib import Path

from kvmharness.errors import KvmHarnessError
from kvmharness.system import cache, sandbox
from kvmharness.system.packages import KERNEL_TOOLS, missing
from kvmharness.system.programs import DiskFullError, MissingToolError, Progress, disk_errors, find, run

_REPORT_S = 1.0
_GONE_S = 5.0
_KEPT_LINES = 20_000
_SHOWN_LINES = 16
_TELLING = re.compile(
    r"\berror\b|\bError \d|undefined reference|\*\*\*|not found|No such file|Read-only file system|is unreachable",
    re.IGNORECASE,
)
_OBJECT_LINE = re.compile(r"^  [A-Z][A-Z\[\]]+ +(?:\[M\] +)?(\S+)$")

# The same for every build of the same source, so that the result is; the time is any fixed one.
_ENVIRONMENT = {
    "LC_ALL": "C",
    # ccache looks at the dependency files that kernel builds write anyway, and need not preprocess first.
    "CCACHE_DEPEND": "1",
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 2026",
    "KBUILD_BUILD_USER": "kvmharness",
    "KBUILD_BUILD_HOST": "lab",
    "KBUILD_BUILD_VERSION": "1",
}

# What would change a build behind its back, or names a folder that it does not see.
_UNWANTED = ("ARCH", "CROSS_COMPILE", "MAKEFLAGS", "KBUILD_OUTPUT", "CC", "TMPDIR", "XDG_RUNTIME_DIR")


class KernelBuildError(KvmHarnessError):
    """``make`` failed or took too long.

    Attributes:
        lines: what the compiler said about it.
    """

    def __init__(self, message: str, lines: Sequence[str] = ()) -> None:
        super().__init__("\n".join([message, *lines]))
        self.lines = tuple(lines)


class BuildTimeoutError(KernelBuildError):
    """``make`` took too long."""


@dataclass(frozen=True, slots=True)
class Said:
    """What came of ``make``.

    Attributes:
        status: that it ended with; 0 when all was made.
        lines: what it and its programs said, at the most the last 20,000.
    """

    status: int
    lines: tuple[str, ...]


def check_tools() -> None:
    """Sees to it that a kernel can be built before minutes are spent on it.

    Raises:
        MissingToolError: names all packages that are missing, not only the first.
    """
    if lacking := missing(KERNEL_TOOLS):
        raise MissingToolError(*lacking)


def make(
    tree: Path,
    *targets: str,
    what: str,
    progress: Progress,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    scratch: Path | None = None,
    base: Path | None = None,
) -> tuple[str, ...]:
    """Runs ``make TARGETS`` in *tree*.

    Args:
        what, progress, timeout_s, env, scratch, base: as :func:`outcome`.

    Returns:
        What it said, as :attr:`Said.lines`.

    Raises:
        KernelBuildError, BuildTimeoutError, DiskFullError, MissingToolError.
    """
    said = outcome(
        tree, *targets, what=what, progress=progress, timeout_s=timeout_s, env=env, scratch=scratch, base=base
    )
    if said.status != 0:
        telling = [line for line in said.lines if _TELLING.search(line)] or said.lines
        raise KernelBuildError(f"{what}: make failed (status {said.status})", telling[:_SHOWN_LINES])
    return said.lines


def outcome(
    tree: Path,
    *targets: str,
    what: str,
    progress: Progress,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    scratch: Path | None = None,
    base: Path | None = None,
) -> Said:
    """Runs ``make TARGETS`` in *tree*, which may fail; in a sandbox where this machine has one.

    Args:
        what: what is being made, for progress and error messages.
        progress: takes a line about once a second.
        timeout_s: after so long it is stopped and counts as failed.
        env: more environment variables.
        scratch: the folder that *tree* is in, and that it may write to; *tree* itself without it.
        base: the tree that links in *tree* lead to.

    Raises:
        BuildTimeoutError, DiskFullError, MissingToolError.
    """
    # ccache makes the second build of nearly the same source a matter of seconds.
    compiler, objects, environment = [], [], {**_clean_environment(), **_ENVIRONMENT, **(env or {})}
    if folder := _ccache_folder():
        compiler, objects, environment["CCACHE_DIR"] = ["CC=ccache gcc"], [folder], str(folder)
    jobs = f"-j{len(os.sched_getaffinity(0)) + 1}"
    within = enclosed(scratch or tree, base, *objects)
    process = subprocess.Popen(
        [*within, find("nice"), "-n", "5", find("make"), jobs, *compiler, *targets],
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A group of its own, so that all compilers end together, on Ctrl-C too.
        start_new_session=True,
    )
    try:
        lines, in_time = _follow(process, what, progress, timeout_s)
    except BaseException:
        _kill_group(process)
        raise
    if not in_time:
        _kill_group(process)
        raise BuildTimeoutError(f"{what}: not done after {timeout_s:g} s, stopped", list(lines)[-_SHOWN_LINES:])
    status = process.wait()
    if status != 0 and any(os.strerror(errno.ENOSPC) in line for line in lines):
        raise DiskFullError(tree)
    return Said(status, tuple(lines))


def enclosed(scratch: Path, base: Path | None, *more: Path) -> list[str]:
    """What a command begins with that runs what a patched tree says; a sandbox where this machine has one.

    Args:
        scratch: the folder that it may write to, with the patched tree.
        base: the tree that the links in the patched one lead to.
        more: more folders to write to.
    """
    return sandbox.prefix((scratch, *more), (cache.root(), *([base] if base else [])))


@cache_results
def _ccache_folder() -> Path | None:
    """Where ccache keeps objects, made if it is not there; None without ccache."""
    if shutil.which("ccache") is None:
        return None
    folder = Path(run(["ccache", "--get-config", "cache_dir"]).decode().strip())
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _clean_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in _UNWANTED}


def _follow(
    process: subprocess.Popen[bytes], what: str, progress: Progress, timeout_s: float
) -> tuple[deque[str], bool]:
    """Reads make's output to its end: (the last lines, whether it ended in time)."""
    assert process.stdout is not None
    started = time.monotonic()
    reported = started
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    rest, objects, latest = "", 0, ""
    with process.stdout as stdout, selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while True:
            if selector.select(_REPORT_S):
                chunk = os.read(stdout.fileno(), 1 << 16)
                if not chunk:
                    return lines, True
                *whole, rest = (rest + chunk.decode(errors="replace")).split("\n")
                for line in whole:
                    match = _OBJECT_LINE.match(line)
                    if match:
                        objects, latest = objects + 1, match[1]
                    lines.append(line)
            now = time.monotonic()
            if now - started > timeout_s:
                return lines, False
            if now - reported >= _REPORT_S:
                reported = now
                progress(f"{what}: {objects} objects in {now - started:.0f} s, {latest}")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # The first process of a sandbox is in the group, and is gone after all the others in there.
        deadline = time.monotonic() + _GONE_S
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.01)
    process.wait()
