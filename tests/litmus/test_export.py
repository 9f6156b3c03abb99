"""Litmus tests as C selftests: what the file says is what the test is."""

import contextlib
import re
from itertools import islice

import pytest

from kvmharness.cli.main import main
from kvmharness.errors import UsageError
from kvmharness.guest.layout import Act
from kvmharness.litmus.export.memory import Run, runs, words
from kvmharness.litmus.export.selftest import selftest
from kvmharness.litmus.hunt.generate import programs
from kvmharness.litmus.named.all import every, select
from kvmharness.litmus.needs import NESTING
from kvmharness.litmus.plan import STREAMS, blueprint, plan
from kvmharness.litmus.program import program
from kvmharness.litmus.world import world
from kvmharness.vendors.known import litmus_of
from kvmharness.vendors.svm.svm import SVM
from kvmharness.vendors.vmx.l1 import Region
from kvmharness.vendors.vmx.vmx import VMX
from tests.surroundings import skylake

VENDORS = {"vmx": VMX, "svm": SVM}
# Rows that only the other vendor has.
FOREIGN = {"vmx": r" flush=| invlpga ", "svm": r" invvpid | invept | vmfunc | ad$| ad | bad=(host|nested)"}


def exported(name, vendor="vmx"):
    (test,) = select((name,))
    return selftest(test, VENDORS[vendor])


def numbers(text):
    return [int(word, 0) for word in re.findall(r"\b(?:0x[0-9a-f]+|\d+)\b", text)]


def table(text, name):
    """The rows of a C table, without their comments."""
    body = re.search(rf"\b{name}(?:\[\])? ?=? ?\{{\n(.*?)^\}};", text, re.DOTALL | re.MULTILINE)
    lines = (re.sub(r"/\*.*?\*/", "", line).strip() for line in body[1].splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize("test", every(), ids=lambda test: test.name)
def test_every_row_of_every_test_is_in_the_file_with_its_answers(test):
    texts = {}
    for name, vendor in VENDORS.items():
        with contextlib.suppress(UsageError):
            texts[name] = selftest(test, vendor)
    assert texts, "one vendor has it"
    for text in texts.values():
        checks = table(text, "checks")
        assert len(checks) == len(test.rows)
        for row, check in zip(test.rows, checks, strict=True):
            assert check.startswith(f'{{ "{row.text}", "')
            assert f"  {row.text} " in text.partition("*/")[0], "and in the comment at the top"
        assert "//@" not in text
        assert "//#" not in text
        assert max(len(line.expandtabs(8)) for line in text.splitlines()) <= 100
        assert not re.search(r"[ \t]$|^ +[^ *]", text, re.MULTILINE)
        assert text.count("{") == text.count("}")


@pytest.mark.parametrize("name", VENDORS)
def test_a_test_is_refused_where_the_vendor_lacks_what_it_does(name):
    refused = []
    for test in every():
        try:
            selftest(test, VENDORS[name])
        except UsageError as error:
            refused.append(test.name)
            said = str(error)
    assert refused == [test.name for test in every() if re.search(FOREIGN[name], test.text, re.MULTILINE)]
    assert said.endswith(f"which {VENDORS[name].names.title} does not have")


def test_the_same_test_gives_the_same_file():
    assert exported("everything-in-turn") == exported("everything-in-turn")
    assert exported("edit-l1-invlpg", "vmx") == exported("edit-l1-invlpg", "svm"), "L1 alone is nobody's"


@pytest.mark.parametrize("name", ["edit-l1-previous-root", "state-in-l2-nested", "nested-roots-in-turn"])
def test_memory_is_that_of_the_guest_that_the_harness_starts(name):
    """The file's tables, read back, against the blueprint for a real KVM; tables that no row names are left out."""
    (test,) = select((name,))
    offered = skylake().offered
    planned = plan(test, VMX, offered)
    pages = dict(blueprint(planned.kind, VMX, offered).pages)
    text = selftest(test, VMX)
    found = dict(word for row in table(text, "memory") for word in Run(*numbers(row)).words())
    wanted = words(pages)
    used = {row.get(operand) for row in test.rows for operand in ("table", "nested", "host")} | {"H0"}
    used |= {"G0"} if planned.kind == "nested" else set()
    for table_name in [f"{level}{n}" for level in "HG" for n in range(4)]:
        if table_name not in used:
            wanted = {gpa: word for gpa, word in wanted.items() if not 0 <= gpa - world(VMX).root(table_name) < 0x8000}
    for nested in ("E0", "E1", "E2"):
        base = world(VMX).nested_root(nested) & ~0xFFF
        wanted = {gpa: word for gpa, word in wanted.items() if nested in used or not 0 <= gpa - base < 0x6000}
    elsewhere = [range(0x10000, 0x30000), *(range(region, region + 0x1000) for region in (0x5000, 0x6000, 0x7000))]
    assert found == {gpa: word for gpa, word in wanted.items() if not any(gpa in place for place in elsewhere)}
    for code in ("l1_code", "l2_code")[: 2 if planned.kind == "nested" else 1]:
        data = bytes(numbers(" ".join(table(text, code))))
        assert data == pages[0x10000 if code == "l1_code" else 0x20000]


def test_control_fields_say_what_is_wanted_and_no_more():
    """Only the bits below; what the KVM demands is added where the file runs. Source: SDM vol. 3C, VM controls."""
    fields = dict(numbers(row + ", 0")[:2] for row in table(exported("state-in-l2-nested"), "vmcs"))
    assert (fields[0x4000], fields[0x4002]) == (0, 0)
    assert fields[0x400C] == 1 << 9 | 1 << 21  # 64-bit host, load EFER
    assert fields[0x4012] == 1 << 9 | 1 << 15  # IA-32e mode guest, load EFER
    offered = skylake().offered
    planned = plan(select(("state-in-l2-nested",))[0], VMX, offered)
    data = blueprint(planned.kind, VMX, offered).pages[Region.VMCS_TABLE]
    real = {
        int.from_bytes(data[at : at + 4], "little"): int.from_bytes(data[at + 8 : at + 16], "little")
        for at in range(0, len(data), 16)
    }
    assert set(real) == set(fields)
    controls = {0x4000: 0x48D, 0x4002: 0x48E, 0x400C: 0x48F, 0x4012: 0x490}
    for field, value in real.items():
        demanded = offered.msrs[controls[field]] & 0xFFFF_FFFF if field in controls else 0
        assert value == fields[field] | demanded, hex(field)


def test_rows_are_those_that_the_harness_runs():
    """But for control fields, as above."""
    (test,) = select(("nested-roots-in-turn",))
    planned, text = plan(test, VMX, skylake().offered), exported("nested-roots-in-turn")
    codes = dict(re.findall(r"\t(L[12]_[A-Z_0-9]+) = (0x[0-9a-f]+),", text))
    for who, data in planned.rows.items():
        for at, row in enumerate(table(text, f"{who.lower()}_actions")):
            code, *given = row.strip("{}, ").split(", ")
            sent = [int.from_bytes(data[at * Act.BYTES + n * 8 :][:8], "little") for n in range(4)]
            assert int(codes[code], 16) == sent[0]
            if code == "L1_WRITE_FIELD" and sent[1] in (0x4002, 0x401E):
                continue
            values = [{"RUNG_END": 0x10}.get(word) or int(word, 0) for word in given]
            assert values + [0] * (3 - len(values)) == sent[1:]
    assert f"fill_actions({STREAMS['L2'][0]:#x}, l2_actions" in text


def test_runs_give_back_every_word():
    pages = {0x1000: bytes(range(8)) * 4, 0x3008: b"".join(n.to_bytes(8, "little") for n in (5, 3, 1)), 0x9000: b"\1"}
    all_words = words(pages)
    made = [run for _, group in runs(all_words, lambda gpa: "x") for run in group]
    assert dict(word for run in made for word in run.words()) == all_words
    assert len(made) == 3, "a run that does not change, one that counts down, one word"


@pytest.mark.parametrize("vendor", VENDORS)
def test_random_tests_are_exported_too(vendor):
    """Long ones, with rows whose answers are many: within 100 columns all the same."""
    offers = frozenset(litmus_of(VENDORS[vendor]).asks) | {NESTING, "PCID", "INVPCID", "SMEP", "SMAP", "NX"}
    made = programs(7, offers, svm=vendor == "svm")
    for test in islice(made, 6):
        text = selftest(test, VENDORS[vendor])
        assert max(len(line.expandtabs(8)) for line in text.splitlines()) <= 100
        assert len(re.findall(r'^\t\{ "(?:L1|L2|V1|host) ', text, re.MULTILINE)) == len(test.rows)


def test_what_a_name_says_cannot_end_the_comment():
    text = selftest(program("x */ int main;", "L1 read p0"), VMX)
    assert "x * / int main;" in text
    assert text.partition("*/")[2].lstrip().startswith("#include")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--export", "selftest"], "--export takes one test"),
        (["--export", "selftest", "--random", "3"], "--export takes one test, not random ones"),
        (["wp", "--output", "x.c"], "--output is about what --export writes"),
        (["wp", "--export", "selftest", "--output", "/nowhere/x.c"], "--output: cannot write /nowhere/x.c"),
        (["wp", "--export", "poem"], "invalid choice: 'poem'"),
        (["vmfunc", "--export", "selftest", "--host", "svm"], "needs EPTP switching by VMFUNC, which"),
    ],
)
def test_what_cannot_be_exported_is_refused(arguments, said, capsys):
    try:
        status = main(["litmus", *arguments])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert said in capsys.readouterr().err


def test_exported_from_the_command_line(tmp_path, capsys):
    file, made = tmp_path / "own.litmus", tmp_path / "own.c"
    file.write_text("name: own\nL1 enter G0\nL2 read p0\n")
    assert main(["litmus", str(file), "--export", "selftest", "--host", "svm", "--output", str(made)]) == 0
    assert "for SVM" in capsys.readouterr().err
    assert main(["litmus", str(file), "--export", "selftest", "--host", "svm"]) == 0
    assert capsys.readouterr().out == made.read_text()
    assert main(["litmus", str(file), "--export", "selftest", "--output", str(file)]) == 2
    assert file.read_text().startswith("name: own")
