"""One unit test as a test of a suite (see :class:`kvmharness.suites.test.SuiteTest`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvmharness.cells.params import Params
from kvmharness.guest.shipped import serial_loop
from kvmharness.lab.steps import Call
from kvmharness.results.tests import UNIT_TESTS
from kvmharness.suites.test import Line, Ran
from kvmharness.suites.unittests import shortened
from kvmharness.suites.unittests.config import Entry
from kvmharness.suites.unittests.judge import judged
from kvmharness.suites.unittests.multiboot import Bootable
from kvmharness.suites.unittests.options import Wanted
from kvmharness.suites.unittests.shortened import Patch

EXECUTE = "kvmharness.suites.unittests.execute:execute"
DATE = "`date +%s`"
"""The one substitution that arguments may have: it is made where the test runs."""

_FOLDER = "/unit-tests"
_BYTES_MAX = 1 << 23  # of output; three times what vmx.flat prints about the fields of a shadow VMCS


@dataclass(frozen=True, slots=True)
class Image:
    """An image that can be booted.

    Attributes:
        boot: how.
        patches: what is written over it for an emulated host.
    """

    boot: Bootable
    patches: tuple[Patch, ...]


@dataclass(frozen=True, slots=True)
class UnitTest:
    """An entry of unittests.cfg with its image.

    Attributes:
        entry: what the file says.
        path: of the image.
        image: None when there is none.
        wanted: the machine that it asks for.
        args: its command line.
        missing, params: see :class:`kvmharness.suites.test.SuiteTest`.
    """

    entry: Entry
    path: Path
    image: Image | None
    wanted: Wanted
    args: str
    missing: str
    params: Params

    @property
    def battery(self) -> str:
        """The suite."""
        return UNIT_TESTS

    @property
    def name(self) -> str:
        """The section's name."""
        return self.entry.name

    @property
    def alone(self) -> bool:
        """Each: a host that ran another one may have been left with a breakpoint, or with less memory."""
        return True

    @property
    def timeout_s(self) -> float:
        """As the file says."""
        return self.entry.timeout_s

    @property
    def files(self) -> Mapping[str, Path]:
        """The image."""
        return {f"{_FOLDER}/{self.path.name}": self.path}

    def step(self, *, inside: bool) -> Call:
        """Runs it; only for one that lacks nothing."""
        assert self.image is not None
        segments = [[each.offset, each.size, each.gpa, each.memory_bytes] for each in self.image.boot.segments]
        return Call(
            EXECUTE,
            {
                "image": f"{_FOLDER}/{self.path.name}" if inside else str(self.path),
                "segments": segments,
                "entry": self.image.boot.entry,
                "patches": [[offset, new.hex()] for offset, new in self.image.patches] if inside else [],
                "args": shortened.arguments(self.path.name, self.args) if inside else self.args,
                "smp": self.entry.smp,
                "memory_mb": self.wanted.memory_mb,
                "processor": self.wanted.processor.to_json(),
                "pit": self.wanted.pit,
                "cpu_pm": self.wanted.cpu_pm,
                "checks": [list(check) for check in self.entry.checks],
                "timeout_s": self.timeout_s,
                "bytes_max": _BYTES_MAX,
                "emulated": inside,
                "left_out": [list(each) for each in shortened.left_out(self.path.name, self.args)],
                "without_interrupts": shortened.without_interrupts(self.path.name),
                "serial_loop": serial_loop().hex(),
            },
        )

    def judged(self, ran: Ran) -> Sequence[Line]:
        """What came of it."""
        return judged(self.name, ran)
