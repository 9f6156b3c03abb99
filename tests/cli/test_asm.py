"""asm: listings, and errors that name file and line."""

import json

import pytest

from kvmharness.cli.main import main

CONTRACT = """\
# purpose: a test
# mode: long64, CPL 0
# in: none
# out: none
# clobber: rax
# memory: 0x0 0x1000 all
# exits: hlt at done
# source: SDM
"""


@pytest.fixture
def program(tmp_path):
    def write(code):
        path = tmp_path / "given.asm"
        path.write_text(CONTRACT + code)
        return str(path)

    return write


def test_listing_of_a_file(program, capsys):
    # Intel SDM vol. 2: MOV r32, imm32 is B8+rd id; HLT is F4; MOV CR3, r64 is 0F 22 /3.
    path = program("entry:  mov eax, 0x10 # sixteen\n        mov cr3, rax\ndone:   hlt\n")
    assert main(["asm", path]) == 0
    out = capsys.readouterr().out
    assert "purpose  a test" in out
    assert "given: 9 bytes at 0x28000" in out
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith("   2800")}
    assert rows["28000"].split("entry:")[0].split() == ["28000", "b8", "10", "00", "00", "00", "9"]
    assert "0f 22 d8" in rows["28005"]
    assert "f4" in rows["28008"]
    assert "# sixteen" in rows["28000"]


def test_decoded_where_capstone_is_installed(program, capsys):
    pytest.importorskip("capstone")
    assert main(["asm", program("entry: mov cr3, rax\n")]) == 0
    assert "= mov cr3, rax" in capsys.readouterr().out


def test_json(program, capsys):
    assert main(["asm", "--json", program("entry: nop\ndone: hlt\n")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["code"] == "90f4"
    assert document["symbols"] == {"entry": 0x28000, "done": 0x28001}
    assert [line["line"] for line in document["lines"]] == [9, 10]


@pytest.mark.parametrize("name", ["hello", "mov_cr3", "l1_vmx", "l2"])
def test_a_program_of_the_package_by_name(name, capsys):
    assert main(["asm", name]) == 0
    assert capsys.readouterr().out.startswith(f"{name}: ")


def test_what_does_not_assemble_names_file_and_line(program, capsys):
    path = program("entry:  nop\n        mov eax, nonsense\n")
    assert main(["asm", path]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"kvmharness: {path}:10: ")
    assert "mov eax, nonsense" in err


def test_what_takes_the_assembler_down_names_file_and_line_too(program, capsys):
    path = program("entry:  nop\n        .balign 0x100000000\n")
    assert main(["asm", path]) == 2
    assert capsys.readouterr().err.startswith(f"kvmharness: {path}:10: the assembler did not survive this")


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert main(["asm", str(tmp_path / "nix.asm")]) == 2
    assert "No such file or directory" in capsys.readouterr().err


def test_a_name_that_is_no_program(capsys):
    assert main(["asm", "nix"]) == 2
    assert "hint: Programs: hello" in capsys.readouterr().err


def test_a_header_need_say_nothing(tmp_path, capsys):
    path = tmp_path / "bare.asm"
    path.write_text("# mode: real16\nentry: add ax, bx\n hlt\n")
    assert main(["asm", str(path)]) == 0
    out = capsys.readouterr().out
    assert "bare: 3 bytes at 0x8000" in out  # 16-bit: ADD r/m16, r16 is 01 /r without a prefix
    assert "memory   0x0 MEMORY_BYTES everything" in out
