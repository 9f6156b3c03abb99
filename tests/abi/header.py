"""What a ``<linux/kvm.h>`` declares, by name: read by the preprocessor and by cffi's parser, which know no layout."""

import re
import subprocess
from functools import cached_property

from cffi import FFI

# What cffi does not parse, and what no struct of KVM has.
_PLAIN = (
    *("-D__attribute__(x)=", "-D__extension__=", "-D__signed__=signed", "-D__inline__=", "-D__asm__(x)="),
    "-U__SIZEOF_INT128__",
)
_FLEX_ARRAY = "__empty_"  # of the macro __DECLARE_FLEX_ARRAY: a struct without members before the array


class Header:
    """One version of the header.

    Args:
        folder: what ``make headers`` or ``make headers_install`` made; None for the system's own.
    """

    def __init__(self, folder=None):
        self.options = [] if folder is None else ["-isystem", str(folder)]

    @cached_property
    def version(self):
        """The kernel's release that the headers are of."""
        text = self._preprocessed("-dM", "-include", "linux/version.h")
        found = dict(re.findall(r"^#define LINUX_VERSION_(MAJOR|PATCHLEVEL|SUBLEVEL) (\d+)$", text, re.M))
        return ".".join(found[name] for name in ("MAJOR", "PATCHLEVEL", "SUBLEVEL"))

    @cached_property
    def macros(self):
        """Name to text."""
        return dict(re.findall(r"^#define (\w+(?:\([^)]*\))?) ?(.*)$", self._preprocessed("-dM"), re.M))

    @cached_property
    def ioctls(self):
        """The names of all of KVM's, other architectures' too."""
        found = {name for name, text in self.macros.items() if re.match(r"_IO\w*\s*\(\s*KVMIO\b", text)}
        return found | {name for name, text in self.macros.items() if re.match("__KVM_DEPRECATED_", text)}

    @cached_property
    def ffi(self):
        """The declarations."""
        builder = FFI()
        builder.cdef(re.sub(r"sizeof ?\(long\)", "8", self._preprocessed("-P", *_PLAIN)))
        return builder

    @cached_property
    def constants(self):
        """The names of macros, and of enumerators that are KVM's."""
        enums = re.findall(r"\benum \w* ?\{([^}]*)\}", self._preprocessed("-P"))
        return {*self.macros, *re.findall(r"\bKVM_\w+", " ".join(enums))}

    @cached_property
    def types(self):
        """Every struct and union, as C spells it."""
        return set(type_names(self.ffi))

    @cached_property
    def fields(self):
        """Every field of them, nested ones too, as ``struct kvm_run.io.port``."""
        return {f"{row[0]}.{row[1]}" for row in walk(self.ffi) if _FLEX_ARRAY not in row[1]}

    def _preprocessed(self, *options):
        command = ["cc", "-E", "-x", "c", *self.options, *options, "-"]
        done = subprocess.run(command, input="#include <linux/kvm.h>\n", text=True, capture_output=True, check=True)
        return done.stdout


def type_names(ffi):
    """Every struct and union that is not a typedef's alone, as C spells it."""
    _, structs, unions = ffi.list_types()
    return [*(f"struct {name}" for name in structs), *(f"union {name}" for name in unions)]


def walk(ffi):
    """Every field of every struct, nested ones too: (struct, C path, offset, size or None, bitfield?)."""
    for name in type_names(ffi):
        yield from _walk(ffi, name, ffi.typeof(name), "", 0)


def _walk(ffi, root, ctype, path, base):
    for name, field in ctype.fields:
        inner = f"{path}.{name}" if path and name else path or name
        offset = base + field.offset
        if field.bitsize >= 0:
            yield root, inner, offset, None, True
            continue
        flexible = field.type.kind == "array" and field.type.length is None
        if name:
            yield root, inner, offset, None if flexible else ffi.sizeof(field.type), False
        inside = field.type
        if inside.kind == "array":
            inside, inner = inside.item, f"{inner}[0]"
        if inside.kind in ("struct", "union"):
            yield from _walk(ffi, root, inside, inner, offset)
