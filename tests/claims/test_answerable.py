"""Claims that nothing could answer are refused before anything is built."""

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cells.matrix import validation_matrix
from kvmharness.claims import ClaimError, parse_claims
from kvmharness.claims.answerable import Offer, check_answerable
from kvmharness.claims.net import ROWS
from kvmharness.claims.waivers import parse_waivers
from kvmharness.patches.series import load

OFFER = Offer((Cell(Setup.NO_EPT, 3, 3),), ("VMWRITE", "CPUID"), ("tlb_flush", "nested_run"))
CLAIM = {"name": "n", "text": "t", "metric": "loads", "check": "exactly", "value": 0}
WAIVER = {"row": "no-more-time", "reason": "r", "cells": "a:*"}


def check(claim=CLAIM, waiver=WAIVER):
    waivers = parse_waivers([waiver], [row.name for row in ROWS], "x.toml")
    check_answerable(parse_claims([claim], "x.toml"), waivers, OFFER, "x.toml")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"metric": "exits.VMWRITE"},
        {"metric": "exits.other"},
        {"metric": "exits.*"},
        {"metric": "stat.nested_run"},
        {"metric": "tlb_flush"},
        {"cells": ["b:1x1", "a:3x*"]},
        {"cells": "e:3x3"},  # what a:3x3 is on a host without EPT
    ],
)
def test_what_can_be_answered_is_let_in(more):
    check(CLAIM | more)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"metric": "exits.VMWRTE"}, "claim 'n' is about exits for VMWRTE, which no host of this run counts"),
        ({"metric": "stat.pf_fixd"}, "claim 'n' is about KVM's statistic pf_fixd, which this kernel does not have"),
        ({"cells": ["b:*", "c:*"]}, r"claim 'n' is about cells that no host of this run has: b:\*, c:\*"),
    ],
)
def test_what_cannot_is_refused(more, said):
    with pytest.raises(ClaimError, match=f"^x.toml: {said}"):
        check(CLAIM | more)


def test_a_waiver_of_no_cell_is_refused():
    with pytest.raises(ClaimError, match=r"the waiver of no-more-time is about cells that no host of this run has: c"):
        check(waiver=WAIVER | {"cells": "c:*"})


def test_a_kernel_whose_source_is_not_at_hand_may_have_any_statistic():
    offer = Offer(OFFER.cells, OFFER.reasons)
    check_answerable(parse_claims([CLAIM | {"metric": "stat.anything"}]), (), offer, "x.toml")


def test_the_shipped_claims_can_be_answered():
    series = load("fast-cr3-switch")
    offer = Offer(validation_matrix(), ("VMRESUME", "VMCALL"), None)
    check_answerable(parse_claims(series.claims), (), offer, series.claims_path)
