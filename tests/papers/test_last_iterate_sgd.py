"""Every claim of the paper holds, and every control fails, at the quick budget."""

import pytest

from tendsto.evidence import Budget
from tendsto.papers import catalogue

ENTRY = catalogue()["last-iterate-sgd"]


@pytest.mark.parametrize("name", ENTRY.claims)
def test_claim_holds_and_its_controls_fail(name):
    claim = ENTRY.claims[name]
    budget = Budget("quick", 0)
    finding = claim(budget)
    assert finding.outcome == "holds", finding.deciding
    assert claim.controls
    for control in claim.controls:
        assert control(budget).outcome == "fails"
