"""A tree as tests of a suite: what each asks for, and why one is skipped; bad input is told and the others go on."""

import pytest

from kvmharness.errors import UsageError
from kvmharness.lab.steps import Call
from kvmharness.results.tests import UNIT_TESTS
from kvmharness.suites.unittests.tree import read_tree
from tests.suites.unittests import images
from tests.suites.unittests.trees import one, tree

GOOD = images.reporting("PASS: it\n", 0)
BOCHS_LACKS = ["vmx_preemption_timer*", "preemption_timer", "vmx_controls_test"]


def test_a_test_of_a_tree(tmp_path):
    test = one(tmp_path, GOOD, "timeout = 5\ntest_args = a b\nsmp = 2\nqemu_params = -cpu max,-pku -m 256")
    assert (test.battery, test.name, test.missing, test.params, test.timeout_s) == (UNIT_TESTS, "some", "", (), 5)
    assert test.files == {"/unit-tests/some.flat": tmp_path / "x86/some.flat"}
    step = test.step(inside=True)
    assert isinstance(step, Call)
    assert (step.args["image"], step.args["args"], step.args["smp"]) == ("/unit-tests/some.flat", "a b", 2)
    assert (step.args["memory_mb"], step.args["emulated"]) == (256, True)
    assert step.args["processor"]["remove"] == [[7, 0, "ecx", 8]]
    assert test.step(inside=False).args["image"] == str(tmp_path / "x86/some.flat")


def test_images_without_a_file_about_them_are_a_test_each(tmp_path):
    folder = tree(tmp_path, {"one.flat": GOOD, "two.flat": GOOD, "two.elf": b""})
    tests = read_tree(folder)
    assert [(test.name, test.missing, test.args) for test in tests] == [("one", "", ""), ("two", "", "")]


def test_the_folder_of_the_architecture_can_be_named(tmp_path):
    tree(tmp_path, {"one.flat": GOOD}, "[a]\nfile = one.flat\n")
    assert [test.name for test in read_tree(tmp_path / "x86")] == ["a"]


@pytest.mark.parametrize(
    ("section", "missing"),
    [
        ("arch = i386", "it is for i386, and the tree was built for x86_64"),
        ("accel = tcg", "it is for the accelerator tcg"),
        ("groups = x migration", "migration to another VMM (group migration)"),
        ("groups = nodefault", "it runs only when it is named (group nodefault)"),
        ("file = other.flat", "other.flat has not been built"),
        ("smp = few", "its line smp = few cannot be acted on: a number of processors is expected"),
        ("qemu_params = -device edu", "the device edu"),
        ("qemu_params = -m 1", "its image ends at 0x110000, beyond its 1 MB of memory"),
        ("test_args = `cat /etc/passwd`", "a shell, for its arguments `cat /etc/passwd`"),
        ("test_args = $HOME", "a shell, for its arguments $HOME"),
    ],
)
def test_what_is_missing_is_named(tmp_path, section, missing):
    assert one(tmp_path, GOOD, section).missing == missing


def test_the_time_is_what_arguments_may_ask_a_shell_for(tmp_path):
    assert one(tmp_path, GOOD, 'test_args = "10 `date +%s`"').missing == ""


@pytest.mark.parametrize(("patterns", "missing"), [(("some",), ""), (("so*",), ""), (("other",), "named")])
def test_one_that_is_named_runs(tmp_path, patterns, missing):
    found = one(tmp_path, GOOD, "groups = nodefault", patterns=patterns).missing
    assert missing in found
    assert bool(found) == bool(missing)


def test_checks_of_parameters_are_parameters_to_load_with(tmp_path):
    section = "check = /sys/module/kvm/parameters/enable_pmu=Y /proc/x=1 /sys/module/kvm_intel/parameters/pml=N"
    test = one(tmp_path, GOOD, section)
    assert test.params == (("kvm.enable_pmu", "Y"), ("kvm_intel.pml", "N"))
    assert len(test.step(inside=True).args["checks"]) == 3, "what came of it is looked at all the same"


@pytest.mark.parametrize(
    ("args", "wanted"),
    [("force_emulation", True), ("a x_forced_emulation_test", True), ("-x_forced_emulation_test", False), ("a", False)],
)
def test_forced_emulation_takes_a_parameter(tmp_path, args, wanted):
    assert one(tmp_path, GOOD, f"test_args = {args}").params == (
        (("kvm.force_emulation_prefix", "1"),) if wanted else ()
    )


def test_arguments_in_options_of_old(tmp_path):
    test = one(tmp_path, GOOD, "extra_params = -append 'one two'")
    assert (test.args, test.missing) == ("one two", "")


def test_an_image_that_does_not_boot_is_told_and_the_others_go_on(tmp_path):
    config = "[good]\nfile = good.flat\n[bad]\nfile = bad.flat\n[none]\nsmp = 1\n"
    good, bad, none = read_tree(tree(tmp_path, {"good.flat": GOOD, "bad.flat": b"#!/bin/sh"}, config))
    assert good.missing == ""
    assert bad.missing == ("bad.flat is no multiboot image: there is no multiboot header in its first 8192 bytes")
    assert none.missing == "it names no image"


def test_notes_are_said_once_for_each_entry(tmp_path):
    said = []
    one(tmp_path, GOOD, "colour = green\nqemu_params = -cpu max,+warp", say=said.append)
    assert said == [
        "some: 'colour' is no key that is known, and is left out of account",
        "some: the CPU flag '+warp' is left out of account",
    ]


@pytest.mark.parametrize(
    ("images_there", "config", "why"),
    [
        ({}, "[a]\nfile = a.flat\n", "is not built: it has no .flat file"),
        ({"a.efi": GOOD}, "[a]\nfile = a.flat\n", "is built for EFI"),
        ({}, None, "holds neither unittests.cfg nor a .flat file"),
    ],
)
def test_a_tree_that_was_not_built(tmp_path, images_there, config, why):
    with pytest.raises(UsageError, match=why) as caught:
        read_tree(tree(tmp_path, images_there, config))
    assert "./configure" in caught.value.hint


def test_no_tree_at_all(tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        read_tree(tmp_path / "nowhere")


def test_what_stands_for_rounds_and_the_port_is_shorter_in_an_emulator(tmp_path):
    """cmp rdx, imm32 is REX.W 81 /7 id; in al, dx; test al, imm8; jz rel8 are EC, A8 and 74 (SDM vol. 2)."""
    code = b"\x48\x81\xfa" + (2**30 - 1).to_bytes(4, "little") + b"\xec\xa8\x20\x74\xfb"
    config = "[rounds]\nfile = vmexit.flat\n[others]\nfile = other.flat\n"
    image = images.elf(images.MULTIBOOT + code)
    rounds, others = read_tree(tree(tmp_path, {"vmexit.flat": image, "other.flat": image}, config))
    port = [103, "b020906690"]  # mov al, 0x20 is B0 20; 90 and 66 90 do nothing
    assert rounds.step(inside=True).args["patches"] == [port, [99, (2**20 - 1).to_bytes(4, "little").hex()]]
    assert others.step(inside=True).args["patches"] == [port]
    assert rounds.step(inside=False).args["patches"] == []


@pytest.mark.parametrize(("inside", "args"), [(True, "100000 0"), (False, "10000000 0")])
def test_rounds_in_arguments_are_fewer_in_an_emulator(tmp_path, inside, args):
    config = "[clock]\nfile = kvmclock_test.flat\ntest_args = 10000000 0\n"
    (test,) = read_tree(tree(tmp_path, {"kvmclock_test.flat": GOOD}, config))
    assert test.step(inside=inside).args["args"] == args


def test_what_looks_for_firmware_is_skipped(tmp_path):
    timer = "[timer]\nfile = vmexit.flat\ntest_args = inl_from_pmtimer\n"
    config = f"[sleep]\nfile = s3.flat\n{timer}[cpuid]\nfile = vmexit.flat\n"
    tests = read_tree(tree(tmp_path, {"s3.flat": GOOD, "vmexit.flat": GOOD}, config))
    assert ["ACPI" in test.missing for test in tests] == [True, True, False]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("-a -b*", BOCHS_LACKS),
        ("", BOCHS_LACKS),
        ("-vmx_controls_test -a", [name for name in BOCHS_LACKS if name != "vmx_controls_test"]),
        ("one_test", []),
        ("vmx_controls_test", []),
    ],
)
def test_what_ends_all_behind_it_in_an_emulator_is_left_out_there(tmp_path, args, expected):
    config = f"[some]\nfile = vmx.flat\ntest_args = {args}\n"
    (test,) = read_tree(tree(tmp_path, {"vmx.flat": GOOD}, config))
    assert [name for name, _ in test.step(inside=True).args["left_out"]] == expected
    assert one(tmp_path, GOOD, f"test_args = {args}").step(inside=True).args["left_out"] == []
