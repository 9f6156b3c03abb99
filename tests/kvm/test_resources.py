"""One owner each: closed once, warned about when forgotten, harmless when closed again."""

import errno
import gc
import os

import pytest

from kvmharness.abi.binding import SYSTEM, SystemCallError, lib
from kvmharness.kvm.memory import Memory
from kvmharness.kvm.resources import FdHolder, Mapping


def assert_closed(number):
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        os.fstat(number)
    assert caught.value.errno == errno.EBADF


def mapped(address):
    with open("/proc/self/maps") as maps:
        ranges = [line.split()[0].split("-") for line in maps]
    return any(int(start, 16) <= address < int(end, 16) for start, end in ranges)


def anonymous(size=0x5000):
    return Mapping(size, lib.PROT_READ | lib.PROT_WRITE, lib.MAP_PRIVATE | lib.MAP_ANONYMOUS, -1, "test memory")


@pytest.fixture
def number():
    return os.open("/dev/null", os.O_RDONLY)


def test_close_closes_once(number):
    holder = FdHolder(number, SYSTEM, "device")
    holder.close()
    assert_closed(number)
    assert holder.number == -1
    other = os.open("/dev/null", os.O_RDONLY)  # gets the same number
    try:
        holder.close()
        os.fstat(other)
    finally:
        os.close(other)


def test_context_manager_closes_on_an_error(number):
    with pytest.raises(KeyError), FdHolder(number, SYSTEM, "device"):
        raise KeyError
    assert_closed(number)


def test_a_forgotten_fd_warns_and_is_closed(number):
    with pytest.warns(ResourceWarning, match=rf"device \(fd {number}\) was never closed"):
        FdHolder(number, SYSTEM, "device")
    assert_closed(number)


def test_a_holder_that_never_began_is_silent_and_leaves_the_fd_alone(number):
    with pytest.raises(TypeError):
        FdHolder(number)
    with pytest.raises(TypeError):
        Mapping(0x1000)
    gc.collect()  # a finalizer that fails is a warning, and so an error here
    os.close(number)


def test_mapping_is_gone_after_close():
    mapping = anonymous()
    address = mapping.address
    assert mapped(address)
    mapping.close()
    mapping.close()
    assert not mapped(address)
    assert mapping.address == 0
    with pytest.raises(ValueError, match="test memory is closed"):
        _ = mapping.view


def test_a_view_outlives_the_mapping_safely():
    mapping = anonymous()
    address = mapping.address
    view = mapping.view[0x1000:0x1004]
    mapping.close()
    view[:] = b"late"
    assert bytes(view) == b"late"
    assert mapped(address)
    del view
    assert not mapped(address)


def test_a_forgotten_mapping_warns_and_is_unmapped():
    with pytest.warns(ResourceWarning, match=r"test memory .* was never closed"):
        address = anonymous().address
    assert not mapped(address)


def test_mmap_refused():
    with pytest.raises(SystemCallError, match=r"mmap of .* for test memory: ENOMEM") as caught:
        anonymous(1 << 60)
    assert caught.value.errno == errno.ENOMEM
    assert "less" in caught.value.hint


@pytest.fixture
def memory():
    with Memory(0x100000, 0x3000, 2) as memory:
        yield memory


def test_memory_is_addressed_by_gpa(memory):
    memory.write(0x101FFE, b"abcd")
    assert memory.read(0x102000, 2) == b"cd"
    assert bytes(memory.buffer[0x1FFE:0x2002]) == b"abcd"
    assert memory.hva == memory.address
    assert (memory.size, memory.slot, memory.gpa) == (0x3000, 2, 0x100000)


def test_many_pieces_are_written_at_once(memory):
    memory.fill([(0x100000, b"ab"), (0x102FFE, b"yz")])
    assert (memory.read(0x100000, 3), memory.read(0x102FFD, 3)) == (b"ab\0", b"\0yz")
    for gpa in (0xFFFFF, 0x102FFF):
        with pytest.raises(ValueError, match="outside"):
            memory.fill([(gpa, b"ab")])


def test_words_are_little_endian(memory):
    memory.write_u64(0x100008, 0x1122334455667788)
    assert memory.read(0x100008, 8) == bytes.fromhex("8877665544332211")
    assert memory.read_u64(0x100008) == 0x1122334455667788


@pytest.mark.parametrize(("gpa", "length"), [(0xFFFFF, 1), (0x102FFF, 2), (0x103000, 1), (0x100000, -1)])
def test_outside_of_the_memory(memory, gpa, length):
    with pytest.raises(ValueError, match=r"outside of the memory at 0x100000\.\.0x103000"):
        memory.read(gpa, length)


def test_a_write_that_does_not_fit_writes_nothing(memory):
    with pytest.raises(ValueError, match="outside"):
        memory.write(0x102FFF, b"ab")
    assert memory.read(0x102FFF, 1) == b"\0"


@pytest.mark.parametrize(("gpa", "size"), [(0x800, 0x1000), (0, 0x800), (0, 0), (0, -0x1000)])
def test_memory_is_whole_pages(gpa, size):
    with pytest.raises(ValueError, match="whole pages"):
        Memory(gpa, size, 0)


def test_closed_memory_says_so():
    memory = Memory(0, 0x1000, 0)
    memory.close()
    with pytest.raises(ValueError, match="closed"):
        memory.read(0, 1)
