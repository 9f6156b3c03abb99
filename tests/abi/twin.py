"""The same declarations once more, compiled against a header: what they say is the truth here."""

import re
import subprocess
from functools import cache, cached_property

from kvmharness.abi import cdef, constants, features, interrupts, sev, xen
from kvmharness.abi.binding import ffi
from kvmharness.abi.ioctls import IOCTLS
from tests.abi.header import walk

_START = """
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stddef.h>
#include <stdio.h>
#include <string.h>
"""
_BYTES = r"""
static void put_bytes(const char *name, const unsigned char *at, size_t size) {
    printf("bits\t%s\t", name);
    while (size--) printf("%02x", *at++);
    printf("\n");
}
"""


@cache
def enum_constants():
    """C name to the value that our enums give it, aliases and masks too."""
    prefixes = {}
    for module in (constants, features, interrupts, sev, xen):
        prefixes |= module.C_PREFIX
    return {prefix + name: int(value) for enum, prefix in prefixes.items() for name, value in enum.__members__.items()}


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
    """As :func:`tests.abi.header.walk`, of what we declare, but for perf's reserved bits: a later kernel names them."""
    return [row for row in walk(ffi) if not row[1].startswith("__reserved")]


class Twin:
    """What the compiler says of one header about all that we declare.

    Args:
        header: the header.
        folder: where the program goes.

    Attributes:
        header: as given.
        types: C name to (size, alignment).
        offsets, sizes: of fields, by ``struct name.path``.
        bits: of bitfields: the struct's bytes with all bits of that one set and no other.
        constants, ioctls: name to value.
        absent: names of ours that the header does not know; they are in none of the others.
    """

    def __init__(self, header, folder):
        self.header = header
        found = _run(self._program(), header, folder)
        self.types = {name: tuple(map(int, text.split())) for name, text in found["type"]}
        self.offsets = {name: int(text) for name, text in found["offset"]}
        self.sizes = {name: int(text) for name, text in found["size"]}
        self.bits = {name: bytes.fromhex(text) for name, text in found["bits"]}
        self.constants = {name: int(text) for name, text in found["constant"]}
        self.ioctls = {name: int(text) for name, text in found["ioctl"]}

    @cached_property
    def absent(self):
        """See the class."""
        known = self.header
        found = {name for name in (*enum_constants(), *IOCTLS) if name not in known.constants}
        found |= {name for name in type_names() if _is_kvms(name) and name not in known.types}
        for root, path, *_ in fields():
            if _is_kvms(root) and root not in found and f"{root}.{path}" not in known.fields:
                found.add(f"{root}.{path}")
        return found

    def has(self, name):
        """Whether the header knows a name of ours: a type, ``type.path``, a constant or an ioctl."""
        return name not in self.absent and name.partition(".")[0] not in self.absent

    def _program(self):
        lines = [f'printf("type\\t{n}\\t%zu %zu\\n", sizeof({n}), _Alignof({n}));' for n in type_names() if self.has(n)]
        for root, path, _, size, bitfield in fields():
            name = f"{root}.{path}"
            if not self.has(name):
                continue
            if bitfield:
                set_bits = f"memset(&v, 0, sizeof v); v.{path} = ~0ull;"
                lines.append(f'{{ {root} v; {set_bits} put_bytes("{name}", (void *)&v, sizeof v); }}')
                continue
            lines.append(f'printf("offset\\t{name}\\t%zu\\n", offsetof({root}, {path}));')
            if size is not None:
                lines.append(f'printf("size\\t{name}\\t%zu\\n", sizeof((({root} *)0)->{path}));')
        for kind, names in (("constant", (*enum_constants(), *declared_constants())), ("ioctl", IOCTLS)):
            lines += [f'printf("{kind}\\t{n}\\t%llu\\n", (unsigned long long)({n}));' for n in names if self.has(n)]
        # Functions are declared twice: the compiler compares.
        functions = re.findall(r"^\w[^;{}#]*\([^;{}]*\);$", cdef.text(), re.M)
        body = "\n".join(lines)
        return "\n".join([*functions, _BYTES, f"int main(void) {{\n{body}\nreturn 0;\n}}"])


def _is_kvms(name):
    return name.startswith(("struct kvm_", "union kvm_"))


def _run(program, header, folder):
    includes = "".join(f"#include <{name}>\n" for name in cdef.HEADERS)
    (folder / "twin.c").write_text(_START + includes + program)
    # Not for a narrow bitfield to which all bits are assigned.
    command = ["cc", "-Werror", "-Wno-overflow", *header.options, "twin.c", "-o", "twin"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = subprocess.run([folder / "twin"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = {kind: [] for kind in ("type", "offset", "size", "bits", "constant", "ioctl")}
    for line in lines:
        kind, name, text = line.split("\t")
        found[kind].append((name, text))
    return found
