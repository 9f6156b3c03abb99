"""Jobs that cannot work are refused before anything boots."""

from pathlib import Path

import pytest

from kvmharness.errors import UsageError
from kvmharness.lab.job import Job


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
