"""Forged and malformed output of an emulator, as a process: the machine is lost, in time, and nothing passes."""

import json
import sys
import textwrap
import time
from dataclasses import replace

import pytest

from kvmharness.cli.errors import answer
from kvmharness.errors import ExitCode
from kvmharness.lab.events import MAX_EVENT_BYTES, Bye
from kvmharness.lab.inside.frames import frame
from kvmharness.lab.machines.supervisor import supervise
from tests.lab.test_jobrun import JOB, STREAM, WRONG_ORDERS, WRONG_SHAPES

LIMIT_S, OVER_S = 1.0, 2.0
PRELUDE = """
    import os, signal, sys, time
    from binascii import crc32
    def say(data):
        data = memoryview(data)
        while data: data = data[os.write(1, data):]
    def framed(data): return b"KVMH" + len(data).to_bytes(4, "little") + crc32(data).to_bytes(4, "little") + data
    def header(length): return b"KVMH" + length.to_bytes(4, "little") + b"bad."
    def console(text):
        with open("console", "a") as file: file.write(text)
    def forever(piece):
        while True: say(piece)
"""
FRAMES = [frame(json.dumps(row).encode()) for row in STREAM]
WHOLE = b"".join(FRAMES)
FIRST = b"".join(FRAMES[:5])  # up to data of the second step, which has not ended


def framed(rows):
    return b"".join(frame(row if isinstance(row, bytes) else json.dumps(row).encode()) for row in rows)


def flipped(at):
    return WHOLE[:at] + bytes([WHOLE[at] ^ 0x40]) + WHOLE[at + 1 :]


# What comes out, byte by byte, after which the emulator ends as if all were well.
STREAMS = {
    **{
        name: framed(rows)
        for name, rows in {**WRONG_SHAPES, **WRONG_ORDERS}.items()
        if name not in ("bye twice", "something after bye")  # the machine is ended with the first
    },
    "nothing": b"",
    "a whole job without its last byte": WHOLE[:-1],
    "a whole job without its first byte": WHOLE[1:],
    "a whole job in another order of bytes": WHOLE[::-1],
    "a whole job in UTF-16": WHOLE.decode("latin-1").encode("utf-16"),
    "a whole job as text": b"\n".join(json.dumps(row).encode() for row in STREAM),
    "a whole job in one frame": frame(json.dumps(STREAM).encode()),
    "a whole job inside of a frame": frame(WHOLE),
    "a header alone": FRAMES[0][:12],
    "an empty frame": FRAMES[0] + frame(b""),
    "null": FRAMES[0] + frame(b"null"),
    "NaN": FRAMES[0] + frame(b"NaN"),
    "one frame more than there may be in length": FRAMES[0] + b"KVMH" + (MAX_EVENT_BYTES + 1).to_bytes(4, "little"),
    **{f"a bit of frame {number} changed": flipped(len(b"".join(FRAMES[:number])) + 13) for number in range(15)},
    **{f"a length of frame {number} changed": flipped(len(b"".join(FRAMES[:number])) + 5) for number in (0, 3, 6, 14)},
    **{f"frame {number} twice": b"".join([*FRAMES[: number + 1], *FRAMES[number:]]) for number in (0, 1, 2, 7, 10)},
    **{f"without frame {number}": b"".join(FRAMES[:number] + FRAMES[number + 1 :]) for number in (0, 1, 2, 3, 7, 14)},
}
# What an emulator does.
BODIES = {
    "noise without end": "forever(os.urandom(1 << 16))",
    "magic words without end": "forever(b'KVMH' * 9999)",
    "halves of magic words without end": "forever(b'KVM' * 9999)",
    "headers of wild lengths without end": "forever(header(0xffffffff) * 9999)",
    "headers of possible lengths without end": "forever(header(1 << 24) * 9999)",
    "headers of nothing without end": "forever(header(0) * 9999)",
    "events without end": 'say(FIRST); forever(framed(b\'{"event":"output","step":1,"text":"x"}\') * 999)',
    "hello without end": "forever(FIRST[:80] * 99)",
    "a large event of brackets": "say(FIRST); say(framed(b'[' * (1 << 24)))",
    "a large event of digits": "say(FIRST); say(framed(b'1' * (1 << 24)))",
    "a large event of numbers": "say(FIRST); say(framed(b'[' + b'0,' * ((1 << 23) - 9) + b'0]'))",
    "a large event that drips": "say(FIRST); say(header(1 << 24))\nwhile True: say(b'x'); time.sleep(0.01)",
    "a large event that never comes": "say(FIRST); say(header(1 << 24)); time.sleep(60)",
    "silence": "time.sleep(60)",
    "silence in a step": "say(FIRST); time.sleep(60)",
    "its output closed": "say(FIRST); os.close(1); time.sleep(60)",
    "its end by a signal": "say(FIRST); os.kill(os.getpid(), signal.SIGSEGV)",
    "a status": "say(FIRST); sys.exit(77)",
    "a child with the pipe": "say(FIRST)\nif os.fork(): os._exit(0)\ntime.sleep(60)",
    "a child that floods the pipe": "say(FIRST)\nif os.fork(): os._exit(0)\nforever(b'x' * 9999)",
    "a child that says the rest": "say(FIRST[:-9])\nif os.fork(): os._exit(0)\ntime.sleep(30); say(FIRST[-9:])",
    "a console without end": "while True: console('x' * 999_999 + chr(10))",
    "a console of one line without end": "while True: console('x' * 999_999)",
    "a console that is no text": "open('console', 'wb').write(os.urandom(1 << 22)); say(FIRST)",
    "a folder in the console's place": "os.mkdir('console'); time.sleep(60)",
    "a log without end": "while True: os.write(2, b'x' * 999_999)",
    "a panic": "say(FIRST); console('Kernel panic - not syncing: \\x1b[2J' + chr(10)); time.sleep(60)",
    "SIGTERM ignored": "signal.signal(signal.SIGTERM, signal.SIG_IGN); say(FIRST); time.sleep(60)",
}


def lost(folder, body, capsys):
    """Has the emulator do *body*; what was heard, and what the user is told."""
    (folder / "emulator.py").write_text(textwrap.dedent(PRELUDE) + f"FIRST = {FIRST!r}\n" + body)
    heard = []

    def command():
        supervise(
            [sys.executable, "-S", str(folder / "emulator.py")],
            replace(JOB, timeout_s=LIMIT_S),
            heard.append,
            name="the fake",
            console_path=folder / "console",
            folder=folder,
        )
        return ExitCode.PASS

    began = time.monotonic()
    code = answer(command)
    took = time.monotonic() - began
    said = capsys.readouterr().err
    assert code == ExitCode.LOST, said
    assert not any(isinstance(event, Bye) for event in heard)
    assert said.startswith("kvmharness: ")
    assert "Traceback" not in said
    assert "\x1b" not in said
    assert took < LIMIT_S + OVER_S
    return said


@pytest.mark.slow
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream(name, tmp_path, capsys):
    (tmp_path / "stream").write_bytes(STREAMS[name])
    lost(tmp_path, "say(open('stream', 'rb').read())", capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", BODIES)
def test_a_process(name, tmp_path, capsys):
    lost(tmp_path, BODIES[name], capsys)


def test_that_the_job_itself_passes(tmp_path, capsys):
    (tmp_path / "stream").write_bytes(WHOLE)
    with pytest.raises(AssertionError, match=r"<ExitCode\.PASS: 0> == <ExitCode\.LOST: 5>"):
        lost(tmp_path, "say(open('stream', 'rb').read())", capsys)
