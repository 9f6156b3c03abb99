"""The ioctls' structs by their declarations: the fields that numbers go into, and a struct's bytes from a few of them.

Loaded inside an emulated host, and used outside to choose fields.
"""

from kvmharness.abi.binding import ffi

# What says how long the array at a struct's end is.
COUNTS = {
    "struct kvm_cpuid2": "nent",
    "struct kvm_msrs": "nmsrs",
    "struct kvm_msr_list": "nmsrs",
    "struct kvm_irq_routing": "nr",
    "struct kvm_pmu_event_filter": "nevents",
    "struct kvm_signal_mask": "len",
}


def a_field(random, struct, room):
    """A number inside a struct, as a path such as ``cs.base`` or ``entries.3.index``; empty for a plain number.

    Args:
        random: chooses it.
        struct: its C type.
        room: entries of the array at its end.
    """
    path, at = [], ffi.typeof(struct)
    while at.kind in ("struct", "union", "array"):
        if at.kind == "array":
            index = random.randrange(room if at.length is None else at.length)
            path, at = [*path, str(index)], at.item
            continue
        plain = [(name, field.type) for name, field in at.fields if field.bitsize < 0]  # others are in a union with one
        fit = [each for each in plain if room or not _open_ended(each[1])]
        told = [each for each in fit if not each[0].startswith(("pad", "reserved"))]
        name, at = random.choice(told if told and random.randrange(8) else fit)
        path.append(name)
    return ".".join(path)


def place(struct, path):
    """Offset and length in bytes of the field at a path."""
    steps = [int(step) if step.isdigit() else step for step in path.split(".") if step]
    at = ffi.typeof(struct)
    for step in steps:
        at = at.item if isinstance(step, int) else dict(at.fields)[step].type
    return ffi.offsetof(struct, *steps) if steps else 0, ffi.sizeof(at)


def size_of(struct, room):
    """Bytes of a struct with *room* entries at its end; bytes, where it ends without an array."""
    fields = ffi.typeof(struct).fields if ffi.typeof(struct).kind == "struct" else ()
    last = fields[-1][1].type if fields else None
    return ffi.sizeof(struct) + room * (ffi.sizeof(last.item) if last is not None and _open_ended(last) else 1)


def _open_ended(at):
    return at.kind == "array" and at.length is None
