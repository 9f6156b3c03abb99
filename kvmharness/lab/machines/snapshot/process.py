"""An emulator that is started to save a host, and gone afterwards whatever happens."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from kvmharness.system.programs import die_with_parent, find

SAVE_TIMEOUT_S = 180.0
"""Wall seconds until a host is saved, several times what it takes on an idle machine."""


@contextmanager
def started(argv: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """An emulator at work in *folder*, with pipes to its standard input and output.

    Raises:
        MissingToolError: it is not installed.
    """
    with (folder / "emulator.log").open("wb") as log:
        process = subprocess.Popen(
            [*die_with_parent(), find(argv[0]), *argv[1:]],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            # Ctrl-C is for us; we stop the emulator ourselves.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def last_words(folder: Path) -> str:
    """What a dead emulator said, and its guest's console, for a message."""
    texts = [
        path.read_text(errors="replace") for path in (folder / "emulator.log", folder / "console") if path.exists()
    ]
    return "\n".join(line for text in texts for line in text.splitlines()[-8:] if line.strip())
