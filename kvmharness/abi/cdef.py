"""The C declarations behind the binding: real C text, one file a topic, for the generator and for the header test.

Nothing imports this at run time: the generated module holds the same in a form that needs no parsing.
"""

from pathlib import Path

TOPICS = ("types", "libc", "signals", "perf", "kvm_x86", "kvm", "kvm_run", "kvm_xen", "kvm_sev")
"""The files of ``decl/`` in the order in which they refer to each other."""

HEADERS = (
    "fcntl.h",
    "unistd.h",
    "sched.h",
    "signal.h",
    "time.h",
    "sys/ioctl.h",
    "sys/mman.h",
    "sys/syscall.h",
    "linux/perf_event.h",
    "linux/kvm.h",
)
"""The system's own declarations of the same names."""

GENERATED = Path(__file__).with_name("_kvm_abi.py")
"""The out-of-line module that ``scripts/generate_abi.py`` writes."""


def text() -> str:
    """All declarations as one text, for ``FFI.cdef``."""
    folder = Path(__file__).with_name("decl")
    return "\n".join((folder / f"{topic}.h").read_text(encoding="ascii") for topic in TOPICS)


def generate(path: Path) -> None:
    """Writes the out-of-line ABI-mode module for the declarations.

    Raises: cffi.CDefError when the declarations do not parse.
    """
    from cffi import FFI

    builder = FFI()
    builder.cdef(text())
    builder.set_source("kvmharness.abi._kvm_abi", None)
    builder.emit_python_code(str(path))
