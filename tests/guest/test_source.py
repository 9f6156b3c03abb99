"""What the parser takes, and what it refuses because Keystone would misread it without a word."""

import pytest

from kvmharness.guest.source import HEADER_KEYS, AssembleError, Program, parse, parse_text

CONTRACT = dict.fromkeys(HEADER_KEYS, "none") | {"mode": "long64, CPL 0"}


def parse_lines(text: str) -> Program:
    def no_include(name: str) -> str:
        raise AssembleError("cannot be read", name)

    return parse_text(text, "some.asm", name="some", read_include=no_include, defaults=CONTRACT)


def test_statements_are_labels_and_code_without_comments():
    program = parse_lines('start: mov rax, rbx  # why\n\n# only a comment\nalone:\n  .ascii "a#b;1 2"')
    assert [(s.line, s.label, s.code) for s in program.statements] == [
        (1, "start", "mov rax, rbx"),
        (4, "alone", ""),
        (5, None, '.ascii "a#b;1 2"'),
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("nop ; comment", "separates statements"),
        ("mov eax, 10", "ambiguous"),
        ("jmp 1b", "ambiguous"),
        ("1: nop", "ambiguous"),
        ("mov eax, 0b11", "ambiguous"),
        ("add rax, 5h", "ambiguous"),
        (".org 0x10", r"\.org"),
        (".align 0x10", r"\.align"),
        (".section .data", r"\.section"),
        ('.error "no"', r"\.error"),
        ('.incbin "x"', r"\.incbin"),
    ],
)
def test_misleading_lines_are_refused_with_their_place(line, complaint):
    with pytest.raises(AssembleError, match=complaint) as caught:
        parse_lines(f"nop\n{line}\n")
    assert (caught.value.path, caught.value.line, caught.value.text) == ("some.asm", 2, line)
    assert str(caught.value).startswith("some.asm:2: ")


@pytest.mark.parametrize("line", ["inc qword ptr [rbx + rcx*8 + 0x40]", "mov eax, 0xff", "lea rax, [r10 + r14]"])
def test_unambiguous_numbers_are_taken(line):
    assert parse_lines(line).statements[0].code == line


def test_header_goes_over_several_lines(tmp_path):
    lines = [f"# {key}: none" for key in HEADER_KEYS if key not in ("mode", "memory")]
    source = tmp_path / "a.asm"
    source.write_text("# mode: real16, IF=0\n# memory: 0x0 0x1000 one\n#     0x5000 0x1000 two\n" + "\n".join(lines))
    program = parse(source)
    assert program.bits == 16
    assert program.header["memory"] == "0x0 0x1000 one\n0x5000 0x1000 two"


def test_missing_header_keys_are_named(tmp_path):
    source = tmp_path / "a.asm"
    source.write_text("# purpose: nothing\n# mode: long64\nnop\n")
    with pytest.raises(AssembleError, match="lacks in, out, clobber, memory, exits, source"):
        parse(source)


def test_unknown_mode_is_refused():
    header = CONTRACT | {"mode": "protected32"}
    with pytest.raises(AssembleError, match="protected32"):
        parse_text("nop", "a.asm", name="a", read_include=str, defaults=header)


def test_include_keeps_the_place_of_the_included_line(tmp_path):
    contract = "".join(f"# {key}: {value}\n" for key, value in CONTRACT.items())
    (tmp_path / "a.asm").write_text(contract + '  .include "b.inc"\n')
    (tmp_path / "b.inc").write_text("nop\nmov eax, 10\n")
    with pytest.raises(AssembleError, match=r"b\.inc:2"):
        parse(tmp_path / "a.asm")


def test_missing_include_and_missing_file_are_errors(tmp_path):
    with pytest.raises(AssembleError, match=r"some\.asm:1: include"):
        parse_lines('.include "nowhere.inc"')
    with pytest.raises(AssembleError, match="No such file"):
        parse(tmp_path / "nowhere.asm")


def test_file_that_includes_itself_is_an_error(tmp_path):
    contract = "".join(f"# {key}: {value}\n" for key, value in CONTRACT.items())
    (tmp_path / "a.asm").write_text(contract + '.include "a.asm"\n')
    with pytest.raises(AssembleError, match="includes itself"):
        parse(tmp_path / "a.asm")


def test_binary_file_is_an_error(tmp_path):
    (tmp_path / "a.asm").write_bytes(b"# purpose\n\xff\xfe\x80")
    with pytest.raises(AssembleError, match="line 2 is not text in UTF-8"):
        parse(tmp_path / "a.asm")
