"""C source made to be slow to read: whatever looks at the source of a patched tree takes time in proportion to it."""

import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from kvmharness.lab.kernels import parameters, statistics
from kvmharness.lab.kernels.switches import KvmSource
from kvmharness.oracle.csource import CSource, NotDescribedError, normal, without_comments
from kvmharness.patches.functions import Definition, changed

SIZE = 1 << 20
LONGEST_S = 10.0  # of processor time: it is 2 at the most, and was hours
KVM = "arch/x86/kvm/x86.c"


def filled(piece: str, before: str = "", after: str = "") -> str:
    return before + piece * (SIZE // len(piece)) + after


def handed_over() -> str:
    """Many functions that set a variable of their own, and one that calls all of them."""
    count = SIZE // 100
    takers = "".join(f"int g{n};\nvoid a{n}(int x)\n{{\n\tg{n} = x;\n}}\n" for n in range(count))
    return takers + "void f(int y)\n{\n" + "".join(f"\ta{n}(y);\n" for n in range(count)) + "}\n"


INPUTS = {
    **{
        piece: filled(piece)
        for piece in ("(", ")", "()", ")(", "(())", "{", "{\n", "}\n", "{}", "a(){ } ", "/*", "/* ")
    },
    **{
        piece: filled(piece) for piece in (" ", "\t", "\n", "\\", "\\\n", '"', '"\n', "'", "//", "a", "a ", "a\n", "a,")
    },
    **{piece: filled(piece) for piece in ("(", ")", "()", ")(", "(())", "{", "{\n", "}\n", "{}", "/*", "/* ", "//")},
    **{piece: filled(piece) for piece in (" ", "\t", "\n", "\\", "\\\n", '"', '"\n', "'", "a", "a ", "a\n", "a,")},
    **{piece: filled(piece) for piece in ("a(", "a)", "a)\n", "a)\n{\n", "a) {", "f(", "f() {", "f(){", "a(){ } ")},
    **{piece: filled(piece) for piece in ("f(x)\n", "f(x) __a(y)\n", "f() __a\n{\n}\n", "f()  \n{ ", "f()\n{\n}\n")},
    **{piece: filled(piece) for piece in ("#define ", "#define a\\\n", "#define a ", "f()\n{\nx\n", "\ta = b;\n")},
    **{piece: filled(piece) for piece in ("int a ", "int a\n", "int a =\n", "a=", "module_param(", "module_param(a)")},
    "statistics": filled("STATS_DESC_A(VM,"),
    "nested": "f(){" * (SIZE // 8) + "}" * (SIZE // 8),
    "a call in a call": "f(" * (SIZE // 4) + ")" * (SIZE // 2) + "\n{\n}\n",
    "white space after a head": filled(" ", "f(x)"),
    "white space before a name": filled(" ", "STATS_DESC_A("),
    "attributes": filled(" __a", "f(x)", "\n{\n}\n"),
    "attributes with arguments": filled(" __a()", "f(x)", "\n{\n}\n"),
    "attributes of a variable": filled("__a ", "int "),
    "parameters": filled("a,", "f(", "b)\n{\n}\n"),
    "a string's end": filled("\\", '"'),
    "arguments": filled("a,", "module_param(", ");"),
    "arguments in brackets": filled("(a,b),", "module_param(", ");"),
    "handed over": handed_over(),
}


def kvm(text: str) -> None:
    source = KvmSource.of({KVM: text.encode()})
    switches = source.parameters
    for each in source.named("f")[:3]:
        for switch in switches[:3]:
            source.how_read(each[1], KVM, switch)
    _ = source.using("f"), source._set_to


def functions(text: str) -> None:
    source = CSource(KVM, text.encode())
    for name in ("a", "f"):
        source.bodies(name)
        source.mentions(name)
    with suppress(NotDescribedError):
        source.number("a")


READERS: dict[str, Callable[[str], object]] = {
    "what changed": lambda text: changed(text.encode(), b"int a;\n"),
    "a head": lambda text: Definition("f", text, "").parameters,
    "tokens": normal,
    "comments": without_comments,
    "functions of a model": functions,
    "switches of KVM": kvm,
    "parameters": lambda text: parameters.of_files({KVM: text.encode()}),
    "statistics": lambda text: statistics.of_texts([text.encode()]),
}


class TooLongError(BaseException):
    """Not an Exception: nothing that the tool catches."""


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    """No test goes on for longer than that."""

    def stop(*_: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_S)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


@pytest.mark.slow
@pytest.mark.parametrize("name", INPUTS, ids=repr)
@pytest.mark.parametrize("reader", READERS)
def test_a_megabyte_of_anything_is_read_in_time(reader: str, name: str) -> None:
    READERS[reader](INPUTS[name])
