"""Classifiers: scikit-learn's own checks, and what they report against the methods behind them."""

import jax
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.multiclass import OneVsRestClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from tendsto.optimize import (
    BatchPerceptron,
    BatchPerceptronClassifier,
    LogisticGDClassifier,
    LogisticGradientDescent,
    NormalisedLogisticGradientDescent,
    Perceptron,
    PerceptronClassifier,
    iterations_to_separate,
)
from tendsto.problems import LinearSeparation, dataset, margin_certificate

FEATURES, TARGETS = dataset("digits", classes=(3, 5))
PROBLEM = LinearSeparation(np.column_stack([FEATURES, np.ones(len(FEATURES))]), TARGETS)
TABLE = {
    "normalised": (LogisticGDClassifier(), NormalisedLogisticGradientDescent.theory(PROBLEM)),
    "plain": (LogisticGDClassifier(3.0, normalise=False), LogisticGradientDescent(3.0)),
    "batch": (BatchPerceptronClassifier("samples"), BatchPerceptron()),
    "mistakes": (BatchPerceptronClassifier(), BatchPerceptron("mistakes")),
    "perceptron": (PerceptronClassifier(), Perceptron()),
}


def refused(estimator):
    return {"check_do_not_raise_errors_in_init_or_set_params": "the run-time type checks of this suite speak first"}


@parametrize_with_checks([LogisticGDClassifier()], expected_failed_checks=refused)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@parametrize_with_checks(
    [BatchPerceptronClassifier(), PerceptronClassifier(random_state=0)], expected_failed_checks=refused
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_scikit_learn_checks_of_the_perceptrons(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", TABLE)
def test_classifier_is_its_method_and_separates(name):
    classifier, method = TABLE[name]
    names = np.where(TARGETS == 5, "five", "three")
    classifier.fit(FEATURES, names)
    assert classifier.n_iter_ == iterations_to_separate(method, PROBLEM)
    assert classifier.classes_.tolist() == ["five", "three"]
    assert classifier.score(FEATURES, names) == 1.0
    assert classifier.n_mistakes_ == 0
    scores = classifier.decision_function(FEATURES)
    np.testing.assert_allclose(scores, FEATURES @ classifier.coef_[0] + classifier.intercept_[0])
    assert ((scores > 0) == (names == "three")).all()
    history = classifier.history_
    assert len(history) == classifier.n_iter_ + 1
    assert history["loss"].iloc[0] == pytest.approx(np.log(2))
    assert (history["accuracy"].iloc[:-1] < 1).all()
    assert history["accuracy"].iloc[-1] == 1
    assert history["loss"].iloc[-1] == pytest.approx(np.mean(np.logaddexp(0, -np.abs(scores))), rel=1e-9)


def test_pocket_keeps_the_best_iterate_and_warns():
    features, targets = dataset("iris", classes=(1, 2))
    classifier = PerceptronClassifier(max_iter=200)
    with pytest.warns(ConvergenceWarning, match="max_iter=200 iterations did not separate"):
        classifier.fit(features, targets)
    assert classifier.n_iter_ == 200
    assert len(classifier.history_) == 201
    assert not classifier.certificate(features, targets).separable
    # The last iterate is not the best one here, so keeping the last would be seen.
    assert classifier.history_["accuracy"].iloc[-1] < classifier.history_["accuracy"].max()
    assert classifier.score(features, targets) == pytest.approx(classifier.history_["accuracy"].max())
    assert classifier.n_mistakes_ == round(100 * (1 - classifier.history_["accuracy"].max()))


def test_certificate_is_that_of_the_data_with_the_intercept():
    classifier = LogisticGDClassifier().fit(FEATURES, TARGETS)
    certificate = classifier.certificate(FEATURES, TARGETS)
    assert certificate.lower == margin_certificate(PROBLEM.features, TARGETS).lower
    step_size = float(NormalisedLogisticGradientDescent.theory(PROBLEM).step_size)
    assert classifier.n_iter_ <= certificate.normalised_gradient_bound(step_size)
    without = LogisticGDClassifier(fit_intercept=False)
    assert without.certificate(FEATURES, TARGETS).lower < certificate.lower
    assert without.fit(FEATURES, TARGETS).intercept_ == 0.0


def test_random_choice_follows_its_seed():
    first, same, other = (
        PerceptronClassifier("random", random_state=seed).fit(FEATURES, TARGETS).coef_ for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_many_classes_through_one_versus_rest():
    features, targets = dataset("wine")
    several = OneVsRestClassifier(LogisticGDClassifier()).fit(features, targets)
    assert several.score(features, targets) == 1.0


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (LogisticGDClassifier(step_size=-1.0), "step_size: must lie in"),
        (LogisticGDClassifier(max_iter=0), "max_iter: must lie in"),
    ],
)
def test_bad_parameters_are_named_when_fitting(classifier, message):
    with pytest.raises(ValueError, match=message):
        classifier.fit(FEATURES, TARGETS)


def test_three_classes_are_refused():
    with pytest.raises(ValueError, match="got 3 classes"):
        LogisticGDClassifier().fit(np.eye(3), [0, 1, 2])


def test_single_precision_data_stay_single():
    classifier = LogisticGDClassifier().fit(FEATURES.astype(np.float32), TARGETS)
    assert classifier.coef_.dtype == np.float32
    assert jax.config.jax_enable_x64
