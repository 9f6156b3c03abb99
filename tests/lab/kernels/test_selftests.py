"""Selftests on a machine that is only pretended: one that takes the host down costs a boot, and is named."""

from pathlib import Path

import pytest

from kvmharness.lab.events import Begin, Bye, End, Hello, Output
from kvmharness.lab.job import HangError, KernelPanicError
from kvmharness.lab.kernels.selftests import run
from kvmharness.lab.steps import Exited, Load

BINARIES = {name: Path(f"/{name}") for name in ("first", "second", "third")}


class Host:
    """Does what each test is said to do: an exit status, or an error that ends the host."""

    def __init__(self, **tests):
        self.tests, self.boots = tests, []

    def run(self, job, on_event):
        names = [step.argv[0].rpartition("/")[2] for step in job.steps if not isinstance(step, Load)]
        self.boots.append(names)
        on_event(Hello("3.11", 1))
        on_event(Begin(0))
        on_event(End(0, ("kvm",)))
        for number, name in enumerate(names, 1):
            on_event(Begin(number))
            on_event(Output(number, f"{name} runs\n"))
            if isinstance(self.tests[name], Exception):
                raise self.tests[name]
            on_event(End(number, Exited(self.tests[name], None, False)))
        on_event(Bye())


def outcomes(host):
    return [(test.name, test.outcome, test.reason) for test in run(host, BINARIES, Path("/modules"))]


def test_all_in_one_boot():
    host = Host(first=0, second=4, third=254)
    assert outcomes(host) == [
        ("first", "pass", ""),
        ("second", "skip", "exit status 4"),
        ("third", "fail", "exit status 254"),
    ]
    assert len(host.boots) == 1


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (KernelPanicError("panicked", console=("[ 1.0] BUG: bad thing",)), "panic", "BUG: bad thing"),
        (HangError("silent for 9 s"), "hang", "silent for 9 s"),
    ],
)
def test_the_others_go_on_in_a_new_boot(error, outcome, reason):
    host = Host(first=0, second=error, third=0)
    found = run(host, BINARIES, Path("/modules"))
    assert [(test.outcome, test.reason) for test in found] == [("pass", ""), (outcome, reason), ("pass", "")]
    assert found[1].output == "second runs\n"
    assert host.boots == [["first", "second", "third"], ["third"]]


def test_a_host_that_dies_before_any_test_is_lost():
    class Dead:
        def run(self, job, on_event):
            raise KernelPanicError("panicked")

    with pytest.raises(KernelPanicError):
        run(Dead(), BINARIES, Path("/modules"))
