"""Lines of functions, from objects that gcc made with debug information here."""

import subprocess

from kvmharness.lab.kernels.symbols import places

SOURCE = "int first(int x)\n{\n\treturn x + 1;\n}\n\nint second(int x)\n{\n\treturn first(x);\n}\nint datum = 3;\n"


def built(folder, name, source, *options):
    path = folder / "arch/x86/kvm" / f"{name}.c"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    relative = str(path.relative_to(folder))
    subprocess.run(["gcc", *options, "-c", relative, "-o", f"{name}.ko.debug"], cwd=folder, check=True)


def test_functions_have_file_and_line(tmp_path):
    built(tmp_path, "kvm", SOURCE, "-g")
    built(tmp_path, "kvm-intel", SOURCE.replace("first", "third").replace("second", "fourth"), "-g")
    assert places(tmp_path, ["second", "third", "datum", "nix"]) == {
        "second": "arch/x86/kvm/kvm.c:7",
        "third": "arch/x86/kvm/kvm-intel.c:2",
    }


def test_without_debug_information_nothing_is_found(tmp_path):
    assert places(tmp_path, ["first"]) == {}
    built(tmp_path, "kvm", SOURCE)
    assert places(tmp_path, ["first"]) == {}
