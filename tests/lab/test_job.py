"""Jobs that cannot work are refused before anything boots; CPU models have short names."""

from pathlib import Path

import pytest

from kvmharness.errors import UsageError
from kvmharness.lab.job import Job
from kvmharness.lab.machines.bochs import CPUS, Bochs
from kvmharness.lab.machines.catalogue import emulated_host
from kvmharness.lab.machines.qemu import Qemu
from kvmharness.system.programs import MissingToolError


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({}, "None is not one of call, exec, load, unload"),
        ({"do": "reboot"}, "'reboot' is not one of"),
        ({"do": "call"}, "has no 'function'"),
        ({"do": "exec", "argv": []}, "has no 'argv'"),
        ({"do": "load", "variant": "p1"}, "loads variant 'p1'; the job holds: stock"),
    ],
)
def test_a_step_that_cannot_work_is_refused(step, message):
    job = Job(steps=({"do": "unload"}, step), modules={"stock": Path("modules")})
    with pytest.raises(UsageError, match=message) as caught:
        job.check()
    assert "step 1" in str(caught.value)


def test_a_good_job_passes():
    steps = ({"do": "load", "variant": "stock"}, {"do": "call", "function": "a:b"}, {"do": "exec", "argv": ["/x"]})
    Job(steps=steps, modules={"stock": Path("modules")}).check()


def test_the_models_have_short_names():
    assert {"penryn", "lynnfield", "sandybridge", "haswell", "skylake"} <= set(CPUS)


@pytest.mark.parametrize("make", [Bochs, Qemu])
def test_an_unknown_model_is_refused_with_the_known_ones(make):
    with pytest.raises(UsageError, match="'z80'") as caught:
        make(Path("bzImage"), "z80")
    assert "choose one of" in caught.value.hint


def test_an_unknown_model_is_refused_before_a_kernel_is_built():
    with pytest.raises(UsageError, match="'z80'"):
        emulated_host("z80")


@pytest.mark.parametrize(("make", "package"), [(Bochs, "bochs"), (Qemu, "qemu-system-x86")])
def test_a_missing_emulator_is_named_with_its_package(make, package, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError) as caught:
        make(Path("bzImage")).run(Job(steps=({"do": "unload"},)), lambda event: None)
    assert package in caught.value.hint.split()
    assert caught.value.hint.startswith("sudo apt-get install")
