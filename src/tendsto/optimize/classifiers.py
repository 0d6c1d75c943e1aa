"""Linear classifiers for scikit-learn that train until the two classes are separated."""

from __future__ import annotations

import abc
import warnings
from typing import Any, Literal, TypeVar

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Key
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from tendsto import validation
from tendsto.iteration import Method, State, solve
from tendsto.optimize.perceptron import (
    BatchPerceptron,
    Choice,
    LogisticGradientDescent,
    NormalisedLogisticGradientDescent,
    Perceptron,
    SeparationState,
    Separator,
)
from tendsto.problems.separable import LinearSeparation, MarginCertificate, count_mistakes, margin_certificate

ClassifierT = TypeVar("ClassifierT", bound="_SeparatingClassifier")


class _JournalState(State):
    """`x` is the best iterate so far; `loss` and `mistakes` hold one entry for each iterate, NaN for those to come."""

    inner: SeparationState
    fewest: Float[Array, ""]
    loss: Float[Array, " iterates"]
    mistakes: Float[Array, " iterates"]


class _Journal(Method[LinearSeparation, _JournalState]):
    """A separator that keeps the iterate with the fewest mistakes in its pocket, and a record of all of them."""

    separator: Separator
    iterates: int

    def init(self, problem: LinearSeparation, x0: Float[Array, " d"] | None, key: Key[Array, ""]) -> _JournalState:
        inner = self.separator.init(problem, x0, key)
        mistakes = count_mistakes(inner.margins)
        empty = jnp.full(self.iterates, jnp.nan, inner.margins.dtype)
        losses = empty.at[0].set(_mean_loss(problem, inner))
        return _JournalState(inner.x, inner.cost, inner, mistakes, losses, empty.at[0].set(mistakes))

    def step(self, problem: LinearSeparation, state: _JournalState, key: Key[Array, ""]) -> _JournalState:
        inner = self.separator.step(problem, state.inner, key)
        mistakes = count_mistakes(inner.margins)
        return _JournalState(
            jnp.where(mistakes < state.fewest, inner.x, state.x),
            inner.cost,
            inner,
            jnp.minimum(mistakes, state.fewest),
            state.loss.at[inner.updates].set(_mean_loss(problem, inner)),
            state.mistakes.at[inner.updates].set(mistakes),
        )


def _mean_loss(problem: LinearSeparation, state: SeparationState) -> Float[Array, ""]:
    # The margins carry the signs of the classes already.
    return jnp.mean(problem.loss(state.margins, jnp.ones_like(state.margins)))


def _fewest_mistakes(problem: LinearSeparation, state: _JournalState) -> Float[Array, ""]:
    del problem
    return state.fewest


class _SeparatingClassifier(ClassifierMixin, BaseEstimator, abc.ABC):  # type: ignore[misc]
    """Fit, history and pocket; a subclass says which method, and declares its parameters."""

    fit_intercept: bool
    max_iter: int

    @abc.abstractmethod
    def _method(self, problem: LinearSeparation) -> Separator:
        """The method to run on `problem`."""

    def _key(self) -> int:
        return 0

    def fit(self: ClassifierT, X: Any, y: Any) -> ClassifierT:
        """Train until every training sample is on its side, or for `max_iter` iterations.

        **Arguments**: `X`, shape `(n, d)`; `y`, two classes of any kind, shape `(n,)`.

        **Returns** the fitted classifier.

        **Raises** `ValueError` for bad data or parameters. Warns with `ConvergenceWarning` if the classes were not
        separated; the coefficients are then those of the iterate with the fewest mistakes.
        """
        validation.integer("max_iter", self.max_iter, low=1)
        features, labels = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) != 2:
            number = len(self.classes_)
            raise ValueError(
                "Only binary classification is supported: expected two classes in y, "
                f"got {number} class{'' if number == 1 else 'es'}"
            )
        data: Any = (self._augmented(features), codes)
        problem = LinearSeparation(*data)
        journal = _Journal(self._method(problem), self.max_iter + 1)
        solution = solve(
            journal,
            problem,
            tol=0.5,
            max_steps=self.max_iter,
            measure=_fewest_mistakes,
            key=self._key(),
            progress=False,
        )
        self._keep(features.shape, solution.steps, solution.state)
        return self

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Scores, shape `(n,)`, positive for `classes_[1]`: distances to the hyperplane times the norm of `coef_`."""
        check_is_fitted(self)
        features = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return np.asarray(features @ self.coef_[0] + self.intercept_[0])

    def predict(self, X: Any) -> NDArray[Any]:
        """The class of each sample, shape `(n,)`."""
        positive = self.decision_function(X) > 0
        return np.asarray(self.classes_[positive.astype(int)])

    def certificate(self, X: Any, y: Any) -> MarginCertificate:
        """The margin of these data as `fit` sees them, with the constant feature of the intercept appended.

        **Arguments** as for `fit`. **Returns** a `tendsto.problems.MarginCertificate`.
        """
        return margin_certificate(self._augmented(np.asarray(X)), y)

    def _augmented(self, features: Any) -> Any:
        if not self.fit_intercept:
            return features
        return np.column_stack([features, np.ones(len(features), features.dtype)])

    def _keep(self, shape: tuple[int, ...], steps: int, state: Any) -> None:
        samples, dimension = shape
        best = np.asarray(state.x)
        self.coef_ = best[None, :dimension]
        self.intercept_ = best[dimension:] if self.fit_intercept else np.zeros(1, best.dtype)
        self.n_iter_ = steps
        self.n_mistakes_ = int(state.fewest)
        self.history_ = pd.DataFrame(
            {
                "loss": np.asarray(state.loss)[: steps + 1],
                "accuracy": 1 - np.asarray(state.mistakes)[: steps + 1] / samples,
            }
        ).rename_axis("iteration")
        if self.n_mistakes_:
            warnings.warn(
                f"{type(self).__name__}: max_iter={self.max_iter} iterations did not separate the classes; kept the "
                f"iterate with the fewest mistakes, {self.n_mistakes_} of {samples}. certificate(X, y) tells whether "
                "they can be separated, and bounds the iterations that takes.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


class LogisticGDClassifier(_SeparatingClassifier):
    r"""Logistic regression by gradient descent with large steps, trained until the classes are separated.

    For two classes; wrap it in `sklearn.multiclass.OneVsRestClassifier` for more.

    **Arguments**

    - `step_size`: $\gamma > 0$, or `None` for the methods' `theory`, at which the bound is at most twice its limit.
    - `normalise`: divide the gradient by the mean residual, which takes the number of samples out of the bound.
    - `fit_intercept`: append a constant feature of ones.
    - `max_iter`: the largest number of iterations.

    **Attributes**

    - `classes_`, `coef_`, `intercept_`, `n_features_in_`: as in scikit-learn.
    - `n_iter_`: the number of iterations made, those to the first separating iterate if there is one.
    - `n_mistakes_`: training samples on the wrong side, or on the hyperplane itself.
    - `history_`: a frame with the logistic loss and the training accuracy of every iterate.

    Source: Tyurin, "From Logistic Regression to the Perceptron Algorithm"; see `NormalisedLogisticGradientDescent`.
    """

    def __init__(
        self,
        step_size: float | None = None,
        *,
        normalise: bool = True,
        fit_intercept: bool = True,
        max_iter: int = 10_000,
    ) -> None:
        self.step_size = step_size
        self.normalise = normalise
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter

    def _method(self, problem: LinearSeparation) -> Separator:
        method = NormalisedLogisticGradientDescent if self.normalise else LogisticGradientDescent
        return method.theory(problem) if self.step_size is None else method(self.step_size)


class BatchPerceptronClassifier(_SeparatingClassifier):
    """The Batch Perceptron for scikit-learn, normalised by the number of mistakes or of samples.

    **Arguments**

    - `normalise`: `"mistakes"` or `"samples"`; see `BatchPerceptron`.
    - `fit_intercept`, `max_iter`, and the attributes: as for `LogisticGDClassifier`.
    """

    def __init__(
        self,
        normalise: Literal["samples", "mistakes"] = "mistakes",
        *,
        fit_intercept: bool = True,
        max_iter: int = 10_000,
    ) -> None:
        self.normalise = normalise
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter

    def _method(self, problem: LinearSeparation) -> Separator:
        return BatchPerceptron(self.normalise)


class PerceptronClassifier(_SeparatingClassifier):
    """Rosenblatt's Perceptron for scikit-learn; an iteration is one update, not one pass over the data.

    **Arguments**

    - `choice`: which misclassified sample updates; see `Perceptron`.
    - `random_state`: an integer, a `RandomState` or `None`; used by `choice="random"`.
    - `fit_intercept`, `max_iter`, and the attributes: as for `LogisticGDClassifier`.
    """

    def __init__(
        self,
        choice: Choice = "cyclic",
        *,
        fit_intercept: bool = True,
        max_iter: int = 10_000,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.choice = choice
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.random_state = random_state

    def _method(self, problem: LinearSeparation) -> Separator:
        return Perceptron(self.choice)

    def _key(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))
