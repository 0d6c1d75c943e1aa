"""Private logistic regression for scikit-learn."""

from __future__ import annotations

import math
import secrets
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np
import scipy.special
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from tendsto import validation
from tendsto.optimize.private.method import PrivateMethod, minimise
from tendsto.optimize.private.noisy_gradient import NoisyGradientDescent
from tendsto.optimize.private.spiderboost import PrivateSpiderBoost
from tendsto.problems import BoundedLogistic, clip_rows

Solver = Literal["spiderboost", "gradient"]


class PrivateLogisticRegression(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    r"""Logistic regression whose coefficients are $(\varepsilon, \delta)$-differentially private; two classes.

    Neighbouring training sets differ in one replaced record. Rows longer than `data_norm` are shortened to it, so the
    guarantee holds for any data; scaling by the data's own mean or deviation would be a leak, and is not done. The
    number of records and the two classes count as public. The coefficients are the last iterate, which is as private
    as the random one that the theorems are about.

    **Arguments**

    - `epsilon`, `delta`: the budget of one `fit`; $\delta$ should be well below $1/n$.
    - `data_norm`: the bound on the Euclidean norm of a row, chosen without looking at the data.
    - `solver`: `"spiderboost"` or `"gradient"` (noisy gradient descent, often as good below ten thousand records).
    - `penalty`: $\lambda$ of the regulariser $\lambda\sum_j x_j^2/(1+x_j^2)$, which is not convex.
    - `fit_intercept`: append a constant feature of ones.
    - `max_iter`: the most steps of SpiderBoost, each of which passes over all records.
    - `random_state`: an integer or a `RandomState` for experiments; `None`, the default, takes the operating
      system's entropy. Who knows the seed can subtract the noise.

    **Attributes**

    - `classes_`, `coef_`, `intercept_`, `n_features_in_`: as in scikit-learn.
    - `n_iter_`: the steps taken.
    - `privacy_`: a `PrivacySpent`.

    Source: arXiv:2206.00846; see `PrivateSpiderBoost`.
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        delta: float = 1e-5,
        *,
        data_norm: float = 1.0,
        solver: Solver = "spiderboost",
        penalty: float = 0.0,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.epsilon = epsilon
        self.delta = delta
        self.data_norm = data_norm
        self.solver = solver
        self.penalty = penalty
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> PrivateLogisticRegression:
        """Spend the budget on the data.

        **Arguments**: `X`, shape `(n, d)`; `y`, two classes of any kind, shape `(n,)`.

        **Returns** the fitted classifier.

        **Raises** `ValueError` for bad data or parameters.
        """
        validation.positive("data_norm", self.data_norm)
        if self.solver not in get_args(Solver):
            raise ValueError(f"solver: {self.solver!r} is not one of {', '.join(get_args(Solver))}")
        features, labels = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) != 2:
            number = len(self.classes_)
            raise ValueError(
                "Only binary classification is supported: expected two classes in y, "
                f"got {number} class{'' if number == 1 else 'es'}"
            )
        rows, bound = clip_rows(jnp.asarray(features), self.data_norm), self.data_norm
        if self.fit_intercept:
            rows, bound = jnp.column_stack([rows, jnp.ones(len(rows), rows.dtype)]), math.hypot(bound, 1.0)
        targets: Any = codes
        problem = BoundedLogistic(rows, targets, bound, self.penalty)
        start = jnp.zeros(rows.shape[1], rows.dtype)
        # The loss at zero is log 2 whatever the data, and no loss is negative.
        budget: dict[str, Any] = {"epsilon": self.epsilon, "delta": self.delta, "initial_gap": math.log(2.0)}
        method: PrivateMethod[Any]
        if self.solver == "spiderboost":
            method = PrivateSpiderBoost.calibrated(problem, start, most_steps=self.max_iter, **budget)
        else:
            method = NoisyGradientDescent.theory(problem, start, **budget)
        result = minimise(method, problem, start, delta=self.delta, key=self._key(), points=1)
        weights = np.asarray(result.trace.x[0])
        self.privacy_ = result.privacy
        self.n_iter_ = int(method.steps)
        self.coef_ = weights[None, : features.shape[1]]
        self.intercept_ = weights[features.shape[1] :] if self.fit_intercept else np.zeros(1, weights.dtype)
        return self

    def decision_function(self, X: Any) -> NDArray[Any]:
        """The logarithms of the odds of `classes_[1]`, shape `(n,)`, of the rows as `fit` would shorten them."""
        check_is_fitted(self)
        features = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        rows = np.asarray(clip_rows(jnp.asarray(features), self.data_norm))
        return np.asarray(rows @ self.coef_[0] + self.intercept_[0])

    def predict(self, X: Any) -> NDArray[Any]:
        """The class of each row, shape `(n,)`."""
        positive = self.decision_function(X) > 0
        return np.asarray(self.classes_[positive.astype(int)])

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """The probability of each class, shape `(n, 2)`."""
        positive = scipy.special.expit(self.decision_function(X))
        return np.column_stack([1.0 - positive, positive])

    def _key(self) -> int:
        if self.random_state is None:
            return secrets.randbits(62)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags
