"""The debug kernel's configuration, and how it differs from the other kernel's build."""

import pytest

from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.config import MINIMAL
from kvmharness.lab.kernels.debugging import CHOICES, KMEMLEAK, LITE
from kvmharness.lab.kernels.source import Source

BZIMAGE = bytes(0x202) + b"HdrS" + bytes(8) + b"\0\x04" + bytes(0x3F0) + b"6.1.0 x\0"


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Kernels without a compiler, which keeps every option that it is given: what make was asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "linux").mkdir()
    asked = []

    def make(tree, *targets, **how):
        asked.append(targets)
        if targets == ("tinyconfig",):
            (tree / ".config").write_text("")
        if "bzImage" in targets:
            (tree / "arch/x86/boot").mkdir(parents=True)
            (tree / "arch/x86/boot/bzImage").write_bytes(BZIMAGE)

    for name, replacement in (
        ("check_tools", lambda: None),
        ("make", make),
        ("_collect_modules", lambda tree, base, target: target.mkdir()),
        ("_compiler", lambda: "gcc"),
    ):
        monkeypatch.setattr(build, name, replacement)
    monkeypatch.setattr(build.builtin, "keep", lambda tree, folder: None)
    return asked, Source(tmp_path / "linux")


def test_it_has_all_that_the_other_kernel_has_and_no_option_twice():
    names = [line.removeprefix("# ").split("=")[0].split()[0] for line in LITE.wanted()]
    assert len(names) == len(set(names))
    assert set(MINIMAL.wanted()) < set(LITE.wanted())
    assert {"CONFIG_KASAN=y", "CONFIG_PROVE_LOCKING=y", "CONFIG_DEBUG_ATOMIC_SLEEP=y"} <= set(LITE.wanted())


def test_an_option_that_only_some_kernels_have_is_asked_for_and_not_missed(made):
    _, source = made
    kernel = build.kernel(source, recipe=LITE)
    (config,) = [path for path in kernel.image.parent.iterdir() if path.name == "config"]
    assert "CONFIG_KVM_PROVE_MMU=y" in config.read_text().splitlines()
    assert "CONFIG_KVM_PROVE_MMU=y" not in LITE.wanted()


def test_modules_alone_are_instrumented(made):
    asked, source = made
    build.kernel(source, recipe=LITE)
    assert asked[-2:] == [("KASAN_SANITIZE=n", "UBSAN_SANITIZE=n", "bzImage"), ("modules",)]
    build.kernel(source)
    assert asked[-1] == ("bzImage", "modules")


def test_the_choices_are_one_kernel_booted_differently(made):
    asked, source = made
    first, second = (build.kernel(source, recipe=recipe) for recipe in (LITE, KMEMLEAK))
    assert first.image == second.image
    assert asked.count(("tinyconfig",)) == 1
    assert "kmemleak=on" not in first.command_line
    assert "kmemleak=on" in second.command_line.split()
    assert set(CHOICES) == {"lite", "kmemleak"}
    assert build.kernel(source).image != first.image
    assert build.kernel(source).command_line == ""
