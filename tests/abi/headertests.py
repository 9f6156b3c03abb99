"""Every size, offset, number and constant that the package declares, against one version of the kernel's headers."""

from functools import reduce

import pytest

from kvmharness.abi.binding import ffi
from kvmharness.abi.ioctls import IOCTLS
from tests.abi import twin as twins
from tests.abi.known import CHECKED, why_not

_BITS = 64
GROWS = "struct perf_event_attr"  # its `size` tells the kernel how much of it a program knows


def unknown(header):
    """What a header has and we have not, for no reason that is known."""
    ours = {*twins.enum_constants(), *IOCTLS, *twins.type_names()}
    ours |= {f"{root}.{path}" for root, path, *_ in twins.fields()}
    theirs = {name for name in header.constants if "KVM_" in name} | header.types
    theirs |= {name for name in header.fields if name.partition(".")[0] in ours}
    return sorted(name for name in theirs - ours if not why_not(name))


class HeaderTests:
    """For a fixture `twin`, which is a :class:`tests.abi.twin.Twin`."""

    def test_every_type_has_the_header_s_size_and_alignment(self, twin):
        ours = {name: (ffi.sizeof(name), ffi.alignof(name)) for name in twins.type_names() if twin.has(name)}
        if ours[GROWS] != twin.types[GROWS]:
            assert ours.pop(GROWS) < twin.types.pop(GROWS)
        assert ours == twin.types
        assert ours["struct kvm_run"] == (2352, 8)

    def test_every_field_is_where_the_header_has_it(self, twin):
        ours = {f"{root}.{path}": offset for root, path, offset, _, bits in twins.fields() if not bits}
        ours = {name: offset for name, offset in ours.items() if twin.has(name)}
        assert ours == twin.offsets
        assert ours["struct kvm_run.io.data_offset"] == 40

    def test_every_field_is_as_long_as_in_the_header(self, twin):
        ours = {f"{root}.{path}": size for root, path, _, size, _ in twins.fields() if size is not None}
        assert {name: size for name, size in ours.items() if twin.has(name)} == twin.sizes

    def test_every_bitfield_has_the_header_s_bits(self, twin):
        rows = [row for row in twins.fields() if row[4]]
        assert {row[0] for row in rows} == {GROWS, "struct kvm_ioapic_state", "struct kvm_irqchip"}
        for root, path, *_ in rows:
            ours = ffi.new(f"{root} *")
            *steps, name = path.replace("[0]", ".0").split(".")
            target = reduce(lambda at, step: at[0] if step == "0" else getattr(at, step), steps, ours)
            width = dict((ffi.typeof(target) if steps else ffi.typeof(root)).fields)[name].bitsize
            setattr(target, name, (1 << width) - 1)
            theirs = twin.bits[f"{root}.{path}"]
            assert bytes(ffi.buffer(ours)) == theirs[: ffi.sizeof(root)], path

    def test_every_ioctl_has_the_header_s_number(self, twin):
        ours = {name: hex(op.number) for name, op in IOCTLS.items() if twin.has(name)}
        assert ours == {name: hex(number) for name, number in twin.ioctls.items()}

    def test_every_constant_has_the_header_s_value(self, twin):
        ours = twins.enum_constants() | twins.declared_constants()
        assert {name: value for name, value in ours.items() if twin.has(name)} == twin.constants
        # A negative one would be seen as a huge one.
        assert all(0 <= value < 1 << _BITS for value in ours.values())

    def test_nothing_of_the_header_is_missing_here(self, twin):
        """What a later header brought is named; it is an error only in a header that the table was made from."""
        found = unknown(twin.header)
        series, _, patch = twin.header.version.rpartition(".")
        what = f"<linux/kvm.h> of Linux {twin.header.version} has what is not declared here: {' '.join(found)}"
        if found and int(patch) > CHECKED.get(series, -1):
            pytest.skip(what)
        assert not found, what
