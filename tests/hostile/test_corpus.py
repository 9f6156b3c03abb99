"""No input makes the tool do anything but say, once and in time, what is wrong with it."""

import signal
import time

import pytest

from kvmharness.cli.main import main
from kvmharness.errors import UsageError
from kvmharness.validation.look import look
from tests.hostile import byhand, corpus

SEED, EACH = 12, 100
LONGEST_S = 5.0


class TooLongError(BaseException):
    """Not an Exception: nothing that the tool catches."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A kernel's source to which the patches apply, with the other things that stand beside an input."""
    tree = tmp_path_factory.mktemp("tree")
    (tree / "arch/x86/kvm").mkdir(parents=True)
    (tree / "Kconfig").write_text("")
    (tree / "arch/x86/kvm/demo.c").write_text("one\ntwo\nthree\n")
    (tree / "a.patch").write_bytes(byhand.mail("[PATCH] x"))
    (tree / "bzImage").write_bytes(
        bytes(0x202) + b"HdrS" + bytes(8) + b"\0\x04" + bytes(0x3F0) + b"6.1.0 x\0" + bytes(99)
    )
    for name, content in (("kvm.ko", b"\0depends=\0"), ("kvm-intel.ko", b"\0depends=kvm\0")):
        (tree / "modules").mkdir(exist_ok=True)
        (tree / "modules" / name).write_bytes(content)
    (tree / "units").mkdir()
    (tree / "units/a.flat").write_bytes(b"")
    return tree


def look_only(order, task, keeping):
    """In the place of a validation: all of it that is done before anything is built."""
    for place in order.places:
        look(order.series, place.base, order.variants)
    raise UsageError("that was all")


def judged(arguments, capfd):
    """What is wrong with how a command line ended, and how long it took."""
    started = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    try:
        code = main(arguments)
    except TooLongError:
        return "it does not end", LONGEST_S
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    took = time.monotonic() - started
    out, err = capfd.readouterr()
    told = [line for line in err.splitlines() if line.startswith("kvmharness: ")]
    if "Traceback" in out + err:
        return err.strip().splitlines()[-2], took
    if code == 2:
        if len(told) != 1 or out:
            return f"{len(told)} messages", took
        if len(told[0]) > 2100:
            return f"a message of {len(told[0])} characters", took
        return "" if told[0].isprintable() else f"a terminal obeys {told[0]!r}", took
    allowed = {"compare": (0, 1, 3, 4), "validate": ()}.get(arguments[0], (0,))
    return "" if code in allowed and not told else f"exit code {code}: {told}", took


@pytest.mark.slow
def test_no_traceback_no_hang_one_message(tree, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("kvmharness.validation.whole.run", look_only)

    def expired(number, frame):
        raise TooLongError

    before = signal.signal(signal.SIGALRM, expired)
    wrong, count, longest = [], 0, (0.0, "")
    try:
        for each in corpus.inputs(tree, SEED, EACH):
            folder = tmp_path / str(count)
            folder.mkdir()
            fault, took = judged(each.write(folder), capfd)
            count, longest = count + 1, max(longest, (took, f"{each.kind.name} {each.number}"))
            if fault:
                wrong.append(f"{folder} {each.kind.name} {each.number}: {fault}")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not wrong, "\n".join([f"{len(wrong)} of {count}", *wrong])
    assert count >= 1500
    assert longest[0] < LONGEST_S, longest
