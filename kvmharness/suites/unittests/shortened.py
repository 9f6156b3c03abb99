"""What is made shorter about a test when it runs in an emulated host, which takes a second for a real one's 20 ms.

Nothing that a test checks is changed: how often something is timed, and how a byte is sent.
"""

import re

Patch = tuple[int, bytes]
"""An offset in the file, and what stands there instead."""

# in al, dx; test al, 0x20; jz BACK: the port here is always ready, and to ask it costs an exit a byte.
_ASKS_WHETHER_READY = re.compile(rb"\xec\xa8\x20\x74.", re.DOTALL)
_READY = b"\xb0\x20\x90\x66\x90"  # mov al, 0x20; nop; nop
# By image: where a 32-bit number of rounds stands, and how many do.
_ROUNDS = {
    # cmp rdx, imm32: rounds are doubled until they take 2^30 cycles.
    "vmexit.flat": (re.compile(rb"(?<=\x48\x81\xfa)\xff\xff\xff\x3f"), (1 << 20) - 1),
    # mov qword [rip + x], imm32: a million rounds, whose mean is printed.
    "svm.flat": (re.compile(rb"(?<=\x48\xc7\x05....)\x40\x42\x0f\x00", re.DOTALL), 1000),
}
# Its numbers are worked out with IF=0, for minutes.
_WITHOUT_INTERRUPTS = ("sieve.flat",)
# By image and test: what ends all that comes behind it in Bochs (with VMX) or in QEMU (with SVM).
_LEFT_OUT = {
    "vmx.flat": {
        "vmx_preemption_timer*": "in Bochs the timer does not end a guest whose IF is 0",
        "preemption_timer": "in Bochs the timer does not end a guest whose IF is 0, and the test waits for a minute",
        "vmx_controls_test": "in Bochs a failed entry is followed by an exit, after which KVM declares the VM dead",
    },
    "svm.flat": {
        "msr_intercept_check": "in QEMU it takes minutes",
        "host_rflags": "in QEMU a breakpoint of it stays behind, and it never ends",
    },
}
_ARGUMENTS = {"kvmclock_test.flat": ("10000000", "100000")}  # rounds, likewise


def patches(name: str, data: bytes) -> tuple[Patch, ...]:
    """What is written over an image.

    Args:
        name: of its file.
        data: the file.
    """
    found = [(match.start(), _READY) for match in _ASKS_WHETHER_READY.finditer(data)]
    if name in _ROUNDS:
        pattern, rounds = _ROUNDS[name]
        found += [(match.start(), rounds.to_bytes(4, "little")) for match in pattern.finditer(data)]
    return tuple(found)


def without_interrupts(name: str) -> bool:
    """Whether a test is known to compute for long with IF=0."""
    return name in _WITHOUT_INTERRUPTS


def left_out(name: str, args: str) -> tuple[tuple[str, str], ...]:
    """Of an image's tests those that are not to be run in an emulator, unless the arguments choose some; with why."""
    words = args.split()
    if any(not word.startswith("-") for word in words):
        return ()
    return tuple((test, why) for test, why in _LEFT_OUT.get(name, {}).items() if f"-{test}" not in words)


def arguments(name: str, args: str) -> str:
    """A test's command line."""
    many, few = _ARGUMENTS.get(name, ("", ""))
    return args.replace(many, few) if many else args
