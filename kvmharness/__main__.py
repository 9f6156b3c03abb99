"""``python -m kvmharness`` and the console script."""

import sys

from kvmharness.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
