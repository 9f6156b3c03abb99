"""validate: what is refused before anything is built, and what is said of what was chosen."""

import io

import pytest

from kvmharness.cli.main import main
from kvmharness.hosts.catalogue import Emulator
from kvmharness.lab.kernels import build
from kvmharness.results.verdict import Outcome, Verdict
from kvmharness.system import sandbox
from kvmharness.validation import places, whole
from kvmharness.validation.host import resolve
from kvmharness.validation.places import Place
from kvmharness.validation.together import Together
from tests import builders
from tests.folders import MAILS, written
from tests.suites.unittests import images

DEMO = """\
#include <linux/module.h>
module_param_named(tdp_mmu, tdp_mmu_enabled, bool, 0444);
one
two
three = 3
four
five
"""
PATCH = """\
From: a@b
Subject: [PATCH] KVM: x86: Make three larger

--- a/arch/x86/kvm/demo.c
+++ b/arch/x86/kvm/demo.c
@@ -3,4 +3,4 @@
 one
 two
-three = 3
+three = 33
 four
"""
CLAIM = """
[[claim]]
name = "mine"
text = "Mine."
metric = "loads"
check = "exactly"
value = 0
"""


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with a kernel's tree and a series in it, where building anything is a failure of the test."""

    def building(*arguments, **options):
        pytest.fail("something was built")

    for name in ("kernel", "variant"):
        monkeypatch.setattr(build, name, building)
    monkeypatch.setattr(Emulator, "lacks", lambda emulator, brought=False: {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    files = {"arch/x86/kvm/demo.c": DEMO, "arch/x86/kvm/vmx/vmx.c": "module_param_named(ept, enable_ept, bool, 0);\n"}
    files["arch/x86/kvm/svm/svm.c"] = "module_param_named(npt, npt_enabled, bool, 0);\n"
    written(tmp_path / "linux", {**files, "virt/kvm/kvm_main.c": "", "Kconfig": ""})
    (tmp_path / "fix.patch").write_text(PATCH)
    (tmp_path / "claims.toml").write_text(CLAIM)
    return tmp_path


def command(*words):
    return ["validate", "fix.patch", "--source", "linux", *words]


def claims(**more):
    """The file of claims with other words in it."""
    lines = dict(line.split(" = ", 1) for line in CLAIM.strip().splitlines()[1:])
    return "[[claim]]\n" + "".join(f"{key} = {value}\n" for key, value in {**lines, **more}.items())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        # The claims.
        (["--claims-only"], "--claims-only without --claims"),
        (["--claims", "/nowhere/x.toml"], "cannot read /nowhere/x.toml"),
        # The variants.
        (["--variants", "none", "p9"], "no variant 'p9' in fix.patch"),
        (["--variants", "both"], "no variant 'both'"),
        # Parameters that no module has.
        (["--param", "kvm.nosuch=1"], "kvm.nosuch is no parameter of this kernel's KVM"),
        (["a:1x1/kvm.nosuch=1"], "kvm.nosuch is no parameter of this kernel's KVM"),
        (["--param", "kvm_amd.npt=0"], "kvm_amd.npt is no parameter of kvm and kvm_intel"),
        # Hosts and cells.
        (["--host", "vmx", "--host", "vmz"], "no host is called 'vmz'"),
        (["a:1x1", "a:1x1/npt=0"], "kvm_amd.npt is no parameter of kvm and kvm_intel"),
        (["--debug-kernel=kasan"], "argument --debug-kernel: ignored explicit argument 'kasan'"),
        (["c:3/AABB", "--host", "vmx:penryn"], "c:3/AABB needs tdp (KVM uses EPT or NPT), tlb_tags ("),
        (
            ["a:1x1/pcid", "--host", "svm", "--host", "svm:epyc-nonpt"],
            "a:1x1/pcid needs pcid (guests get PCIDs); svm does not offer that",
        ),
    ],
)
def test_what_is_refused_before_anything_is_built(words, says, desk, capsys):
    assert main(command(*words)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert "Traceback" not in err
    assert not list((desk / "cache").glob("kvmharness/*/*"))


def test_parameters_that_there_are_are_listed(desk, capsys):
    assert main(command("--param", "kvm_intel.nosuch=1")) == 2
    assert "hint: kvm_intel has ept." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "claims.toml claims nothing"),
        (CLAIM.replace("[[claim]]", "[[claims]]"), "unknown key 'claims'"),
        (CLAIM.replace("[[claim]]", "[claim]"), "no list of tables, which is expected"),
        (claims(worth="1"), "unknown key 'worth'"),
        (claims(metric='"lodes"'), "unknown metric 'lodes'"),
        (claims(metric='"exits.VMWRTE"'), "exits for VMWRTE, which no host of this run counts"),
        (claims(metric='"exits.VMRUN"'), "exits for VMRUN, which no host of this run counts"),
        (claims(cells='"a:9x9"'), "cells that no host of this run has: a:9x9"),
        (claims(cells='"z:*"'), "begins with none of the set-ups"),
        (claims(variants='["p2"]'), "variant 'p2', which the series does not have"),
    ],
)
def test_claims_that_cannot_be_checked(text, says, desk, capsys):
    (desk / "claims.toml").write_text(text)
    assert main(command("--claims", "claims.toml", "--host", "vmx")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert not list((desk / "cache").glob("kvmharness/*/*"))


def test_a_claim_about_a_statistic_that_the_kernel_does_not_keep(desk, capsys):
    (desk / "linux/arch/x86/kvm/x86.c").write_text("STATS_DESC_COUNTER(VCPU, tlb_flush),\n")
    (desk / "claims.toml").write_text(claims(metric='"stat.tlb_flsh"'))
    assert main(command("--claims", "claims.toml")) == 2
    assert "statistic tlb_flsh, which this kernel does not have" in capsys.readouterr().err


@pytest.fixture
def runs(desk, monkeypatch):
    """What would have been run, instead of being built and run."""
    seen = []

    def run(order, task, keeping):
        seen.append(order)
        record = builders.record((), ("none", "p1"))
        verdict = Verdict("x", Outcome.PASS, (), ("none", "p1"), order.command)
        return Together(verdict, {place.host.spec: record for place in order.places})

    monkeypatch.setattr(whole, "run", run)
    return seen


def test_each_host_gets_the_cells_that_it_can_run(runs):
    words = ["a:1x1", "a:1x1/npt=0", "--host", "vmx", "a:1x1/ept=0", "--host", "svm", "--host", "vmx:skylake"]
    assert main(command(*words)) == 0
    (order,) = runs
    assert [(place.host.spec, [cell.id for cell in place.cells]) for place in order.places] == [
        ("vmx", ["a:1x1", "a:1x1/ept=0"]),
        ("svm", ["a:1x1", "a:1x1/npt=0"]),
    ]
    (on_vmx,), (on_svm,) = (place.skipped for place in order.places)
    assert on_vmx.startswith("Not on vmx: a:1x1/npt=0: kvm_amd.npt is no parameter")
    assert on_svm.startswith("Not on svm: a:1x1/ept=0: kvm_intel.ept is no parameter")


def test_a_host_that_can_run_none_of_the_cells_is_left_out(runs):
    assert main(command("b:1x1", "--host", "vmx", "--host", "vmx:penryn")) == 0
    assert [len(place.cells) for place in runs[0].places] == [1, 0]
    assert "b:1x1 needs tdp" in runs[0].places[1].skipped[0]


@pytest.mark.parametrize(
    ("path", "words", "hosts"),
    [
        ("mmu/mmu.c", [], ["vmx", "svm"]),
        ("vmx/vmx.c", [], ["vmx"]),
        ("svm/svm.c", [], ["svm"]),
        ("mmu/mmu.c", ["a:1x1"], ["vmx"]),
        ("svm/svm.c", ["a:1x1"], ["svm"]),
        ("mmu/mmu.c", ["--bisect"], ["vmx"]),
        ("mmu/mmu.c", ["a:1x1", "--thorough"], ["vmx", "svm"]),
    ],
)
def test_without_a_host_it_is_one_of_each_vendor_that_the_series_concerns(path, words, hosts, runs, desk):
    (desk / "fix.patch").write_text(PATCH.replace("demo.c", path))
    assert main(command(*words)) == 0
    assert [place.host.spec for place in runs[0].places] == hosts


def test_a_vendor_whose_emulator_is_not_installed_is_left_out(runs, monkeypatch):
    monkeypatch.setattr(
        Emulator, "lacks", lambda emulator, brought=False: {"x": "y"} if emulator.title == "QEMU" else {}
    )
    assert main(command()) == 0
    assert [place.host.spec for place in runs[0].places] == ["vmx"]


def test_cells_may_stand_behind_variants(runs, capsys):
    assert main(command("--variants", "none", "p1", "a:1x1", "--turns", "3", "b:1x1")) == 0
    assert "--thorough adds the kernel's selftests" in capsys.readouterr().err
    assert runs[0].variants == ("none", "p1")
    assert sorted(cell.id for cell in runs[0].places[0].cells) == ["a:1x1", "b:1x1"]


@pytest.mark.parametrize(
    ("words", "choice"), [([], ""), (["--debug-kernel"], "lite"), (["--debug-kernel=kmemleak"], "kmemleak")]
)
def test_the_debug_kernel_is_asked_for_by_a_word_that_takes_no_other(words, choice, runs):
    assert main(["validate", *words, "fix.patch", "--source", "linux"]) == 0
    assert runs[0].wanted.debug == choice


def test_everything_is_asked_for_by_one_word(runs, tmp_path, capsys):
    (tmp_path / "some.flat").write_bytes(images.SILENT)
    assert main(command("a:1x1", "--thorough", "--unit-tests", str(tmp_path), "--settings", "kvm.tdp_mmu=N")) == 0
    wanted = runs[0].wanted
    assert (wanted.litmus, wanted.debug, wanted.thorough) == (True, "lite", True)
    assert [test.name for test in wanted.unit_tests] == ["some"]
    assert wanted.settings == ((("kvm.tdp_mmu", "N"),),)
    assert "adds" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default", ()),
        ("kvm.tdp_mmu=N", (("kvm.tdp_mmu", "N"),)),
        ("kvm.tdp_mmu=N,kvm_intel.ept=0", (("kvm.tdp_mmu", "N"), ("kvm_intel.ept", "0"))),
    ],
)
def test_settings_are_sets_of_parameters(text, expected, runs):
    assert main(command("--settings", text, "--settings", "default")) == 0
    assert runs[0].wanted.settings == (expected, ())


def test_what_is_no_setting_or_no_tree_is_refused(runs, capsys):
    assert main(command("--settings", "ept=0")) == 2
    assert "'ept=0' is not of the form module.name=value" in capsys.readouterr().err
    assert main(command("--unit-tests", "/nowhere")) == 2
    assert "/nowhere is no folder" in capsys.readouterr().err


def test_the_kernel_that_is_running_is_no_debug_kernel(desk, monkeypatch, capsys):
    here = Place(resolve("local"), build.Kernel(desk, desk), (), True)
    monkeypatch.setattr(places, "places", lambda *hosts, **options: (here,))
    assert main(command("--host", "local", "--reload-modules", "--debug-kernel")) == 2
    assert "--debug-kernel boots a kernel that is built for it" in capsys.readouterr().err


def test_which_mails_were_taken_is_said(runs, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((MAILS / "lore-thread.mbox").read_bytes())))
    assert main(["validate", "-", "--source", "linux"]) == 0
    err = capsys.readouterr().err
    assert "version 2 of the series is taken, 3 patches\n" in err
    assert "ignored (a reply): " in err
    assert runs[0].series.name == "KVM: x86: Demo"
    assert runs[0].command == ("kvmharness", "validate", "-", "--source", "linux")


def test_claims_are_added_unless_they_are_to_replace(runs, desk):
    (desk / "series.toml").write_text(claims(name='"own"'))
    for more, names in ([], ["own", "mine"]), (["--claims-only"], ["mine"]):
        assert main(["validate", ".", "--source", "linux", "--claims", "claims.toml", *more]) == 0
        assert [claim["name"] for claim in runs.pop().series.claims] == names


def test_usual_cells_that_the_kernel_has_no_parameter_for_are_left_out(desk, monkeypatch, capsys):
    """An old kernel has no TDP MMU: nobody asked for cells without it."""
    demo = desk / "linux/arch/x86/kvm/demo.c"
    demo.write_text(DEMO.replace("tdp_mmu,", "tdp,"))
    seen = []

    def validate_on(parts, **options):
        seen.extend(parts)
        return Together(Verdict("x", Outcome.PASS, (), (), ()), {})

    monkeypatch.setattr(build, "kernel", lambda source, **how: build.Kernel(desk, desk, tree=desk / "linux"))
    monkeypatch.setattr(build, "variant", lambda tree, files, name, progress: desk)
    monkeypatch.setattr(build, "modules_id", lambda folder: "id")
    monkeypatch.setattr(whole, "validate_on", validate_on)
    main(command())
    ids = [cell.id for cell in seen[0].cells]
    assert ids
    assert not [name for name in ids if "tdp_mmu" in name]
    assert "/tdp_mmu=N: kvm.tdp_mmu is no parameter" in capsys.readouterr().err


def test_a_makefiles_commands_do_not_run_as_the_user_unless_that_is_allowed(desk, runs, monkeypatch, capsys):
    monkeypatch.setattr(sandbox, "why_not", lambda: "unshare failed: Operation not permitted")
    (desk / "linux/arch/x86/kvm/Makefile").write_text("kvm-y := demo.o\n")
    change = "--- a/arch/x86/kvm/Makefile\n+++ b/arch/x86/kvm/Makefile\n@@ -1 +1,2 @@\n kvm-y := demo.o\n+$(shell id)\n"
    (desk / "fix.patch").write_text(PATCH + change)
    assert main(command()) == 2
    said = capsys.readouterr().err
    assert "fix.patch changes arch/x86/kvm/Makefile" in said
    assert "--allow-unsandboxed-build" in said
    assert main(command("--allow-unsandboxed-build")) == 0
    assert capsys.readouterr().err.count("no sandbox for builds on this machine: unshare failed") == 1
