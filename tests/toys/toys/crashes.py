"""A paper whose claims break."""

from __future__ import annotations

import os
import signal
from datetime import date

from tendsto.evidence import Budget, Check, Estimate, Finding, Paper, claim, equal_to
from toys import tools

CARD = Paper(
    slug="toy-crashes",
    title="Ways to break",
    authors=("Eve Example",),
    arxiv="2403.00003",
    date=date(2024, 3, 4),
    field="federated",
    method=(),
)


@claim(statement="It raises", source="Section 1", evidence="measured")
def raises(budget: Budget) -> Finding:
    return Finding([Check("text", equal_to(0), Estimate.exact(tools.twice(None)))])


@claim(statement="It is killed", source="Section 2", evidence="measured")
def is_killed(budget: Budget) -> Finding:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@claim(statement="It cannot tell", source="Section 3", evidence="measured")
def cannot_tell(budget: Budget) -> Finding:
    print("a claim that prints")
    return Finding([Check("one", equal_to(1), Estimate.exact(1))])


@cannot_tell.control
def holds_as_well(budget: Budget) -> Finding:
    """Nothing is broken here."""
    return Finding([Check("one", equal_to(1), Estimate.exact(1))])
