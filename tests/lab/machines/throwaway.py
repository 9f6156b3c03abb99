"""An emulator to throw away: one class and one row of the catalogue. It boots nothing and says what it was given."""

import sys
from dataclasses import dataclass

from kvmharness.hosts.catalogue import EmulatedHost, Emulator
from kvmharness.lab.machines.emulator import CONSOLE, INITRAMFS, EmulatedMachine

# In the place of a kernel and its agent: two steps, the second of which gives what the emulator was started with.
PROGRAM = f"""
import json, sys
from binascii import crc32
from pathlib import Path
def say(event, **more):
    payload = json.dumps({{"event": event, **more}}).encode()
    frame = b"KVMH" + len(payload).to_bytes(4, "little") + crc32(payload).to_bytes(4, "little") + payload
    sys.stdout.buffer.write(frame)
given = {{"cmdline": sys.argv[1].split(), "kernel": sys.argv[2], "image": Path({INITRAMFS!r}).read_text()}}
nonce = "another" if "stale" in given["cmdline"] else given["image"]
say("hello", python="3.11.2", uptime_ns=1000, nonce=nonce)
say("begin", step=0)
say("end", step=0, result=["kvm"])
say("begin", step=1)
if "die" in given["cmdline"]:
    Path({CONSOLE!r}).write_text("Kernel panic - not syncing: thrown away\\n---[ end Kernel panic\\n")
    sys.exit(1)
say("data", step=1, data=given)
say("end", step=1, result=None)
say("bye", events=6)
"""


@dataclass(frozen=True, slots=True)
class Throwaway(EmulatedMachine):
    """A machine that a Python program pretends to be."""

    program = sys.executable

    def version(self, said):
        """As Python has it."""
        return said.split()[-1]

    def command(self, folder):
        """The program, with what a kernel would be booted with."""
        return [self.program, "-c", PROGRAM, self.kernel_command_line("its=own"), str(self.kernel)]


EMULATOR = Emulator("Pretender", f"{__name__}:Throwaway")
ROW = EmulatedHost("vmx:throwaway", EMULATOR, "a486", ("kvm",), command_line="row=1")
