"""Claims, the findings that test them, and the verdicts that come out."""

from tendsto.evidence.claim import Budget, Claim, NotRun, Paper, claim
from tendsto.evidence.finding import (
    Check,
    Estimate,
    Finding,
    Prediction,
    at_least,
    at_most,
    between,
    equal_to,
)
from tendsto.evidence.proof import proved

__all__ = [
    "Budget",
    "Check",
    "Claim",
    "Estimate",
    "Finding",
    "NotRun",
    "Paper",
    "Prediction",
    "at_least",
    "at_most",
    "between",
    "claim",
    "equal_to",
    "proved",
]
