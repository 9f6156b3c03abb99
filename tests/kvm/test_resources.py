"""One owner each: closed once, warned about when forgotten, harmless when closed again."""

import errno
import gc
import os

import pytest

from kvmharness.abi.binding import SYSTEM, SystemCallError, lib
from kvmharness.errors import HostRequirementError
from kvmharness.kvm import memory as backed
from kvmharness.kvm.memory import HUGE_BYTES, Memory, is_huge
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


def held():
    """The bytes of this process that are in memory, and those of them that are locked."""
    with open("/proc/self/status") as file:
        values = dict(line.split(":", 1) for line in file)
    return tuple(int(values[name].split()[0]) * 1024 for name in ("VmRSS", "VmLck"))


@pytest.mark.parametrize(("backing", "touched", "locked"), [(None, 0, 0), ((), 1, 0), (("locked",), 1, 1)])
def test_memory_that_is_touched_and_locked(backing, touched, locked):
    size = 4 * HUGE_BYTES if not locked else 0x100000  # an ordinary user may lock some
    before, before_locked = held()
    with Memory(0, size, 0, backing) as memory:
        there, there_locked = held()
        assert (there - before >= 0.9 * size) is bool(touched)
        assert there_locked - before_locked == locked * size
        assert memory.read(0x1000, 8) == bytes(8)
    assert held()[1] == before_locked


def test_memory_in_huge_pages_is_aligned_to_them_or_refused():
    try:
        memory = Memory(0, 2 * HUGE_BYTES, 0, ("huge",))
    except (HostRequirementError, SystemCallError):
        pytest.skip("this host has no huge pages to give")
    with memory:
        assert memory.address % HUGE_BYTES == 0
        assert is_huge(memory.address)
    assert not mapped(memory.address)


def test_a_backing_that_there_is_not():
    with pytest.raises(ValueError, match="backed as 'large': huge, locked"):
        Memory(0, HUGE_BYTES, 0, ("large",))


def test_huge_pages_that_are_not_given_are_said(monkeypatch):
    monkeypatch.setattr(backed, "is_huge", lambda address: False)
    try:
        with pytest.raises(HostRequirementError, match="no huge pages left"):
            Memory(0, HUGE_BYTES, 0, ("huge",))
    except SystemCallError:
        pytest.skip("this kernel has no transparent huge pages")


SMAPS = """\
7f0000000000-7f0000400000 rw-p 00000000 00:00 0
Size:               4096 kB
AnonHugePages:      {0} kB
VmFlags: rd wr mr mw me ac hg
7f0000400000-7f0000800000 rw-p 00000000 00:00 0
Size:               4096 kB
AnonHugePages:         0 kB
"""


@pytest.mark.parametrize(
    ("address", "huge_kb", "answer"),
    [
        (0x7F0000000000, 4096, True),
        (0x7F00003FFFFF, 4096, True),
        (0x7F0000000000, 2048, False),
        (0x7F0000400000, 4096, False),
        (0x7F0000800000, 4096, False),
    ],
)
def test_whether_all_of_a_mapping_is_in_huge_pages(tmp_path, address, huge_kb, answer):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/smaps").write_text(SMAPS.format(huge_kb))
    assert is_huge(address, str(tmp_path)) is answer


def test_where_the_kernel_does_not_tell_memory_is_not_huge(tmp_path):
    assert not is_huge(0x7F0000000000, str(tmp_path))


@pytest.mark.parametrize("align", [0x1000, 0x200000])
def test_a_mapping_is_aligned_and_leaves_nothing_around_it(align):
    mapping = Mapping(0x3000, lib.PROT_READ, lib.MAP_PRIVATE | lib.MAP_ANONYMOUS, -1, "test memory", align=align)
    address = mapping.address
    assert address % align == 0
    assert mapped(address)
    mapping.close()
    assert not mapped(address)
