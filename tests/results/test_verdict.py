import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmharness.errors import ExitCode
from kvmharness.results.jsonread import ShapeError
from kvmharness.results.verdict import ClaimResult, Outcome, Verdict

texts = st.lists(st.text(max_size=8), max_size=3).map(tuple)
claims = st.builds(ClaimResult, st.text(), st.text(), st.sampled_from(Outcome), texts, texts)

PASS, FAIL, UNSURE, SKIP = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.SKIPPED


@pytest.mark.parametrize(
    ("outcomes", "overall"),
    [
        ((), SKIP),
        ((SKIP, SKIP), SKIP),
        ((SKIP, PASS), PASS),
        ((PASS, UNSURE, SKIP), UNSURE),
        ((UNSURE, FAIL, PASS), FAIL),
        ((SKIP, UNSURE), UNSURE),
        ((SKIP, FAIL), FAIL),
    ],
)
def test_overall(outcomes, overall):
    verdict = Verdict.of("s", tuple(ClaimResult("c", "", outcome) for outcome in outcomes), (), ())
    assert verdict.outcome is overall


def test_exit_codes_are_those_a_script_knows():
    assert [outcome.exit_code for outcome in (PASS, FAIL, UNSURE, SKIP)] == [0, 1, 3, 4]
    assert FAIL.exit_code is ExitCode.FAIL


@given(st.builds(Verdict.of, st.text(), st.lists(claims, max_size=4).map(tuple), texts, texts))
def test_reads_back_as_it_was(verdict):
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "document: expected an object"),
        ({"series": "s"}, "outcome: missing"),
        ({"series": "s", "outcome": "MAYBE"}, "expected one of PASS, FAIL, INCONCLUSIVE, SKIPPED, found 'MAYBE'"),
        ({"series": "s", "outcome": "PASS", "claims": [{}]}, r"claims\[0\].name: missing"),
    ],
)
def test_anything_else_is_refused(document, said):
    with pytest.raises(ShapeError, match=said):
        Verdict.from_json(document)
