"""The field classes: frozen where they should be, and strict about what they are given."""

import pytest

from kvmharness.kvm.exits import FailEntryExit, HltExit, InternalErrorExit, IoExit, ShutdownExit
from kvmharness.kvm.state import ClockData, Regs


def test_positional_keyword_and_default():
    assert Regs(1, rip=0x1000) == Regs(rax=1, rip=0x1000, rflags=2)


def test_the_default_rflags_is_the_reset_value():
    assert Regs().rflags == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({}, "missing the argument 'clock'"), ({"clock": 1, "clocks": 2}, "an unexpected argument 'clocks'")],
)
def test_wrong_fields(arguments, words):
    with pytest.raises(TypeError, match=words):
        ClockData(**arguments)


def test_too_many_fields():
    with pytest.raises(TypeError, match="takes 2 arguments, not 3"):
        FailEntryExit(1, 2, 3)


def test_exits_are_frozen_and_hashable():
    exit_ = FailEntryExit(0x80000021, 0)
    with pytest.raises(AttributeError, match="frozen"):
        exit_.cpu = 1
    with pytest.raises(AttributeError, match="frozen"):
        del exit_.cpu
    assert exit_ == FailEntryExit(0x80000021, 0)
    assert len({exit_, FailEntryExit(0x80000021, 0), FailEntryExit(0x80000021, 1)}) == 2


def test_exits_of_different_kinds_differ():
    assert HltExit() != ShutdownExit()
    assert HltExit() == HltExit()


def test_structs_can_be_changed_and_compared_but_not_hashed():
    regs = Regs()
    regs.rip = 0x1000
    assert regs == Regs(rip=0x1000)
    with pytest.raises(TypeError, match="unhashable"):
        hash(regs)
    with pytest.raises(AttributeError):
        regs.eip = 0


def test_replace_makes_a_copy():
    regs = Regs(rax=1)
    assert regs.replace(rbx=2) == Regs(rax=1, rbx=2)
    assert regs == Regs(rax=1)


def test_repr_is_hexadecimal_from_ten_on():
    assert repr(FailEntryExit(0x80000021, 3)) == "FailEntryExit(hardware_entry_failure_reason=0x80000021, cpu=3)"


def test_matching_by_position():
    match InternalErrorExit(1, (2, 3)):
        case InternalErrorExit(suberror, data, instruction):
            assert (suberror, data, instruction) == (1, (2, 3), b"")


def test_a_class_has_no_dict():
    assert not hasattr(IoExit(1, 1, 1, 1, b""), "__dict__")
