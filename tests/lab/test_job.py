"""Jobs that cannot work cannot be made, and steps travel."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmharness.errors import UsageError
from kvmharness.lab.job import Job
from kvmharness.lab.steps import Call, Exec, Load, Unload, decode, encode

words = st.text(max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
texts = st.dictionaries(words, words, max_size=3)
steps = st.one_of(
    st.builds(Load, words, texts, st.booleans()),
    st.builds(Unload, st.booleans(), st.booleans()),
    st.builds(Call, words, st.dictionaries(words, plain, max_size=3), st.booleans()),
    st.builds(
        Exec,
        st.lists(words, max_size=3).map(tuple),
        st.none() | st.floats(0, 1e6),
        texts,
        words,
        st.booleans(),
    ),
)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Call(""), "calls '', which is not of the form module:name"),
        (Call("module"), "not of the form module:name"),
        (Call(":name"), "not of the form module:name"),
        (Exec(()), "does not say which"),
        (Load("p1"), "loads variant 'p1'; the job holds: stock"),
    ],
)
def test_a_step_that_cannot_work_is_refused(step, message):
    with pytest.raises(UsageError, match=message) as caught:
        Job(steps=(Unload(), step), modules={"stock": Path("modules")})
    assert "step 1" in str(caught.value)


def test_a_good_job_can_be_made():
    Job((Load("stock"), Call("a:b"), Exec(("/x",))), modules={"stock": Path("modules")})


def test_what_the_rest_of_a_job_needs_is_required():
    assert [step.required for step in (Load("x"), Unload(), Call("a:b"), Exec(("/x",)))] == [True, True, False, False]


def test_the_encoding_of_steps():
    assert decode(
        b'[{"do": "load", "variant": "p1", "params": {"kvm.tdp_mmu": "N"}, "required": true},'
        b' {"do": "exec", "argv": ["/x", "-y"], "timeout_s": 2.5, "env": {}, "required": false}]'
    ) == (Load("p1", {"kvm.tdp_mmu": "N"}), Exec(("/x", "-y"), 2.5))
    assert encode([Unload()]) == b'[{"do": "unload", "memory": false, "required": true}]'


@given(st.lists(steps, max_size=4))
def test_steps_come_out_as_they_went_in(wanted):
    assert decode(encode(wanted)) == tuple(wanted)
