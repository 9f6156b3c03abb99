"""Bochs' saved state put right, and its shared object in a program that is not Bochs."""

import shutil
import subprocess
import sys

import pytest

from kvmharness.lab.machines.snapshot import bochs
from kvmharness.lab.machines.snapshot.state import NoSnapshotError
from kvmharness.system import packages


def timers(periods):
    """A file pc_system as Bochs 2.7 writes it."""
    lines = ["pc_system = {", "  enable_a20 = true", "  ticksTotal = 526108794", "  timer = {"]
    for number, period in periods.items():
        lines += [f"    {number} = {{", "      inUse = true", f"      period = {period}", "      param = 0", "    }"]
    return "\n".join([*lines, "  }", "}", ""])


def test_timers_get_the_numbers_of_a_restored_session():
    saved = timers({number: 1000 + number for number in range(22)})
    wanted = {number: 1000 + number for number in range(18)} | {18: 1021, 19: 1018, 20: 1019, 21: 1020}
    assert bochs.renumbered(saved) == timers(wanted)


@pytest.mark.parametrize("count", [0, 21, 23])
def test_other_timers_than_known_ones_are_not_guessed_at(count):
    with pytest.raises(NoSnapshotError, match=f"saved {count} timers where 22 are known"):
        bochs.renumbered(timers(dict.fromkeys(range(count), 1)))


def test_the_boot_cd_is_taken_out():
    line = 'ata0-master: type=cdrom, path="boot.iso", status=inserted, model="Generic 1234", biosdetect=auto'
    assert bochs.without_cd(f"boot: cdrom\n{line}\nata0-slave: type=none\n").splitlines()[1] == (
        'ata0-master: type=cdrom, path="none", status=ejected, model="Generic 1234", biosdetect=auto'
    )


def test_settings_that_are_not_ours_are_not_guessed_at():
    with pytest.raises(NoSnapshotError, match="do not name the boot CD"):
        bochs.without_cd("boot: disk\n")


def test_without_a_compiler_there_is_no_shared_object(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(packages, "place", lambda name: None)
    assert bochs.shared_object() is None
    assert list(tmp_path.iterdir()) == []


pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="sudo apt-get install gcc")

# Calls what Bochs calls, and says what it got.
PROGRAM = """
import ctypes, os
libc = ctypes.CDLL(None)
libc.srand(int.from_bytes(os.urandom(4), "little"))
libc.tmpfile64.restype = libc.fopen.restype = ctypes.c_void_p
libc.fputs.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
libc.feof.argtypes = libc.fgetc.argtypes = libc.rewind.argtypes = [ctypes.c_void_p]
file = libc.fopen(b"memory.ram", b"r")
temporary = libc.tmpfile64()
print(libc.rand(), libc.feof(file), libc.feof(temporary), chr(libc.fgetc(temporary) & 255))
"""


def run(folder, **environment):
    (folder / "memory.ram").write_text("saved")
    preload = str(bochs.shared_object())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env={"LD_PRELOAD": preload, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_rand_repeats(tmp_path):
    # What rand() gives first in a program that never called srand(): POSIX, as after srand(1).
    assert run(tmp_path)[0] == run(tmp_path)[0] == "1804289383"


def test_the_rest_of_libc_is_as_ever_where_nothing_is_restored(tmp_path):
    assert run(tmp_path)[1:] == ["0", "0", "\u00ff"]


def test_saved_memory_is_not_copied(tmp_path):
    assert run(tmp_path, KVMHARNESS_RESTORE_FROM=".")[1:] == ["1", "1", "s"]


# What Bochs' debugger would answer, asked as Bochs does.
HOOK = """
#include <stdio.h>
int hook(void) __asm__("_ZN8BX_CPU_C22dbg_instruction_epilogEv");
__attribute__((noinline)) int hook(void) { return 7; }
int main(void) { return printf("%d", hook()) != 1; }
"""


def test_the_debugger_is_not_asked(tmp_path):
    program = tmp_path / "program"
    subprocess.run(["gcc", "-O0", "-rdynamic", "-xc", "-", "-o", program], input=HOOK, text=True, check=True)

    def said(environment):
        return subprocess.run([program], env=environment, capture_output=True, text=True, check=True).stdout

    assert said({}) == "7"
    assert said({"LD_PRELOAD": str(bochs.shared_object())}) == "0"
