"""The guest that the package's docstring shows, run as it stands there."""

import re
from textwrap import dedent

import pytest

from kvmharness import kvm


@pytest.mark.needs("kvm")
def test_the_guest_of_the_docstring_runs(capsys):
    (code,) = re.findall(r"::\n\n(    .*?)\n\n(?=\S)", kvm.__doc__, re.S)
    exec(dedent(code), {})
    assert capsys.readouterr().out == "abcdefghijklmnopqrstuvwxyz\n"
