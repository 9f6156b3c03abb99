"""The shipped series on other kernels than the one that the other tests run on: a kernel is built for each, minutes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = {"6.12": Path("/usr/src/linux-source-6.12.tar.xz")}


@pytest.mark.needs("emulated_vmx")
@pytest.mark.parametrize("version", SOURCES)
def test_the_series_does_there_what_it_claims(version, tmp_path):
    source = SOURCES[version]
    if not source.is_file():
        pytest.skip(f"{source} is not there: apt-get install linux-source-{version}")
    command = ["validate", "fast-cr3-switch", "--host", "vmx", "--turns", "1", "--source", str(source), "--json", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "kvmharness", *command], stdout=subprocess.PIPE, text=True, check=False
    )
    found = json.loads(done.stdout)
    assert (done.returncode, found["verdict"]["outcome"]) == (0, "PASS"), found["verdict"]["headline"]
    assert found["records"][0]["host"]["kernel_release"].startswith(version)
