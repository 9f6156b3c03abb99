"""What a Makefile of somebody else's can do while it is made."""

import os
import socket
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from kvmharness.lab.kernels.make import KernelBuildError, make
from kvmharness.system import sandbox
from kvmharness.system.packages import KERNEL_TOOLS, missing
from kvmharness.system.programs import silent

pytestmark = [
    pytest.mark.skipif(bool(missing(KERNEL_TOOLS)), reason="what builds kernels is not installed"),
    pytest.mark.skipif(bool(sandbox.why_not()), reason=f"no sandbox here: {sandbox.why_not()}"),
]

MAKEFILE = """\
all: {first}
\techo made >good
write:
\techo made >{home}
connect:
\t{python} -I -S -c 'import socket; socket.create_connection(("127.0.0.1", {port}), 2)'
"""


@pytest.mark.parametrize("first", ["", "write", "connect"])
def test_a_makefile_writes_to_its_own_tree_and_nowhere_else(tmp_path, first):
    home = Path.home() / f".kvmharness-test-{tmp_path.name}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        text = MAKEFILE.format(first=first, home=home, python=os.path.realpath(sys.executable), port=port)
        (tmp_path / "Makefile").write_text(text)
        words = {"": None, "write": "Read-only file system", "connect": r"\*\*\*"}[first]
        with nullcontext() if words is None else pytest.raises(KernelBuildError, match=words):
            make(tmp_path, "all", what="it", progress=silent, timeout_s=30.0)
        with pytest.raises(TimeoutError):
            server.accept()
    assert not home.exists()
    assert (tmp_path / "good").exists() == (not first)
