"""Images against what a second tool, capstone, makes of the bytes."""

import json
import subprocess
import sys

import pytest

from kvmharness.guest import shipped as programs
from kvmharness.guest.assembler import assemble, encode
from kvmharness.guest.image import Image
from kvmharness.guest.source import MODES, AssembleError, parse, parse_text
from tests.guest.test_source import CONTRACT

capstone = pytest.importorskip("capstone", reason="capstone: pip install kvmharness[dev]")


def build(text: str, values: dict[str, int] | None = None, origin: int = 0x10000) -> Image:
    program = parse_text(text, "some.asm", name="some", read_include=str, defaults=CONTRACT)
    return assemble(program, values or {}, origin)


def test_values_labels_and_addresses():
    image = build("entry: mov rax, [rbx + ROW]\n out PORT, eax\n jmp entry\nlast: hlt", {"ROW": 8, "PORT": 0x4B})
    assert image.code == bytes.fromhex("488b4308" + "e74b" + "ebf8" + "f4")
    assert image.symbols == {"entry": 0x10000, "last": 0x10008}
    assert [(line.address, line.size_bytes) for line in image.lines] == [
        (0x10000, 4),
        (0x10004, 2),
        (0x10006, 2),
        (0x10008, 1),
    ]
    assert image.symbol_at(0x10005) == "entry+0x5"
    assert image.symbol_at(0x20000) == "0x20000"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("bad rax", "mnemonic"),
        ("mov rax, offset there", "operand"),
        ("jmp nowhere", "symbol"),
        ("mov rax, NO_SUCH_NAME", "unknown name NO_SUCH_NAME"),
        ("mov eax, rbx", "operand"),
    ],
)
def test_faults_are_found_and_placed(line, complaint):
    with pytest.raises(AssembleError, match=f"(?i){complaint}") as caught:
        build(f"there: nop\n{line}\n jmp there")
    assert caught.value.line == 2


def test_label_defined_twice_names_both_places():
    with pytest.raises(AssembleError, match=r"some\.asm:3: .*some\.asm:1"):
        build("here: nop\nnop\nhere: nop")


def test_engine_with_another_number_base_is_refused():
    """Assigning `syntax` anywhere in the process changes what later engines read; the self-test must notice."""
    script = """
import keystone
from kvmharness.guest.assembler import encode
from kvmharness.guest.source import AssembleError
other = keystone.Ks(keystone.KS_ARCH_X86, keystone.KS_MODE_64)
other.syntax = keystone.KS_OPT_SYNTAX_INTEL
import kvmharness.guest.assembler as assembler
keystone.Ks = lambda *_: other
try:
    encode("nop")
except AssembleError as e:
    print(e)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "self-test failed" in done.stdout


def test_an_unfit_engine_is_passed_over():
    """An engine finds its number base in memory that others have used; the next one may be right."""
    script = """
import keystone
made = []
real = keystone.Ks
def unfit_first(*arguments):
    made.append(real(*arguments))
    if len(made) == 1:
        made[0].syntax = keystone.KS_OPT_SYNTAX_INTEL
    return made[-1]
keystone.Ks = unfit_first
from kvmharness.guest.assembler import encode
print(encode("mov eax, 0x1").hex(), len(made))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    code, engines = done.stdout.split()
    assert code == "b801000000"
    assert int(engines) > 1


@pytest.mark.parametrize("name", programs.names())
def test_every_encoding_is_what_capstone_reads(name):
    """Each source line, disassembled alone at its address, gives the instruction that the line says."""
    image = programs.image(name)
    bits = MODES[image.header["mode"].split(",")[0]]
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64 if bits == 64 else capstone.CS_MODE_16)
    program = parse(programs.source_folder() / f"{name}.asm")
    code_of = {(s.path, s.line): s.code for s in program.statements}
    checked = 0
    for line in image.lines:
        code = code_of[line.path, line.line]
        if not code or code.startswith("."):
            continue
        raw = image.code[line.address - image.origin :][: line.size_bytes]
        decoded = list(decoder.disasm(raw, line.address))
        assert len(decoded) == 1, f"{line.path}:{line.line}: {line.source} became {raw.hex()}"
        assert decoded[0].size == line.size_bytes
        mnemonic = code.split()[0]
        assert decoded[0].mnemonic in SAME_MNEMONIC.get(mnemonic, mnemonic).split()
        for value in immediates(code, image):
            assert value in numbers(decoded[0]), f"{line.source}: {decoded[0].mnemonic} {decoded[0].op_str}"
        checked += 1
    assert checked >= 2


SAME_MNEMONIC = {"jz": "je", "jnz": "jne", "mov": "mov movabs"}


def immediates(code: str, image: Image) -> list[int]:
    """The labels that a direct jump or call names, as addresses; they must come out as written."""
    words = code.split()
    return [image.symbols[word] for word in words[1:] if word in image.symbols]


def numbers(instruction) -> set[int]:
    text = instruction.op_str.replace(",", " ").replace("[", " ").replace("]", " ")
    return {int(word, 0) for word in text.split() if word.startswith("0x") or word.isdigit()}


def test_image_survives_json():
    image = programs.image("l1_vmx")
    again = Image.from_json(json.loads(json.dumps(image.to_json())))
    assert (again.code, again.symbols, again.origin) == (image.code, image.symbols, image.origin)
    assert again.header == image.header


def test_encode_gives_plain_bytes():
    assert encode("mov eax, 0x1") == bytes.fromhex("b801000000")
    with pytest.raises(AssembleError):
        encode("no such thing")


THREADS = """
from threading import Thread
from kvmharness.guest.assembler import encode
wrong = []
def work():
    for _ in range(400):
        if encode("mov eax, 0x10; add rax, rbx; ret").hex() != "b8100000004801d8c3":
            wrong.append(1)
threads = [Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(wrong))
"""


def test_threads_assemble_one_after_the_other():
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n")
