"""The ioctls that this machine's KVM has no use for, on the kernel of an emulated host."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.needs("emulated_vmx")]

INSIDE = Path(__file__).parent.with_name("kvm") / "emulated_abi.py"


def test_hyper_v_smm_filters_and_dirty_rings_there():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--kvm-host", "vmx:skylake", INSIDE]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "8 passed" in done.stdout, done.stdout  # none skipped: that kernel has all of it
