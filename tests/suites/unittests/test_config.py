"""unittests.cfg, read as it is: every key, older names and newer ones, and what cannot be acted on."""

import pytest

from kvmharness.suites.unittests.config import DEFAULT_TIMEOUT_S, read

TEXT = '''
# a comment
[plain]
file = plain.flat

[ full ]
file = full.flat
smp = 4
test_args = "first 'second word' -third*"
qemu_params = -cpu max,+vmx,-pku -m 2g
groups = nested  nodefault
arch = x86_64
check = /sys/module/kvm/parameters/enable_pmu=Y /proc/sys/kernel/nmi_watchdog=0
accel = kvm
timeout = 2m

[older]
file = older.flat
extra_params = -cpu host -append "one two" -machine pit=off

[lines]
qemu_params = """-cpu max \\
    -m 1g
    -machine pit=off"""
file = lines.flat
'''


def entries(text):
    return {entry.name: entry for entry in read(text)}


def test_an_entry_that_says_little():
    plain = entries(TEXT)["plain"]
    assert (plain.file, plain.smp, plain.args, plain.options, plain.timeout_s) == (
        "plain.flat",
        1,
        "",
        (),
        DEFAULT_TIMEOUT_S,
    )
    assert not plain.wrong
    assert plain.notes == []


def test_an_entry_that_says_everything():
    full = entries(TEXT)["full"]
    assert (full.file, full.smp, full.args) == ("full.flat", 4, "first 'second word' -third*")
    assert full.options == ("-cpu", "max,+vmx,-pku", "-m", "2g")
    assert (full.groups, full.arch, full.accel, full.timeout_s) == (("nested", "nodefault"), "x86_64", "kvm", 120)
    assert full.checks == (("/sys/module/kvm/parameters/enable_pmu", "Y"), ("/proc/sys/kernel/nmi_watchdog", "0"))


def test_the_older_name_of_options():
    assert entries(TEXT)["older"].options == ("-cpu", "host", "-append", "one two", "-machine", "pit=off")


def test_a_value_over_several_lines():
    lines = entries(TEXT)["lines"]
    assert lines.options == ("-cpu", "max", "-m", "1g", "-machine", "pit=off")
    assert lines.file == "lines.flat"


def test_a_value_whose_quotes_never_end_takes_the_rest():
    (one,) = read('[one]\nqemu_params = """-cpu max\nfile = one.flat')
    assert one.file == ""
    assert one.options[:2] == ("-cpu", "max")


def test_names_that_come_again_are_numbered():
    assert list(entries("[a]\n[b]\n[a]\n[a]\n")) == ["a", "b", "a#2", "a#3"]


def test_an_unknown_key_is_a_note():
    (one,) = read("[one]\nfile = one.flat\ncolour = green\nmachine = q35\nthis is no line of that kind\n")
    assert not one.wrong
    assert one.notes == [
        "'colour' is no key that is known, and is left out of account",
        "'this is no line of that kind' is no key that is known, and is left out of account",
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("smp = many", "a number of processors is expected"),
        ("smp = 0", "a number of processors is expected"),
        ("timeout = soon", "a time is expected, such as 90s"),
        ("check = /proc/cmdline", "'/proc/cmdline' is not of the form path=value"),
        ("test_args = 'one", "No closing quotation"),
        ("disabled_if = [ -f x ]", "a shell's condition is not evaluated"),
    ],
)
def test_what_cannot_be_acted_on_is_told_and_the_others_go_on(line, why):
    wrong, right = read(f"[wrong]\n{line}\n[right]\nsmp = 2\n")
    assert wrong.wrong == f"its line {line} cannot be acted on: {why}"
    assert (right.wrong, right.smp) == ("", 2)


@pytest.mark.parametrize("text", ["", "\n\n# nothing\n", "file = lost.flat\nsmp = 2\n"])
def test_without_a_section_there_is_no_entry(text):
    assert read(text) == []


def test_no_limit_of_time_is_the_usual_one():
    (one,) = read("[one]\ntimeout = 0\n")
    assert one.timeout_s == DEFAULT_TIMEOUT_S
