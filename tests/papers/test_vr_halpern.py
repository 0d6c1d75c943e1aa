"""Every claim of the variance-reduced Halpern paper holds at the quick budget, and every control fails."""

import pytest

from tendsto.evidence import Budget, Claim
from tendsto.papers import vr_halpern

CLAIMS = [value for value in vars(vr_halpern).values() if isinstance(value, Claim)]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_claim_holds_and_its_controls_fail(claim):
    finding = claim(Budget("quick", 0))
    assert finding.outcome == "holds", [str(check.measured) for check in finding.checks]
    assert claim.controls
    for control in claim.controls:
        assert control(Budget("quick", 0)).outcome == "fails"
