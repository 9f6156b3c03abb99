"""Every size, offset, number and constant that the package declares, against the system's headers."""

import shutil
from functools import reduce

import pytest

from kvmharness.abi import cdef
from kvmharness.abi.binding import address_of, ffi, lib
from kvmharness.abi.constants import NEWER_THAN_6_1
from kvmharness.abi.ioctls import IOCTLS
from tests.abi import twin as twins

IN_LINUX_6_8 = {"KVM_CAP_MEMORY_FAULT_INFO": 232, "KVM_EXIT_MEMORY_FAULT": 39}
"""What that release's <linux/kvm.h> says of names that 6.1 does not know."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: `sudo apt install build-essential`")
    pytest.importorskip("setuptools", reason="cffi compiles through setuptools: `pip install setuptools`")
    return twins.compile_twin(tmp_path_factory.mktemp("twin"))


def test_every_type_has_the_header_s_size_and_alignment(twin):
    ours = {name: (ffi.sizeof(name), ffi.alignof(name)) for name in twins.type_names()}
    pairs = list(twin.lib.twin_types)
    theirs = dict(zip(twins.type_names(), zip(pairs[::2], pairs[1::2], strict=True), strict=True))
    assert ours == theirs
    assert ours["struct kvm_run"] == (2352, 8)


def test_every_field_is_where_the_header_has_it(twin):
    plain = [row for row in twins.fields() if not row[4]]
    ours = {f"{root}.{path}": offset for root, path, offset, _, _ in plain}
    theirs = {f"{root}.{path}": there for (root, path, *_), there in zip(plain, twin.lib.twin_offsets, strict=True)}
    assert ours == theirs
    assert ours["struct kvm_run.io.data_offset"] == 40


def test_every_field_is_as_long_as_in_the_header(twin):
    sized = [row for row in twins.fields() if row[3] is not None]
    ours = {f"{root}.{path}": size for root, path, _, size, _ in sized}
    theirs = {f"{root}.{path}": there for (root, path, *_), there in zip(sized, twin.lib.twin_sizes, strict=True)}
    assert ours == theirs


def _width(root, name):
    return dict(ffi.typeof(root).fields)[name].bitsize


def test_every_bitfield_has_the_header_s_bits(twin):
    bits = [row for row in twins.fields() if row[4]]
    assert {row[0] for row in bits} == {"struct perf_event_attr", "struct kvm_ioapic_state", "struct kvm_irqchip"}
    for number, (root, path, *_) in enumerate(bits):
        ours, theirs = ffi.new(f"{root} *"), ffi.new(f"{root} *")
        *steps, name = path.replace("[0]", ".0").split(".")
        target = reduce(lambda at, step: at[0] if step == "0" else getattr(at, step), steps, ours)
        width = dict(ffi.typeof(target).fields)[name].bitsize if steps else _width(root, name)
        setattr(target, name, (1 << width) - 1)
        twin.lib.twin_set_bits(number, twin.ffi.cast("void *", address_of(theirs)))
        assert bytes(ffi.buffer(ours)) == bytes(ffi.buffer(theirs)), path


@pytest.mark.parametrize("name", IOCTLS)
def test_ioctl_number(twin, name):
    assert hex(IOCTLS[name].number) == hex(getattr(twin.lib, name))


@pytest.mark.parametrize("name", twins.enum_constants())
def test_enum_constant(twin, name):
    theirs = getattr(twin.lib, name)
    if theirs == twins.ABSENT:
        assert name in NEWER_THAN_6_1  # the headers here are older than the constant
        theirs = IN_LINUX_6_8[name]
    assert twins.enum_constants()[name] == theirs


@pytest.mark.parametrize("name", twins.declared_constants())
def test_declared_constant(twin, name):
    # In API mode cffi compares the declared value with the compiled one when the name is first used.
    assert getattr(twin.lib, name) == twins.declared_constants()[name] == getattr(lib, name)


def test_the_twin_would_notice(tmp_path):
    """The safety net itself: a field too many is an error, not a shrug."""
    from cffi import FFI

    builder = FFI()
    builder.cdef("struct kvm_interrupt { uint32_t irq; uint32_t extra; };")
    builder.set_source("wrong_twin", "#include <linux/kvm.h>")
    with pytest.raises(Exception, match="CompileError"):
        builder.compile(tmpdir=str(tmp_path))


def test_the_generated_module_is_current(tmp_path):
    cdef.generate(tmp_path / "_kvm_abi.py")
    assert cdef.GENERATED.read_text() == (tmp_path / "_kvm_abi.py").read_text(), "run scripts/generate_abi.py"
