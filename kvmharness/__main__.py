"""``python -m kvmharness`` and the console script."""

import sys
from collections.abc import Sequence
from contextlib import suppress


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and gives its exit code; see :func:`kvmharness.cli.main.main`."""
    try:
        # In here, so that Ctrl-C during the imports is one line too.
        from kvmharness.cli.main import main as run
    except KeyboardInterrupt:
        _tell("interrupted")
        return 130
    except (ImportError, OSError, MemoryError) as error:
        incomplete = isinstance(error, ImportError)
        # Otherwise a limit of open files or memory leaves no room for the tool itself.
        _tell(f"{'the installation is not complete' if incomplete else 'cannot start'}: {error or 'no memory'}")
        # An uncaught error is 1, and git takes that, and anything else below 125, for a bad commit.
        given = sys.argv[1:] if arguments is None else arguments
        return 125 if {"bisect", "--bisect"}.intersection(given) else 5
    return run(arguments)


def _tell(message: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):  # the exit code says enough
            print(f"kvmharness: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
