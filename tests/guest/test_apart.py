"""Sources that take Keystone down, or keep it busy: an error with the line, and this process goes on."""

import time

import pytest

from kvmharness.guest.apart import assemble_apart
from kvmharness.guest.assembler import assemble
from kvmharness.guest.source import AssembleError, parse_text
from tests.guest.test_source import CONTRACT


def program(text):
    return parse_text(text, "some.asm", name="some", read_include=str, defaults=CONTRACT)


def test_the_image_is_the_one_that_is_assembled_here():
    source = program("entry: mov rax, [rbx + ROW]\n jmp last # on\nlast: hlt\n.rept 0x3\n.byte 0x1\n.endr")
    assert assemble_apart(source, {"ROW": 8}, 0x10000) == assemble(source, {"ROW": 8}, 0x10000)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("bad rax", "mnemonic"), ("mov rax, NO_SUCH_NAME", "unknown name"), ("jmp nowhere", "symbol")],
)
def test_errors_are_those_of_the_assembler(line, complaint):
    source = program(f"entry: nop\n{line}\n hlt")
    with pytest.raises(AssembleError) as there:
        assemble_apart(source, {}, 0)
    with pytest.raises(AssembleError, match=f"(?i){complaint}") as here:
        assemble(source, {}, 0)
    assert (str(there.value), there.value.hint, there.value.line) == (str(here.value), here.value.hint, 2)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(".rept 0x3b9aca00\n nop\n.endr", marks=pytest.mark.slow),  # for ever
        ".space 0x10000000000",  # std::bad_alloc
        ".balign 0x100000000",  # SIGFPE
    ],
)
def test_what_keystone_does_not_survive_is_an_error_with_its_line(lines):
    began = time.monotonic()
    source = program(f"entry: nop\n jmp last\n{lines}\nlast: hlt")
    with pytest.raises(AssembleError, match=r"some\.asm:3: the assembler did not survive this"):
        assemble_apart(source, {}, 0)
    assert time.monotonic() - began < 20


def test_more_code_than_a_guest_has_memory_is_refused():
    with pytest.raises(AssembleError, match=r"makes 4194306 bytes"):
        assemble_apart(program("entry: nop\n.space 0x400000\n hlt"), {}, 0)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("nop\nnop\0\n", 2, "control character"),
        ("nop\x0bnop\n", 1, "control character"),
        ("nop\nm\u043ev rax, rbx\n", 2, "ASCII"),
        ('nop\n.ascii "abc\n', 2, "a string has no end"),
        (f"nop # {'x' * 5000}", 1, "longer than"),
    ],
)
def test_what_keystone_would_misread_does_not_get_there(text, line, why):
    with pytest.raises(AssembleError, match=why) as caught:
        program(text)
    assert caught.value.line == line


def test_includes_do_not_multiply_without_end():
    def include(name):
        return '.include "next"\n' * 200

    began = time.monotonic()
    with pytest.raises(AssembleError, match="includes itself"):
        parse_text('.include "a"\n', "some.asm", name="some", read_include=include, defaults=CONTRACT)
    files = {str(n): f'.include "{n + 1}"\n' * 20 for n in range(7)} | {"7": "# nothing\n"}
    with pytest.raises(AssembleError, match="more than 100000 lines"):
        parse_text(files["0"], "some.asm", name="some", read_include=files.__getitem__, defaults=CONTRACT)
    assert time.monotonic() - began < 10


def test_other_letters_may_stand_in_comments():
    assert len(program("nop # \u00e4\r\nnop\r\n").statements) == 2
