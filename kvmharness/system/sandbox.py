"""A sandbox for commands that run what others wrote: no network, no privileges, nothing to write to but some folders.

Made of namespaces, which an ordinary user may have too, where the machine allows it. All processes of a sandbox are
below its first one in a PID namespace, so they end when that does, and that ends when we do, even by SIGKILL.
All files can be read there, and nothing read can leave, but by what is written and by what is said.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

from kvmharness.system import enclosed, watched
from kvmharness.system.programs import die_with_parent

_NAMESPACES = ("--user", "--map-root-user", "--net", "--ipc", "--mount", "--pid", "--fork", "--kill-child")
_TRY_TIMEOUT_S = 20.0


def prefix(writable: Sequence[Path], readable: Sequence[Path] = ()) -> list[str]:
    """What a command begins with to run in a sandbox, or in none where there can be none; it ends when we do.

    Args:
        writable: the folders that it may write to; they exist.
        readable: folders that it needs, though they may be where temporary files are, which it does not see.
    """
    if why_not():
        return [*die_with_parent("TERM"), *_script(watched)]
    return [*die_with_parent(), *_enclosing(writable, readable)]


def why_not() -> str:
    """Why this machine has no sandbox for us, in the words of what failed; empty where it has one. Tried once."""
    program = shutil.which("unshare")
    return _tried(program) if program else "unshare (package util-linux) is not installed"


@cache
def _tried(program: str) -> str:
    try:
        command = [program, *_enclosing((), ())[1:], "/bin/true"]
        # From a folder that is there inside, too: we may stand in one for temporary files.
        tried = subprocess.run(command, cwd="/", capture_output=True, timeout=_TRY_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = tried.stderr.decode(errors="replace").strip()
    return (said or f"unshare ended with status {tried.returncode}") if tried.returncode else ""


def _enclosing(writable: Sequence[Path], readable: Sequence[Path]) -> list[str]:
    writes, reads = ([os.path.realpath(folder) for folder in folders] for folders in (writable, readable))
    hidden = [folder for folder in reads if folder.startswith(tuple(f"{fresh}/" for fresh in enclosed.FRESH))]
    return ["unshare", *_NAMESPACES, "--mount-proc", "--", *_script(enclosed), *writes, "--", *hidden, "--"]


def _script(module: ModuleType) -> list[str]:
    assert module.__file__ is not None
    return [sys.executable, "-I", "-S", "-B", module.__file__]
