"""Has sequences done in an emulated host, and tells what went wrong: an error of no type of ours, or the kernel's."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from kvmharness.lab.events import Begin, Data, Dmesg
from kvmharness.lab.image.interpreter import LIBRARY
from kvmharness.lab.job import HangError, Job, KernelPanicError
from kvmharness.lab.steps import Call, Load, Unload
from kvmharness.results.kernelwords import reports
from tests.fuzz import calls, methods
from tests.fuzz.inside import IOCTLS, MARK, METHODS

FOLDER = Path(__file__).parent
MAKERS = {IOCTLS: calls.sequences, METHODS: methods.sequences}
_MARKED = re.compile(rf"{MARK} (\d+)\.(\d+) ")
# Bochs logs addresses to the PML buffer that are not those of pages, at which an unmodified kernel warns. The other
# vendor's module takes no notice.
_PARAMS = {"kvm_intel.pml": "0"}
_LAST = 5  # calls that are named with what the kernel reports
_SEQUENCE_S = 10.0  # wall seconds, and many more than one takes


@dataclass
class Hunted:
    """What came of some sequences.

    Attributes:
        level, seed: what they were made from; the seed is None where they were typed.
        sequences: they themselves.
        outcomes: how many calls ended in which way, by their names.
        failures: by number of the sequence: the shortest calls that fail, and how.
        reports: what the kernel said, behind which call of which sequence.
        lost: what the host died of; empty when it did not.
    """

    level: str
    seed: int | None
    sequences: list
    outcomes: dict = field(default_factory=dict)
    failures: dict = field(default_factory=dict)
    reports: list = field(default_factory=list)
    lost: str = ""
    _number: int = -1
    _call: int = -1

    @property
    def calls(self):
        """How many calls were made."""
        return sum(sum(counts.values()) for counts in self.outcomes.values())

    def take(self, event):
        """One event of the job."""
        if isinstance(event, Data) and "begins" in event.data:
            self._number, self._call = event.data["begins"], -1
        elif isinstance(event, Data):
            self._count(event.data)
        elif isinstance(event, Dmesg):
            self._look(event.lines)

    def _count(self, data):
        number = data["number"]
        for call, outcome in zip(self.sequences[number], data["outcomes"], strict=False):
            self.outcomes.setdefault(call["do"], Counter())[outcome] += 1
        if data["failure"]:
            self.failures[number] = (data["calls"], *data["failure"])

    def _look(self, lines):
        """Each report with the call that was the last one to begin before it."""
        piece = []
        for line in lines:
            if marked := _MARKED.search(line):
                self._tell(piece)
                piece, self._number, self._call = [], int(marked[1]), int(marked[2])
            else:
                piece.append(line)
        self._tell(piece)

    def _tell(self, lines):
        self.reports += [(self._number, self._call, words) for words in reports(lines)]

    def lose(self, error):
        """The host is gone; what its console says comes behind the last call that is known."""
        self.lost = str(error)
        self._tell(list(error.console))

    def text(self):
        """Everything that went wrong, with what it takes to see it again."""
        said = []
        for number, (failing, kind, why) in self.failures.items():
            said += [f"seed {self.seed}, {self.level}, sequence {number}: {kind}", why, *_typed(failing)]
        for number, call, words in self.reports:
            made = self.sequences[number][: call + 1] if call >= 0 else self.sequences[number]
            said += [f"seed {self.seed}, {self.level}, sequence {number}: the kernel says: {words.headline}"]
            said += [*words.text[:30], f"its last {_LAST} calls, of {len(made)}:", *_typed(made[-_LAST:])]
        if self.lost:
            said += [f"seed {self.seed}, {self.level}, sequence {self._number}: {self.lost}"]
            said += _typed(self.sequences[self._number][: self._call + 1 or None])
        return "\n".join(said)


def _typed(failing):
    return [json.dumps(call) for call in failing]


def made(level, seed, number):
    """The first sequences of a seed, to be done."""
    return Hunted(level, seed, list(islice(MAKERS[level](seed), number)))


def hunt(machine, modules, *parts, tell=lambda said: None):
    """Does the sequences of some :class:`Hunted` in one job, which tell what came of them afterwards.

    Args:
        machine: an emulated host.
        modules: the folder of KVM's.
        parts: what is to be done.
        tell: takes what is being done.
    """
    steps = [
        Call("tests.fuzz.inside:run", {"level": part.level, "sequences": part.sequences}, required=True)
        for part in parts
    ]
    number = sum(len(part.sequences) for part in parts)
    job = Job(
        (Load("fuzzed", _PARAMS), *steps, Unload()),
        files=_carried(),
        modules={"fuzzed": modules},
        timeout_s=300 + _SEQUENCE_S * number,
        silence_s=300,
    )
    now = parts[0]

    def take(event):
        nonlocal now
        if isinstance(event, Begin) and isinstance(job.steps[event.step], Call):
            now = parts[event.step - 1]
        before = len(now.reports)
        now.take(event)
        for number, call, words in now.reports[before:]:
            tell(f"sequence {number}, call {call}: {words.headline}")
        if isinstance(event, Data) and "begins" in event.data:
            tell(f"{now.level}, sequence {event.data['begins']} of {len(now.sequences)}")

    try:
        machine.run(job, take)
    except (KernelPanicError, HangError) as error:
        now.lose(error)
    return parts


def _carried():
    """These files, where the Python of an emulated host finds them."""
    place = f"{LIBRARY.lstrip('/')}/tests"
    own = {f"{place}/fuzz/{path.name}": path for path in FOLDER.glob("*.py") if not path.name.startswith("test_")}
    return {f"{place}/__init__.py": b"", **own}
