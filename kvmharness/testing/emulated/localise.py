"""Makes a report that was written in an emulated host speak of this machine's files.

In there the suite lies in a folder of its own and packages are byte code without source, so a traceback through them
shows nothing. Here the sources are at hand.
"""

import os
import sys
from collections.abc import Iterator
from linecache import getline
from pathlib import Path
from typing import Any

import pytest

from kvmharness.lab.image.interpreter import LIBRARY
from kvmharness.testing.emulated.suite import ROOT

_UNKNOWN = "???"


def localise(report: dict[str, Any], config: pytest.Config) -> None:
    """Changes a serialised report in place."""
    longrepr = report.get("longrepr")
    if isinstance(longrepr, list):  # of a skip: path, line, reason
        longrepr[0] = _shown(longrepr[0], config)
    if not isinstance(longrepr, dict):
        return
    if crash := longrepr.get("reprcrash"):
        crash["path"] = str(_local(crash["path"], config.rootpath))
    for entry in _entries(longrepr):
        place = entry.get("reprfileloc")
        if not place:
            continue
        path = _local(place["path"], config.rootpath)
        if (line := getline(str(path), place["lineno"]).strip()) and path != Path(place["path"]):
            entry["lines"] = [text.replace(_UNKNOWN, line) for text in entry["lines"]]
        place["path"] = _shown(place["path"], config)


def _entries(longrepr: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The entries of the traceback, and of those of the exceptions that led to it."""
    chain = [part[0] for part in longrepr.get("chain") or ()]
    for traceback in [*chain, longrepr.get("reprtraceback") or {}]:
        yield from (entry["data"] for entry in traceback.get("reprentries", ()))


def _local(path: str, root: Path) -> Path:
    """Where a file of the emulated host is on this machine, as far as it is."""
    if path.startswith(f"/{ROOT}/"):
        return root / path.removeprefix(f"/{ROOT}/")
    if path.startswith(f"{LIBRARY}/"):
        name = path.removeprefix(f"{LIBRARY}/")
        # A package's source may be a folder's __init__.py here, and was one file inside.
        for folder in sys.path:
            for found in (Path(folder, name), Path(folder, name.removesuffix(".py"), "__init__.py")):
                if found.is_file():
                    return found
    return Path(path)


def _shown(path: str, config: pytest.Config) -> str:
    """As pytest shows it: relative to where it was started, if that is shorter."""
    local = str(_local(path, config.rootpath))
    if not os.path.isabs(local):
        return local
    relative = os.path.relpath(local, config.invocation_params.dir)
    return min(relative, local, key=len)
