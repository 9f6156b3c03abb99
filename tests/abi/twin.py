"""The same declarations once more, compiled against the system's headers: what they say is the truth here."""

import re
from functools import cache

from kvmharness.abi import cdef
from kvmharness.abi.binding import ffi
from kvmharness.abi.constants import C_PREFIX, NEWER_THAN_6_1
from kvmharness.abi.ioctls import IOCTLS

ABSENT = 0xAB5E_17AB5E17
"""What a constant reads as when the system's header is older than the constant."""


@cache
def enum_constants():
    """C name to the value that our enums give it."""
    return {prefix + member.name: int(member) for enum, prefix in C_PREFIX.items() for member in enum}


@cache
def declared_constants():
    """The #define lines of the C text: name to value."""
    return {name: int(value, 0) for name, value in re.findall(r"^#define (\w+) (\w+)$", cdef.text(), re.M)}


@cache
def type_names():
    """Every type, as C spells it."""
    typedefs, structs, unions = ffi.list_types()
    return [*typedefs, *(f"struct {name}" for name in structs), *(f"union {name}" for name in unions)]


@cache
def fields():
    """Every field of every struct, nested ones too: (struct, C path, offset, size or None, bitfield?)."""
    _, structs, unions = ffi.list_types()
    rows = []
    for kind, names in (("struct", structs), ("union", unions)):
        for name in names:
            rows += _walk(f"{kind} {name}", ffi.typeof(f"{kind} {name}"), "", 0)
    return rows


def _walk(root, ctype, path, base):
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
            yield from _walk(root, inside, inner, offset)


def compile_twin(folder):
    """Builds the module in API mode and imports it."""
    import importlib.util

    from cffi import FFI

    plain = [row for row in fields() if not row[4]]
    bits = [row for row in fields() if row[4]]
    sized = [row for row in plain if row[3] is not None]
    names = [*enum_constants(), *IOCTLS]
    builder = FFI()
    builder.cdef(cdef.text() + "\n".join(f"#define {name} ..." for name in names) + _exports(plain, sized, bits))
    headers = "#ifndef _GNU_SOURCE\n#define _GNU_SOURCE\n#endif\n#include <stddef.h>\n#include <string.h>\n"
    headers += "".join(f"#include <{header}>\n" for header in cdef.HEADERS)
    headers += "".join(f"#ifndef {name}\n#define {name} {ABSENT}\n#endif\n" for name in NEWER_THAN_6_1)
    builder.set_source("abi_twin", headers + _definitions(plain, sized, bits), extra_compile_args=["-Wno-overflow"])
    library = builder.compile(tmpdir=str(folder))
    spec = importlib.util.spec_from_file_location("abi_twin", library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _exports(plain, sized, bits):
    return f"""
        extern size_t twin_types[{2 * len(type_names())}];
        extern size_t twin_offsets[{len(plain)}];
        extern size_t twin_sizes[{len(sized)}];
        void twin_set_bits(int which, void *target);
    """


def _definitions(plain, sized, bits):
    # Sizes and alignments too: cffi's own check of these gets nameless unions inside nameless structs wrong.
    types = ", ".join(f"sizeof({name}), _Alignof({name})" for name in type_names())
    offsets = ", ".join(f"offsetof({root}, {path})" for root, path, *_ in plain)
    sizes = ", ".join(f"sizeof((({root} *)0)->{path})" for root, path, *_ in sized)
    cases = "\n".join(
        f"case {number}: (({root} *)target)->{path} = ~0ull; break;" for number, (root, path, *_) in enumerate(bits)
    )
    return f"""
        size_t twin_types[] = {{ {types} }};
        size_t twin_offsets[] = {{ {offsets} }};
        size_t twin_sizes[] = {{ {sizes} }};
        void twin_set_bits(int which, void *target) {{ switch (which) {{ {cases} }} }}
    """
