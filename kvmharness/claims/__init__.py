"""What a series claims, as data, and whether a record bears it out."""

from kvmharness.claims.evaluate import evaluate
from kvmharness.claims.table import ClaimError
from kvmharness.claims.vocabulary import Check, Claim, check_variants, parse_claims

__all__ = ["Check", "Claim", "ClaimError", "check_variants", "evaluate", "parse_claims"]
