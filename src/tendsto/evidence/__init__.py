"""Claims, the findings that test them, and the verdicts that come out."""

from tendsto.evidence.claim import Budget, Claim, NotRun, Paper, claim, find_claim
from tendsto.evidence.finding import Check, Estimate, Finding, Prediction, at_least, at_most, between, equal_to
from tendsto.evidence.judge import Exhibits, check_claim
from tendsto.evidence.proof import proved
from tendsto.evidence.schedule import check
from tendsto.evidence.store import Store
from tendsto.evidence.verdict import Column, ControlResult, Table, Verdict

__all__ = [
    "Budget",
    "Check",
    "Claim",
    "Column",
    "ControlResult",
    "Estimate",
    "Exhibits",
    "Finding",
    "NotRun",
    "Paper",
    "Prediction",
    "Store",
    "Table",
    "Verdict",
    "at_least",
    "at_most",
    "between",
    "check",
    "check_claim",
    "claim",
    "equal_to",
    "find_claim",
    "proved",
]
