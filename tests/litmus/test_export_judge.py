"""What an exported test says of raw answers is what the harness says of them: both are given the same ones."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from kvmharness.guest.layout import Act, Status
from kvmharness.litmus.encode import written
from kvmharness.litmus.export.selftest import selftest
from kvmharness.litmus.judge import judge
from kvmharness.litmus.plan import STREAMS, plan
from kvmharness.litmus.program import program
from kvmharness.litmus.protocol import MMIO, MOVED, page_word
from kvmharness.litmus.world import frame_gpa, gva_of
from kvmharness.vendors.known import litmus_of
from kvmharness.vendors.svm.svm import SVM
from kvmharness.vendors.vmx.vmx import VMX
from tests.surroundings import skylake

HERE = Path(__file__).parent
ROUNDS = 200
# Every way to read an answer, and every step.
ROWS = """
host dirty start
L1 read p0
L1 ufetch p1
L1 write p0
L1 look H0 p0
L1 peek d0
L1 elook E0 d32
host dirty get
L1 set cr4.pge=1
L1 enter G0 E0
L2 read p0
L2 fetch p1
L2 uwrite q0
host migrate
L1 enter G0 E0 bad=guest
L2 read p0
"""

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (install gcc)")


def compiled(folder, text, *, flags=()):
    """A program that judges as the exported test *text* does."""
    (folder / "exported.c").write_text(text)
    for name in ("test_util.h", "kvm_util.h", "processor.h"):
        (folder / name).write_text('#include "selftest_stub.h"\n')
    made = folder / "judge"
    # What runs a guest is not linked in: nothing calls it.
    strip = ("-ffunction-sections", "-Wl,--gc-sections", "-Wl,--unresolved-symbols=ignore-all")
    include = (f"-I{folder}", f"-I{HERE}", f'-DEXPORTED="{folder}/exported.c"')
    source = HERE / "selftest_judge.c"
    command = [
        "cc",
        "-std=gnu99",
        "-O1",
        "-Wall",
        "-Werror",
        "-Wno-format",
        *include,
        *strip,
        "-o",
        made,
        source,
        *flags,
    ]
    subprocess.run(command, check=True)
    return made


def answers(rng, row):
    """Words as a guest may leave them, of many kinds: VALUE, STATUS, DETAIL, ADDRESS, and where MMIO was."""
    number = rng.choice((0, 1, 32, 191, 192))
    tag = number | rng.choice((0, 0, MOVED)) if rng.random() < 0.8 else MMIO | frame_gpa("m3") >> 12
    probe = gva_of(row.get("probe") or "p0")
    place = rng.choice((frame_gpa("d32"), frame_gpa("m1"), 0x1000, probe))
    value = rng.choice((0, tag, page_word(tag), written(number), rng.getrandbits(64), 0x60, 0x20, 0x300))
    status = rng.choice((Status.DONE, Status.DONE, Status.DONE, 0, Status.EXIT, Status.REFUSED, Status.EXCEPTION))
    if status == Status.EXCEPTION:
        status |= rng.choice((14, 14, 13, 6, 1))
    if status == Status.EXIT:
        value = rng.choice((48, 0x400, 0x8000_0021, (1 << 64) - 1, 18))
    detail = rng.choice((0, 2, 4, 5, 16, 0x182, 0x1_0000_0006))
    address = rng.choice((place, place + 8, probe + 8, probe + 15, probe + 16))
    return value, int(status), detail, address, rng.choice((0, 0, 0, place & ~0xFFF))


@pytest.mark.parametrize("vendor", [VMX, SVM], ids=["vmx", "svm"])
def test_both_say_the_same(vendor, tmp_path):
    rows = ROWS if vendor is VMX else ROWS.replace(" E0 bad=guest", " bad=guest")
    test = program("judged", rows)
    planned = plan(test, vendor, skylake().offered)
    judging = compiled(tmp_path, selftest(test, vendor))
    rng, given, answered = random.Random(1), [], []
    for _ in range(ROUNDS):
        memory, mmio, host = {who: bytearray(data) for who, data in planned.rows.items()}, [], []
        for row, (gpa, _) in zip(test.rows, planned.answers, strict=True):
            if gpa is None:
                host.append(rng.choice(("-", "d0", "d0 d33", "d1", "d100", "d191", "done")))
                given.append(host[-1])
                continue
            *words, at = answers(rng, row)
            given.append(" ".join(f"{word:x}" for word in (*words, at)))
            if at:
                mmio.append([gpa, at])
            put(planned, memory, gpa, words)
        raw = {"rows": [data.hex() for data in memory.values()], "mmio": mmio, "host": host, "stats": {}, "counts": []}
        answered += judge(planned, raw, litmus_of(vendor)).answers
    ran = subprocess.run([judging], input="\n".join(given), capture_output=True, text=True, check=True)
    said = [line.partition(" ")[::2] for line in ran.stdout.splitlines()]
    theirs = [("right" if each.right else "wrong", each.seen or "did not run") for each in answered]
    differ = [
        (each.row.text, ours, wanted)
        for each, ours, wanted in zip(answered, said, theirs, strict=True)
        if ours != wanted
    ]
    assert differ == []
    assert {verdict for verdict, _ in said} == {"right", "wrong"}


def put(planned, memory, gpa, words):
    """Writes an answer into the rows of whoever gave it."""
    for who, data in memory.items():
        at = gpa - STREAMS[who][0]
        if 0 <= at < len(data):
            data[at + Act.VALUE : at + Act.BYTES] = b"".join(word.to_bytes(8, "little") for word in words)


@pytest.mark.parametrize(
    "rows",
    [
        "L1 read p0",
        "V1 read p0",
        "host slot delete",
        "host slot add",
        "host slot move",
        "host slot readonly",
        "host dirty start\nhost dirty get",
        "host sregs",
        "V1 read p0\nhost migrate",
        "L1 enter G0\nhost nested",
        "L1 enter G0 E0\nhost slot writable\nhost migrate",
    ],
)
def test_no_part_of_the_template_is_left_over(rows, tmp_path):
    """Nothing is defined that is not used: what a test does not need is not in its file."""
    compiled(
        tmp_path,
        selftest(program("alone", rows), VMX),
        flags=("-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"),
    )
