"""Regenerates kvmharness/abi/_kvm_abi.py from the C text in kvmharness/abi/decl/. Run after every change there."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main() -> int:
    """Writes the module and says where."""
    from kvmharness.abi import cdef

    cdef.generate(cdef.GENERATED)
    print(f"wrote {cdef.GENERATED.relative_to(ROOT)} ({cdef.GENERATED.stat().st_size} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
