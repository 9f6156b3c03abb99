"""Stand-ins for modules that cost an emulated host seconds: in the way of nobody who needs the real ones."""

import subprocess
import sys


def said(program):
    lines = ["import sys", "from kvmharness.testing.emulated.standins import install", "install()", *program]
    return subprocess.run(
        [sys.executable, "-S", "-c", PATH + "\n".join(lines)], capture_output=True, text=True, check=True
    )


# Without the site module, as in an emulated host: it may load what is to be stood in for.
PATH = f"import sys; sys.path[:] = {sys.path!r}\n"


def test_pytest_starts_without_the_real_ones():
    program = [
        "import importlib, pytest",
        "print(list(importlib.metadata.distributions()), type(importlib.metadata).__name__)",
        "print('email' in sys.modules, 'pygments.util' in sys.modules)",
    ]
    assert said(program).stdout.splitlines() == ["[] _StandIn", "False False"]


def test_whoever_asks_for_more_gets_the_real_one():
    program = [
        "import pytest, importlib.metadata",
        "print(importlib.metadata.version('pytest') == pytest.__version__)",
        "from importlib.metadata import distribution",
        "print(distribution('pytest').metadata['Name'], type(sys.modules['importlib.metadata']).__name__)",
        "import pygments",
        "print(pygments.highlight.__name__)",
    ]
    assert said(program).stdout.splitlines() == ["True", "pytest module", "highlight"]
