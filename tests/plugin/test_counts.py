"""What tests count by name, and what KVM counts by itself."""

from types import SimpleNamespace

import pytest

from kvmharness.errors import HostRequirementError, UsageError
from kvmharness.testing.fixtures import counts


class Fake:
    """Counters of a kernel in which everything that is asked for happens seven times; one thing it does not have."""

    def __init__(self, specs):
        self.specs = specs
        self.missing = {spec.name: "no such function" for spec in specs if spec.name == "gone"}

    def start(self):
        pass

    def stop(self):
        return {spec.name: 7 for spec in self.specs}

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@pytest.fixture
def opened(monkeypatch):
    found = []
    monkeypatch.setattr(counts, "open_counters", lambda specs: found.append(Fake(specs)) or found[-1])
    return found


def test_one_name_is_a_number(opened):
    with counts.Count("nested_vmx_run") as entries:
        pass
    assert int(entries) == 7
    assert entries == 7
    assert [spec.function for spec in opened[0].specs] == ["nested_vmx_run"]


def test_several_names_functions_and_tracepoints(opened):
    with counts.Count("kvm_mmu_load", "kvm:kvm_exit") as found:
        pass
    assert (found["kvm_mmu_load"], found["kvm:kvm_exit"]) == (7, 7)
    assert opened[0].specs[1].event == "kvm:kvm_exit"
    with pytest.raises(UsageError, match="2 things were counted"):
        int(found)
    with pytest.raises(KeyError, match="kvm_entry was not counted, only kvm_mmu_load, kvm:kvm_exit"):
        found["kvm_entry"]


def test_what_cannot_be_counted(opened):
    with pytest.raises(HostRequirementError, match="gone: no such function"):
        counts.Count("gone").__enter__()
    for names in ((), ("a", "a")):
        with pytest.raises(UsageError, match="each once, is expected"):
            counts.Count(*names)
    with pytest.raises(UsageError, match="read after the `with` block"):
        int(counts.Count("a"))
    assert not counts.is_counting()


def test_statistics_are_differences(monkeypatch):
    reads = iter([{"exits": 5, "nested_run": 1}, {"exits": 9, "nested_run": 1}])

    def read_stats(fd):
        return SimpleNamespace(read=lambda: next(reads), delta=lambda a, b: {name: b[name] - a[name] for name in a})

    monkeypatch.setattr(counts, "StatsFd", read_stats)
    stats = counts.Statistics(SimpleNamespace(get_stats_fd=lambda: 3))
    with stats, pytest.raises(UsageError, match="read after"):
        stats["exits"]
    assert (stats["exits"], stats["nested_run"]) == (4, 0)
    assert repr(stats) == "<statistics: {'exits': 4}>"
    with pytest.raises(KeyError, match="there are exits, nested_run"):
        stats["exit"]


@pytest.mark.needs("kvm")
def test_statistics_of_a_guest(guest, assemble, kvm_stats):
    made = guest(assemble("entry: hlt\n jmp entry"))
    with kvm_stats(made.vcpu) as stats:
        made.run()
        made.run()
    assert stats["exits"] >= 2  # one for each HLT, and those for what this host must do besides
