"""run, compare, validate and lab: what they refuse, and what they print when there is nothing to boot."""

import io
import json
from dataclasses import replace

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.matrix import matrix
from kvmharness.cli import run
from kvmharness.cli.main import main
from kvmharness.lab.kernels.build import Kernel
from kvmharness.results.document import written
from kvmharness.results.store import save
from kvmharness.validation import chosen
from kvmharness.validation.host import Emulated, ThisMachine
from tests import builders
from tests.oracle.root_cache_trees import root_cache_tree

LOCAL = ("validate", "fast-cr3-switch", "--host", "local")
KERNEL = ("--kernel", "/boot/x", "--modules", "/nowhere")
CELLS = (Cell(Setup.NO_EPT, 1, 1), Cell(Setup.NO_EPT, 3, 3))


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "record.json"
    save(builders.record(CELLS), path)
    return str(path)


def test_list_needs_no_kvm(capsys):
    assert main(["run", "--list"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [cell.id for cell in matrix()]
    assert "c:E/ORDER[/N1xN2]" in err


def test_list_of_one_set_up(capsys):
    assert main(["run", "--list", "d"]) == 0
    assert {line[0] for line in capsys.readouterr().out.splitlines()} == {"d"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "z"], "'z' is no cell: it begins with 'z', where a set-up is expected"),
        (["run", "a:9x*"], "no default cell matches 'a:9x*'"),
        (["run", "a:3x3", "a:16x1", "--host", "vmx"], "a:16x1 does not fit into a guest's memory"),
        (["run", "a:3x3/npt=0", "--host", "vmx"], "a:3x3/npt=0: kvm_amd.npt is no parameter"),
        (["run", "--host", "vmz"], "no host is called 'vmz'"),
        (["run", "--host", "vmx:486"], "no host is called 'vmx:486'"),
        (["run", "--host", "vmx", "--kernel", "/boot/x"], "--kernel and --modules belong together"),
        (["run", "--host", "vmx", "--kernel", "/nix", "--modules", "/nix"], "no such file: /nix"),
        (["run", "--host", "vmx", "--source", "/nix"], "/nix is neither a Linux source tree nor a tarball"),
        (
            ["run", "d", "--json", "/nowhere/x.json"],
            "--json: cannot write /nowhere/x.json: No such file",
        ),
        (["run", "d", "--html", "/tmp"], "--html: cannot write /tmp: Is a directory (EISDIR)"),
        (["compare", "/nowhere/a.json", "/nowhere/b.json"], "cannot read record /nowhere/a.json"),
        (["compare", "/nowhere/a.json"], "compare takes two records"),
        (["validate", "nix"], "no series 'nix'"),
        (["validate", "fast-cr3-switch", "z"], "'z' is no cell"),
        (["validate", "fast-cr3-switch", "--host", "486"], "no host is called '486'"),
        ([*LOCAL], "validate replaces KVM's modules"),
        ([*LOCAL, "--reload-modules"], "--host local needs --source"),
        ([*LOCAL, "--reload-modules", "--source", "/nowhere"], "/nowhere is not a built kernel tree"),
        (["lab", "exec", "/nowhere/x"], "/nowhere/x: No such file or directory"),
        (["lab", "boot", "--host", "nix"], "no host is called 'nix'"),
        (["lab", "boot", "--host", "local"], "no host is called 'local'"),
        (["lab", "build", "--kernel", "/boot/x"], "--kernel and --modules belong together"),
        (["run", "--param", "kvm.tdp_mmu=N"], "this machine runs what it runs"),
        (["run", "--series", "fast-cr3-switch"], "this machine runs what it runs"),
        (["run", "--variant", "p1", "--host", "vmx"], "--variant without --series"),
        (["run", "--series", "fast-cr3-switch", "--variant", "p3", "--host", "vmx"], "no variant 'p3'"),
        (["run", "--series", "nix", "--host", "vmx"], "no series 'nix'"),
        (["run", "a", "--trace", "--host", "vmx"], "--trace shows one cell"),
        (["run", "d", "--within", "1m"], "--within says how long --detect may take"),
        (["run", "d", "--detect", "1%", "--host", "vmx"], "every turn is the same on vmx"),
        (["run", "d", "--cpu", "99999"], "no thread can be put on CPU 99999"),
        (["run", "d", "--cpu", "0", "--host", "vmx"], "--cpu and --memory are about this machine's own"),
        (["validate", "fast-cr3-switch", "--memory", "huge"], "--cpu and --memory are about this machine's own"),
        (["run", *KERNEL, "--host", "svm", "--source", "/nowhere"], "--kernel boots a kernel as it is"),
    ],
)
def test_what_is_refused_before_anything_is_done(arguments, says, capsys, monkeypatch):
    for kind in (ThisMachine, Emulated):
        monkeypatch.setattr(kind, "recover", lambda host, say: pytest.fail("something was done"))
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--round-trips", "0"],
        ["run", "--batches", "many"],
        ["run", "--batches", "65537"],
        ["run", "--has", "both"],
        ["run", "--has", "reuse-current,reuse"],
        ["run", "--has", ""],
        ["run", "--param", "tdp_mmu=N"],
        ["run", "--cpu", "first"],
        ["run", "--detect", "0"],
        ["run", "--detect", "51%"],
        ["run", "--detect", "nan"],
        ["run", "--detect", "1%", "--within", "0s"],
        ["run", "--cpu", "-1"],
        ["run", "--memory", "huge,large"],
        ["run", "--memory", ""],
        ["compare", "a", "b", "--tolerance", "lots"],
        ["validate", "x", "--turns", "0"],
        ["lab"],
        ["lab", "exec", "--timeout", "-1", "x"],
    ],
)
def test_what_argparse_refuses(arguments, capsys):
    assert main(arguments) == 2
    assert "usage: kvmharness" in capsys.readouterr().err


def test_compare_two_records(record, capsys):
    assert main(["compare", record, record]) == 0
    assert "a:3x3" in capsys.readouterr().out


def test_compare_two_variants_as_json(record, capsys):
    main(["compare", record, "--variants", "none", "both", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert [cell["variants"] for cell in document["cells"]] == [["none", "both"]] * len(CELLS)


def test_compare_host_by_host(tmp_path, capsys):
    made = builders.record(CELLS)
    both = [replace(made, host={**made.host, "name": name}) for name in ("vmx", "svm")]
    slower = builders.record(CELLS, slower=0.1)
    worse = [both[0], replace(slower, host={**slower.host, "name": "svm"})]
    (tmp_path / "a.json").write_text(written(both, None))
    (tmp_path / "b.json").write_text(written(worse, None))
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 1
    on_vmx, on_svm = capsys.readouterr().out.split("\n\n")
    assert on_vmx.startswith("vmx:\n")
    assert on_vmx.endswith("PASS")
    assert on_svm.startswith("svm:\n")
    assert on_svm.endswith("FAIL\n")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert {host: each["outcome"] for host, each in document.items()} == {"vmx": "PASS", "svm": "FAIL"}


def test_compare_of_a_cut_off_record(record, capsys):
    with open(record, "r+") as file:
        file.truncate(200)
    assert main(["compare", record, record]) == 2
    assert f"cannot read record {record}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("a:3x*", "'a:3x*' is no cell"),
        ("a", "'a' is no cell: a:N1xN2 is expected"),
        ("c:16/ABAB", "c:16/ABAB does not fit"),
        ("a:3x3/npt=0", "kvm_amd.npt is no parameter"),
        ("e:7x1/tdp_mmu=N", "unknown metric 'lodes'"),  # any cell will do
    ],
)
def test_bisect_takes_one_cell(cell, says, capsys):
    assert main(["bisect", cell, "lodes", "0"]) == 125
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        # Read, and then refused.
        (["compare", "RECORD", "/nowhere/b.json", "--bisect"], 125),
        (["compare", "RECORD", "/nowhere/b.json", "--bi"], 125),
        (["compare", "RECORD", "/nowhere/b.json"], 2),
        (["bisect", "z:1", "loads", "0"], 125),
        (["bisect", "a:3x3", "loads", "0", "--host", "local"], 125),
        (["validate", "nix", "--bisect"], 125),
        # Not even read: git would take 2 for a bad commit.
        (["compare", "--bisect"], 125),
        (["compare", "RECORD", "RECORD", "--tolerance", "lots", "--bis"], 125),
        (["bisect", "a:3x3"], 125),
        (["bisect", "--nix"], 125),
        (["compare", "--nix"], 2),
        # The word is somebody else's.
        (["lab", "exec", "/nowhere/program", "--bisect"], 2),
        (["compare", "RECORD", "--", "--bisect"], 2),
        (["bisect", "--help"], 0),
    ],
)
def test_for_git_what_is_no_verdict_is_125(arguments, code, record, capsys):
    assert main([record if word == "RECORD" else word for word in arguments]) == code


@pytest.mark.needs("kvm")
def test_the_matrix_without_nesting(tmp_path, capsys):
    """L1 alone runs on any KVM; what needs nesting is skipped with the way out."""
    path = tmp_path / "record.json"
    main(["run", "d:3", "--turns", "1", "--batches", "2", "--json", str(path), "--ktap", str(tmp_path / "k")])
    assert "d:3" in capsys.readouterr().out
    document = json.loads(path.read_text())
    assert [result["id"] for result in document["results"]] == ["d:3"]
    assert document["results"][0]["probes"]["failures"] == 0
    assert (tmp_path / "k").read_text().startswith("KTAP version 1\n")


@pytest.mark.slow
@pytest.mark.needs("emulated_vmx")
def test_a_static_program_in_the_emulated_host(tmp_path, capfd, monkeypatch):
    import subprocess

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    source = tmp_path / "hello.c"
    source.write_text(
        "#include <fcntl.h>\n#include <stdio.h>\n"
        'int main(int n, char **a) { printf("%s %d\\n", a[1], open("/dev/kvm", O_RDWR) >= 0); return 7; }\n'
    )
    program = tmp_path / "hello"
    subprocess.run(["gcc", "-static", "-o", program, source], check=True)
    assert main(["lab", "exec", "-q", str(program), "kvm"]) == 7
    assert capfd.readouterr().out == "kvm 1\n"


def test_what_a_kernel_has_is_what_the_user_says_else_what_its_source_shows(tmp_path):
    built = Kernel(tmp_path, tmp_path, tree=root_cache_tree("6.1", tmp_path / "tree"))
    given = Kernel(tmp_path, tmp_path)

    def seen(has, kernel):
        view = chosen._view(has, kernel)
        return view.features["ignore_direct_pgd"], view.features["reuse_current"], view.why

    assert run._features("none") == ()
    assert run._features("all") == ("ignore-direct-pgd", "reuse-current")
    assert seen(("reuse-current",), built) == (0, 1, "as it was said")
    assert seen((), given) == (0, 0, "as it was said")
    assert seen(None, built) == (1, 1, "found in its source")
    assumed = (1, 1, "taken as Linux has it since 5.7: its source is not at hand")
    assert seen(None, given) == assumed
