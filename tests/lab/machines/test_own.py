"""The user's own emulator: what it is, what it is not, and what its machines are started with."""

import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from kvmharness.cli.main import main
from kvmharness.errors import UsageError
from kvmharness.hosts import catalogue
from kvmharness.lab.kernels.build import Kernel
from kvmharness.lab.machines import bochs, own, qemu
from kvmharness.lab.machines.bochs import Bochs
from kvmharness.lab.machines.emulator import emulated_host
from kvmharness.lab.machines.own import Build, OwnEmulator, chosen_emulator, identify
from kvmharness.lab.machines.qemu import Qemu
from kvmharness.lab.machines.snapshot import bochs as snapshot

SKYLAKE, EPYC = catalogue.named("vmx:skylake"), catalogue.named("svm:epyc")
ANY_ELF = Path(sys.executable).resolve()

NOWHERE = ("--emulator", "/nowhere")

# What Bochs 2.7 says of itself, built with its debugger.
HELP = """Usage: bochs [flags] [bochsrc options]
  -r path          restore the Bochs state from path
  -rc filename     execute debugger commands stored in file
========================================================================
                        Bochs x86 Emulator 2.7
              Built from SVN snapshot on August  1, 2021
"""
MENU = "6. Begin simulation\n7. Quit now\nPlease choose one: [2]"
WITHOUT_DEBUGGER = "".join(line for line in HELP.splitlines(True) if "-rc" not in line)


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv(own.VARIABLE, raising=False)


def files(folder):
    (folder / "text").write_text("Bochs x86 Emulator 2.7")
    (folder / "script").write_text("#!/bin/sh\necho Bochs x86 Emulator 2.7\n")
    (folder / "script").chmod(0o755)
    os.mkfifo(folder / "fifo")
    shutil.copy(ANY_ELF, folder / "elf")
    (folder / "elf").chmod(0o644)
    (folder / "broken").write_bytes(b"\x7fELF\0")
    (folder / "broken").chmod(0o755)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (".", "is no regular file"),
        ("fifo", "is no regular file"),
        ("missing", "No such file or directory"),
        ("text/x", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("a\0b", "is no path"),
        ("text", r"is no program for Linux \(ELF\)"),
        ("script", r"is no program for Linux \(ELF\)"),
        ("elf", "is not executable"),
        ("broken", "does not start: Exec format error"),
    ],
)
def test_what_is_no_program_is_refused(name, why, tmp_path, monkeypatch):
    files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, how: os.stat(path).st_mode & 0o111 != 0)  # root may do anything
    with pytest.raises(UsageError, match=why) as caught:
        identify(name)
    assert caught.value.hint


def test_a_program_that_is_something_else_is_refused():
    with pytest.raises(UsageError, match="is neither Bochs nor QEMU"):
        identify("/bin/true")


@pytest.mark.parametrize(("program", "words"), [("sleep", ["60"]), ("yes", []), ("cat", ["/dev/zero"])])
def test_one_that_does_not_end_is_not_waited_for(program, words, monkeypatch):
    monkeypatch.setattr(own, "_TIMEOUT_S", 0.2)
    began = time.monotonic()
    assert len(own.ask(Path(shutil.which(program)), *words)) < 100_000
    assert time.monotonic() - began < 5


def says(monkeypatch, module, answers):
    """An emulator's module that hears, for words, the first answer whose key stands among them."""
    monkeypatch.setattr(
        module,
        "ask",
        lambda program, *words, told=b"": next(
            said for key, said in answers.items() if any(key in word for word in words)
        ),
    )


def no_display(name):
    return f"Bochs is exiting:\n[      ] cmdline args: display library '{name}' not available"


@pytest.mark.parametrize(
    ("said", "displays", "sound", "parts"),
    [
        (HELP, {"sdl2"}, MENU, {"sdl2", "debugger", "sound"}),
        (WITHOUT_DEBUGGER, {"nogui", "sdl2"}, MENU, {"sdl2", "sound"}),
        (WITHOUT_DEBUGGER, {"nogui"}, "cmdline args: directive 'sound' not understood", {"nogui"}),
    ],
)
def test_a_bochs_and_its_parts(said, displays, sound, parts, monkeypatch):
    answers = {name: MENU if name in displays else no_display(name) for name in ("sdl2", "nogui", "sdl")}
    says(monkeypatch, bochs, {"--help": said, "sound": sound, **answers})
    assert Bochs.recognise(ANY_ELF) == Build("2.7", frozenset(parts))


def test_a_bochs_that_must_have_a_screen_is_refused(monkeypatch):
    says(monkeypatch, bochs, {"--help": HELP} | {name: no_display(name) for name in ("sdl2", "nogui", "sdl")})
    with pytest.raises(UsageError, match="no display library") as caught:
        Bochs.recognise(ANY_ELF)
    assert "--with-nogui" in caught.value.hint


@pytest.mark.parametrize("target", ["i386", "aarch64", None])
def test_a_qemu_for_another_target_is_refused(target, monkeypatch):
    answer = "fatal: could not load module" if target is None else f'{{"return": {{"arch": "{target}"}}}}'
    says(monkeypatch, qemu, {"--version": "QEMU emulator version 7.2.22 (Debian)", "none": answer})
    with pytest.raises(UsageError, match="does not emulate x86-64"):
        Qemu.recognise(ANY_ELF)


def test_a_qemu(monkeypatch):
    answers = {"--version": "QEMU emulator version 9.0.1\nCopyright", "none": '{"return": {"arch": "x86_64"}}\r\n'}
    says(monkeypatch, qemu, answers)
    assert Qemu.recognise(ANY_ELF) == Build("TCG 9.0.1")
    says(monkeypatch, qemu, {"--version": "qemu-img version 7.2.22"})
    assert Qemu.recognise(ANY_ELF) is None


@pytest.fixture
def a_bochs(monkeypatch):
    """Any program, taken for a Bochs."""
    monkeypatch.setattr(Bochs, "recognise", classmethod(lambda cls, program: Build("2.7", frozenset({"nogui"}))))
    return str(ANY_ELF)


def test_it_is_named_by_the_option_or_the_variable(a_bochs, monkeypatch):
    assert chosen_emulator("", (SKYLAKE,)) is None
    found = chosen_emulator(a_bochs, (SKYLAKE,))
    assert (found.path, found.emulator, found.build.version) == (ANY_ELF, catalogue.BOCHS, "2.7")
    assert found.sha256 == hashlib.sha256(ANY_ELF.read_bytes()).hexdigest()
    monkeypatch.setenv(own.VARIABLE, a_bochs)
    assert chosen_emulator("", (SKYLAKE,)) == found
    monkeypatch.setenv(own.VARIABLE, "/nowhere")
    assert chosen_emulator(a_bochs, (SKYLAKE,)) == found, "the option comes first"
    assert chosen_emulator("", ()) is None, "the variable is about emulated hosts"


@pytest.mark.parametrize(("option", "way_out"), [(True, "leave it away"), (False, f"unset {own.VARIABLE}")])
def test_one_of_another_kind_is_refused(a_bochs, option, way_out, monkeypatch):
    if not option:
        monkeypatch.setenv(own.VARIABLE, a_bochs)
    with pytest.raises(UsageError, match=r"is Bochs 2\.7, but svm:epyc runs in QEMU") as caught:
        chosen_emulator(a_bochs if option else "", (EPYC,))
    assert "Choose --host vmx," in caught.value.hint
    assert way_out in caught.value.hint
    both = chosen_emulator(a_bochs, (EPYC, SKYLAKE))
    assert (both.for_host(EPYC), both.for_host(SKYLAKE)) == (None, both)


def test_it_is_of_no_use_without_an_emulated_host(a_bochs):
    with pytest.raises(UsageError, match="of no use on this machine"):
        chosen_emulator(a_bochs, ())


@pytest.mark.parametrize(
    "words",
    [
        ["run", *NOWHERE, "a:1x1", "--host", "vmx"],
        ["validate", *NOWHERE, "fast-cr3-switch", "--host", "vmx"],
        ["bisect", *NOWHERE, "a:1x1", "loads", "0"],
        ["lab", "boot", *NOWHERE],
        ["lab", "exec", *NOWHERE, "/bin/true"],
        ["litmus", *NOWHERE, "--host", "vmx"],
    ],
    ids=lambda words: " ".join(word for word in words[:2] if word != NOWHERE[0]),
)
def test_every_verb_that_takes_a_host_refuses_what_is_none(words, capsys):
    assert main(words) in (2, 125)
    assert "/nowhere: No such file or directory" in capsys.readouterr().err


def machine(parts=("nogui",), sha256="0" * 64, host=SKYLAKE, version="2.7", path="/opt/emulator"):
    its = OwnEmulator(Path(path), host.emulator, Build(version, frozenset(parts)), sha256)
    return emulated_host(host.name, Kernel(Path("/boot/bzImage"), Path("/modules")), own=its)


def test_it_is_what_is_started(monkeypatch, tmp_path):
    monkeypatch.setattr(bochs, "write_iso", lambda *given: None)
    monkeypatch.setattr(bochs, "find", lambda name: f"/there/{name}")
    assert machine().command(tmp_path) == ["/opt/emulator", "-q", "-f", "bochsrc"]
    settings = (tmp_path / "bochsrc").read_text()
    assert "display_library: nogui\n" in settings
    assert "sound" not in settings
    assert "magic_break" not in settings, "it belongs to the debugger"
    machine(("nogui", "sound")).command(tmp_path)
    assert "sound: driver=dummy\n" in (tmp_path / "bochsrc").read_text()
    assert machine(("sdl2", "debugger")).restore_command(tmp_path)[-2:] == ["-rc", "debugger"]
    assert machine(host=EPYC).command(tmp_path)[0] == "/opt/emulator"


def test_what_it_holds_is_part_of_what_a_machine_is():
    one, other = machine(sha256="0123456789abcdef" * 4), machine(sha256="f" * 64)
    assert one.description == "Bochs 2.7 sha256:0123456789ab corei7_skylake_x"
    assert machine(host=EPYC, version="TCG 9.0.1").description.startswith("QEMU TCG 9.0.1 sha256:000000000000 EPYC")
    assert one.description != other.description


def test_snapshots_are_for_the_bochs_that_is_known(monkeypatch):
    assert "how Bochs 2.8 saves a host is not known" in machine(version="2.8").cannot_be_saved()
    monkeypatch.setattr(snapshot, "shared_object", lambda: Path("preloaded"))
    monkeypatch.setattr(snapshot, "run", lambda argv: b"0000000000104f08 B SIM\n")
    assert "does not export what saves a host" in machine().cannot_be_saved()
    saves = b"0000000000104f08 B SIM\n0000000000076cd0 T _ZN13bx_real_sim_c10save_stateEPKc\n"
    monkeypatch.setattr(snapshot, "run", lambda argv: saves)
    assert machine().cannot_be_saved() == ""


def test_what_the_user_brings_need_not_be_installed(monkeypatch):
    monkeypatch.setattr("kvmharness.system.packages.place", lambda name: None)
    lacking = catalogue.BOCHS.lacks().keys() - catalogue.BOCHS.lacks(brought=True).keys()
    assert lacking == {"bochs", "libbx_sdl2_gui.so"}
    assert catalogue.QEMU.lacks().keys() - catalogue.QEMU.lacks(brought=True).keys() == {"qemu-system-x86_64"}


@pytest.mark.slow
@pytest.mark.needs("emulated_vmx")
def test_a_copy_of_the_installed_bochs_counts_the_same_and_is_another_one(tmp_path, capsys):
    program = tmp_path / "my-bochs"
    shutil.copy(shutil.which("bochs-bin"), program)
    records = [tmp_path / "installed.json", tmp_path / "own.json"]
    for record, more in zip(records, ([], ["--emulator", str(program), "--no-snapshot"]), strict=True):
        assert main(["run", "--host", "vmx", "a:3x3", "-q", "--json", str(record), *more]) == 0
    hosts = [json.loads(record.read_text())["host"]["emulator"] for record in records]
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    assert hosts == ["Bochs 2.7 corei7_skylake_x", f"Bochs 2.7 sha256:{digest[:12]} corei7_skylake_x"]
    capsys.readouterr()
    assert main(["compare", *map(str, records)]) == 0
    said = capsys.readouterr()
    assert "emulator differs" in said.out + said.err
    assert "only counts are compared, not time" in said.out + said.err
