"""The kernel's log, as /dev/kmsg gives it."""

import pytest

from kvmharness.lab.inside.kernellog import lines_of


@pytest.mark.parametrize(
    ("record", "lines"),
    [
        (b"6,339,5140900,-;NET: Registered protocol family 10\n", ["NET: Registered protocol family 10"]),
        (b"4,1,2,c;a; b\n SUBSYSTEM=cpu\n DEVICE=c1:1\n", ["a; b"]),
        (rb"4,1,2,-;\x0abut task is already holding lock:" + b"\n", ["", "but task is already holding lock:"]),
        (rb"4,1,2,-;printed: \x5cx0a" + b"\n", [r"printed: \x5cx0a"]),
        (b"4,1,2,-;\xff\n", [r"\xff"]),
    ],
)
def test_a_record_is_its_lines(record, lines):
    assert lines_of(record) == lines
