"""Programs that are run for a job."""

import pytest

from kvmharness.lab.inside.execute import execute
from kvmharness.lab.steps import Exec, Exited


def shell(script, **fields):
    pieces = []
    result = execute(Exec(("/bin/sh", "-c", script), **fields), pieces.append)
    return result, "".join(pieces)


def test_a_programs_output_and_status():
    result, text = shell("echo out; echo err >&2; echo $NAME; exit 7", env={"NAME": "value"})
    assert result == Exited(7, None, False)
    assert text == "out\nerr\nvalue\n"


def test_a_program_reads_the_file_that_it_is_given_and_else_the_end_at_once(tmp_path):
    (tmp_path / "input").write_text("told")
    assert shell("cat", stdin=str(tmp_path / "input")) == (Exited(0, None, False), "told")
    assert shell("cat") == (Exited(0, None, False), "")


def test_a_program_that_is_killed_names_the_signal():
    assert shell("kill -SEGV $$")[0] == Exited(None, "SIGSEGV", False)


def test_a_program_out_of_time_is_killed_with_its_children():
    result, text = shell("echo first; sleep 60 & sleep 60", timeout_s=0.1)
    assert result == Exited(None, "SIGKILL", True)
    assert text in ("first\n", "")


def test_output_that_is_no_text_is_shown_escaped():
    assert shell(r"printf '\377x'")[1] == "\\xffx"


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(OSError, match="cannot start /no/such: No such file"):
        execute(Exec(("/no/such",)), print)
