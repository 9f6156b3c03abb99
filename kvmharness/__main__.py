"""``python -m kvmharness`` and the console script."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and gives its exit code; see :func:`kvmharness.cli.main.main`."""
    try:
        # In here, so that Ctrl-C during the imports is one line too.
        from kvmharness.cli.main import main as run
    except KeyboardInterrupt:
        print("kvmharness: interrupted", file=sys.stderr)
        return 130
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
