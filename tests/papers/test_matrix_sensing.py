"""Every claim on matrix sensing holds at the quick budget, and every control fails."""

import pytest

from tendsto.evidence import Budget, Claim
from tendsto.papers import catalogue, matrix_sensing

CLAIMS = {name: value for name, value in vars(matrix_sensing).items() if isinstance(value, Claim)}


@pytest.mark.parametrize("name", CLAIMS)
def test_claim_holds_and_its_controls_fail(name):
    claim, budget = CLAIMS[name], Budget("quick", 0)
    finding = claim(budget)
    assert finding.outcome == "holds", finding.deciding
    assert claim.controls
    for control in claim.controls:
        assert control(budget).outcome == "fails", control.__name__


def test_is_in_the_catalogue():
    entry = catalogue()["matrix-sensing"]
    assert entry.card.arxiv == "2310.01769"
    assert len(entry.claims) == 5
