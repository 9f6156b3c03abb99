"""What a series is trusted with: its builds, where this machine has no sandbox for them, and this machine's kernel."""

import re
from collections.abc import Iterable

from kvmharness.errors import UsageError
from kvmharness.system import sandbox

UNSANDBOXED = "--allow-unsandboxed-build"
UNSANDBOXED_HELP = (
    "where this machine has no sandbox for builds: build a series that changes Makefiles, Kbuild or Kconfig files, "
    "scripts or tools, whose commands then run as you"
)
RELOADING = (
    "code of the series then runs in this machine's kernel, where nothing holds it: only for one that you would boot"
)

# What make runs or takes commands from, and programs that it builds in order to run them.
_RUN_BY_MAKE = re.compile(
    r"(?:^|/)(?:Makefile|Kbuild|Kconfig)[^/]*$|(?:^|/)(?:scripts|tools)/|\.(?:sh|pl|py|awk|mk|include)$"
)


def check_build(what: str, paths: Iterable[str], *, allowed: bool) -> None:
    """Refuses to let a series' own commands run as whoever runs us.

    Args:
        what: whose they are, for the message.
        paths: of the files that it changes.
        allowed: by :data:`UNSANDBOXED`.

    Raises:
        UsageError: there is no sandbox here, and a file that make runs or takes commands from is among them.
    """
    found = next((path for path in paths if _RUN_BY_MAKE.search(path)), None)
    if found is None or allowed or not sandbox.why_not():
        return
    raise UsageError(
        f"{what} changes {found}, from which a build takes commands, and there is no sandbox for it on this machine: "
        f"{sandbox.why_not()}",
        f"Read what it does to such files; then add {UNSANDBOXED}, or run it as a user who may make namespaces.",
    )


def note() -> str:
    """What is to be said once of builds on this machine; empty where they have a sandbox."""
    why = sandbox.why_not()
    return f"no sandbox for builds on this machine: {why}; they run as you, with your files and network" if why else ""
