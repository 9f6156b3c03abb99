from fractions import Fraction

import pytest

from kvmharness.claims import Check, ClaimError, check_variants, parse_claims
from kvmharness.claims.table import expand_braces
from kvmharness.patches.series import load

GOOD = {"name": "n", "text": "t", "metric": "loads", "check": "exactly", "value": 0}


def one(**changes):
    table = {**GOOD, **changes}
    (claim,) = parse_claims([{key: value for key, value in table.items() if value is not None}])
    return claim


def test_a_claim_with_all_its_words():
    claim = one(cells=["a:{1,2}x1", "d:*"], variants="none", value="1/2", per="total")
    assert claim.check is Check.EXACTLY
    assert claim.cells == ("a:1x1", "a:2x1", "d:*")
    assert (claim.variants, claim.value, claim.per_round_trip) == (("none",), Fraction(1, 2), False)
    assert claim.covers("a:2x1")
    assert not claim.covers("a:2x1/pcid")


def test_pairs():
    claim = one(check="lower", metric="time", value=None, compare=["none->p1", "p1 -> both"], **{"at-least": 0.1})
    assert claim.pairs == (("none", "p1"), ("p1", "both"))
    assert claim.at_least == Fraction(1, 10)
    assert one(check="equal", value=None).pairs == (("none", "*"),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrik": "loads"}, "unknown key 'metrik'"),
        ({"metric": "lodes"}, "unknown metric 'lodes'"),
        ({"metric": "exits."}, "unknown metric 'exits.'"),
        ({"check": "smaller"}, "check = 'smaller' is not in the vocabulary"),
        ({"name": None}, "name is missing: a text"),
        ({"text": " "}, "text = ' ': a text"),
        ({"value": None}, "needs a value"),
        ({"value": "half"}, "value = 'half': a number"),
        ({"value": -1}, "value = -1: a number"),
        ({"value": True}, "value = True, a truth value: a number"),
        ({"value": "1/0"}, "value = '1/0': a number"),
        ({"per": "second"}, "per = 'second' is not in the vocabulary"),
        ({"value": 1e999}, "value = inf: a number"),
        ({"value": 1 << 50_000}, "value = a value of thousands of digits: a number"),
        ({"value": "1e999999999"}, "value = '1e999999999': a number"),
        ({"value": [1]}, r"value = \[1\], a list: a number"),
        ({"check": ["exactly"]}, r"check = \['exactly'\], a list is not in the vocabulary"),
        ({"cells": "{a,b}" * 64}, "stands for more than 1000 patterns, the limit"),
        ({"cells": "*" * 5000}, "longer than 1000 characters, the limit"),
        ({"cells": []}, r"cells = \[\]"),
        ({"cells": [1]}, "cells = 1, an integer: a text or a list"),
        ({"cells": "a:{1,2"}, "not balanced"),
        ({"cells": "a:{1,2}"}, "'a:1' is no cell"),
        ({"cells": ["d:*", "q:*"]}, r"'q:\*' begins with none of the set-ups"),
        ({"compare": "none->both"}, "'compare' has no meaning"),
        ({"tolerance": 1}, "'tolerance' has no meaning"),
        ({"at-least": 1}, "'at-least' has no meaning"),
        ({"check": "equal"}, "'value' has no meaning"),
        ({"check": "equal", "value": None, "variants": "p1"}, "'variants' has no meaning"),
        ({"check": "equal", "value": None, "compare": "none"}, "two variants are expected"),
        ({"check": "equal-to-oracle", "value": None, "metric": "exits"}, "the oracle predicts loads and switches"),
        ({"where-described": True}, "'where-described' has no meaning"),
        ({"check": "equal-to-oracle", "value": None, "where-described": 1}, "true or false is expected"),
        ({"metric": "time"}, "only 'lower', 'not-higher' and 'unchanged'"),
    ],
)
def test_what_is_not_in_the_vocabulary_is_an_error(changes, message):
    with pytest.raises(ClaimError, match=message) as caught:
        one(**changes)
    assert "claim 1" in str(caught.value)
    assert caught.value.exit_code == 2


def test_two_of_one_name():
    with pytest.raises(ClaimError, match="two claims are called 'n'"):
        parse_claims([GOOD, GOOD])


def test_a_variant_that_the_series_does_not_have():
    claims = parse_claims([{**GOOD, "variants": ["none", "boht", "p*"]}])
    with pytest.raises(ClaimError, match="'boht'"):
        check_variants(claims, ["none", "p1", "both"])
    check_variants(claims, ["none", "boht"])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a", ("a",)),
        ("{a,b}{1,2}", ("a1", "a2", "b1", "b2")),
        ("x{,/y}", ("x", "x/y")),
    ],
)
def test_braces(pattern, expected):
    assert expand_braces(pattern) == expected


def test_the_shipped_claims_are_in_the_vocabulary():
    series = load("fast-cr3-switch")
    claims = parse_claims(series.claims, series.claims_path)
    check_variants(claims, ["none", "p1", "p2", "both"])
    assert len(claims) >= 4
