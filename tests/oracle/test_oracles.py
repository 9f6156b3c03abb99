"""Oracles by name, and the functions of C source that they read."""

import pytest

from kvmharness.errors import UsageError
from kvmharness.oracle import oracles
from kvmharness.oracle.csource import CSource, NotDescribedError, normal
from kvmharness.oracle.scenario import Scenario
from kvmharness.results.record import OracleView, Prediction
from tests.oracle.root_cache_trees import root_cache_tree

THREE_AND_THREE = Scenario(True, False, (1 << 12, 2 << 12, 3 << 12), (4 << 12, 5 << 12, 6 << 12))


def test_a_kernel_without_source_is_taken_as_told():
    view = oracles.told("root-cache", ("reuse-current",))
    assert view.features == {"ignore_direct_pgd": 0, "reuse_current": 1, "previous_roots": 3}
    assert view.why == "as it was said"
    usual = oracles.told("root-cache", None)
    assert usual.features == {"ignore_direct_pgd": 1, "reuse_current": 1, "previous_roots": 3}
    assert "5.7" in usual.why


@pytest.mark.parametrize(("words", "loads"), [((), 200), (("ignore-direct-pgd",), 0), (("reuse-current",), 200)])
def test_predictions_follow_what_the_kernel_has(words, loads):
    """n1 = n2 = 3 without EPT for L2: two loads a round trip, saved by ignoring the pgd of direct roots alone."""
    view = oracles.told("root-cache", words)
    assert oracles.predict(view, THREE_AND_THREE, 10, 100) == Prediction(loads, 200)


def test_there_is_no_prediction_for_what_is_not_described(tmp_path):
    read = {}.get
    view = oracles.found("root-cache", read)
    assert view == OracleView("root-cache", None, "arch/x86/kvm/mmu/mmu.c has no is_root_usable()")
    assert oracles.predict(view, THREE_AND_THREE, 10, 100) is None
    assert oracles.found("none", read) is None
    assert oracles.predict(None, THREE_AND_THREE, 10, 100) is None


def test_a_source_that_is_described(tmp_path):
    tree = root_cache_tree("6.1", tmp_path)
    view = oracles.found("root-cache", lambda path: (tree / path).read_bytes() if (tree / path).exists() else None)
    assert view.why == "found in its source"
    assert view.features == {"ignore_direct_pgd": 1, "reuse_current": 1, "previous_roots": 3}


def test_a_name_that_is_not_known():
    with pytest.raises(UsageError, match="no oracle 'crystal-ball'") as caught:
        oracles.named("crystal-ball")
    assert "root-cache" in caught.value.hint


SOURCE = CSource(
    "x.c",
    b"""
int f(int a); /* int f(int a) { return 0; } */
char *brace = "int f(int a) {";
static int f(int (*a)(int), const char *b)
{
	if (f(g)) { return '}'; } // }
	return "/*" [0];
}
#define NUMBER 12 // twelve
#  define OTHER (N + 1)
#define OTHER 3
""",
)


def test_a_functions_body_is_found_whatever_strings_and_comments_hold():
    assert SOURCE.body("f") == """if ( f ( g ) ) { return '}' ; } return "" [ 0 ] ;"""
    assert normal("a->b   ==c&&\n!d /* e */;") == "a -> b == c && ! d ;"


def test_numbers():
    assert SOURCE.number("NUMBER") == 12
    with pytest.raises(NotDescribedError, match=r"x.c has N \+ 1 and 3 as OTHER"):
        SOURCE.number("OTHER")
