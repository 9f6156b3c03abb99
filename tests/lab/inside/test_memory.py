"""What the kernel holds for itself, read from files as the kernel writes them."""

import pytest

from kvmharness.lab.inside import memory
from kvmharness.lab.inside.memory import kernel_memory

# Lines of a 6.1 kernel; kB.
MEMINFO = """MemTotal:         490000 kB
MemFree:          400000 kB
MemAvailable:     450000 kB
Buffers:               0 kB
Cached:            60000 kB
AnonPages:         12000 kB
Slab:               5000 kB
KernelStack:        1000 kB
PageTables:         2000 kB
"""
ZONEINFO = """Node 0, zone    DMA32
  pages free     100000
    cpu: 0
              count: 50
              high:  378
"""
SLABINFO = """slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit>
kmalloc-4k             10     16   4096    8    8 : tunables    0    0    0 : slabdata      2      2      0
dentry               5000   5040    192   21    1 : tunables    0    0    0 : slabdata    240    240      0
kvm_vcpu                1      3   9000    3    8 : tunables    0    0    0 : slabdata      1      1      0
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A /proc and a /sys; the cache kvm_vcpu is going away, so that its folder is not there any more."""
    monkeypatch.setattr(memory, "_SETTLES_S", 0)
    monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 4096}.__getitem__)
    (tmp_path / "proc/sys/vm").mkdir(parents=True)
    for name, text in (("meminfo", MEMINFO), ("zoneinfo", ZONEINFO), ("slabinfo", SLABINFO)):
        (tmp_path / "proc" / name).write_text(text)
    for name, reclaimable in (("kmalloc-4k", "0\n"), ("dentry", "1\n")):
        (tmp_path / "sys/kernel/slab" / name).mkdir(parents=True)
        (tmp_path / "sys/kernel/slab" / name / "reclaim_account").write_text(reclaimable)
        (tmp_path / "sys/kernel/slab" / name / "shrink").touch()
    (tmp_path / "sys/kernel/slab/going").mkdir()
    (tmp_path / "sys/kernel/slab/inode").symlink_to("dentry")
    (tmp_path / "proc/sys/vm/drop_caches").touch()
    return tmp_path


def test_what_is_neither_free_nor_of_processes_nor_to_be_given_back(root):
    # 490000 - 400000 - 60000 - 12000 - 5000 - 1000 - 2000 kB, less 50 pages that a CPU keeps
    assert kernel_memory(str(root)) == {"pages": 10000 * 1024 - 50 * 4096, "kmalloc-4k": 40960, "kvm_vcpu": 9000}


def test_everything_is_taken_from_the_kernel_first(root, monkeypatch):
    written, write = [], memory._write
    monkeypatch.setattr(memory, "_write", lambda path, text: (written.append(path), write(path, text)))
    kernel_memory(str(root))
    assert not any("inode" in path for path in written)  # one more name of the same cache
    assert (root / "proc/sys/vm/drop_caches").read_text() == "3"
    assert (root / "sys/kernel/slab/dentry/shrink").read_text() == "1"


@pytest.mark.parametrize("lost", ["proc/meminfo", "proc/slabinfo", "proc/zoneinfo"])
def test_a_kernel_that_does_not_tell(root, lost):
    (root / lost).unlink()
    assert kernel_memory(str(root)) == {}
