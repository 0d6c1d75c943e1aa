"""Private logistic regression: scikit-learn's own checks, and what it makes of its budget."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from tendsto.optimize.private import PrivateLogisticRegression
from tendsto.problems import dataset

FEATURES, TARGETS = dataset("digits", classes=(3, 5), standardise=False)
FEATURES = FEATURES / 16.0 / 5.0


def refused(estimator):
    return {"check_do_not_raise_errors_in_init_or_set_params": "the run-time type checks of this suite speak first"}


# Few records at a strong guarantee carry no signal, which these checks presume; the budget is generous for them.
@parametrize_with_checks([PrivateLogisticRegression(epsilon=100.0, max_iter=60)], expected_failed_checks=refused)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("solver", ["spiderboost", "gradient"])
def test_accuracy_rises_with_the_budget(solver):
    scores = []
    for epsilon in (0.05, 2.0, 100.0):
        fits = [
            PrivateLogisticRegression(epsilon, solver=solver, max_iter=200, random_state=seed).fit(FEATURES, TARGETS)
            for seed in range(2)
        ]
        scores.append(np.mean([fit.score(FEATURES, TARGETS) for fit in fits]))
        assert 0.999 * epsilon <= fits[0].privacy_.epsilon <= epsilon
        assert fits[0].privacy_.delta == 1e-5
    assert scores[0] < 0.8 < scores[1] < scores[2] + 0.02
    assert scores[2] > 0.9


def test_probabilities_are_those_of_the_model():
    names = np.where(TARGETS == 5, "five", "three")
    model = PrivateLogisticRegression(50.0, random_state=0).fit(FEATURES, names)
    probability = model.predict_proba(FEATURES)
    np.testing.assert_allclose(probability.sum(1), 1.0)
    clipped = FEATURES * np.minimum(1, 1 / np.linalg.norm(FEATURES, axis=1, keepdims=True))
    logits = clipped @ model.coef_[0] + model.intercept_[0]
    np.testing.assert_allclose(probability[:, 1], 1 / (1 + np.exp(-logits)), rtol=1e-12)
    assert (model.predict(FEATURES) == model.classes_[probability.argmax(1)]).all()
    peer = LogisticRegression().fit(FEATURES, names)
    assert np.corrcoef(model.coef_[0], peer.coef_[0])[0, 1] > 0.5


def test_seed_decides_and_no_seed_is_fresh_entropy():
    def coefficients(seed):
        return PrivateLogisticRegression(random_state=seed).fit(FEATURES, TARGETS).coef_

    np.testing.assert_array_equal(coefficients(0), coefficients(0))
    assert not np.array_equal(coefficients(0), coefficients(1))
    assert not np.array_equal(coefficients(None), coefficients(None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "epsilon: must lie in"),
        ({"delta": 1.0}, "delta: must lie strictly"),
        ({"data_norm": 0.0}, "data_norm: must lie in"),
        ({"penalty": -1.0}, "penalty: must lie in"),
    ],
)
def test_bad_parameters_are_named_when_fitting(options, message):
    with pytest.raises(ValueError, match=message):
        PrivateLogisticRegression(**options).fit(FEATURES, TARGETS)


def test_unknown_solver_and_three_classes_are_refused():
    with pytest.raises((ValueError, TypeError), match="solver"):
        PrivateLogisticRegression(solver="newton").fit(FEATURES, TARGETS)
    with pytest.raises(ValueError, match="got 3 classes"):
        PrivateLogisticRegression().fit(np.eye(3), [0, 1, 2])
