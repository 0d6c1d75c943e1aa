"""Bilevel tasks of machine learning on labelled data: representation, regularisation and cleaning."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter
from tendsto.problems.bilevel import BilevelFiniteSum, as_arrays

Labelled = tuple[Float[Array, "n ..."], Int[Array, " n"]]
"""Inputs, one row a sample, and the number of each sample's class."""


class ClassificationTask(BilevelFiniteSum):
    """A bilevel task that ends in a linear classifier, with data held out from both levels.

    A subclass says what the classifier sees (`features`) and which two losses are traded.
    """

    test_data: eqx.AbstractVar[Labelled]

    def features(self, x: PyTree[Array], inputs: Float[Array, "n ..."]) -> Float[Array, "n d"]:
        """What the classifier sees of `inputs`; they themselves unless the upper variable is a representation."""
        del x
        return inputs

    def logits(self, x: PyTree[Array], y: PyTree[Array], inputs: Float[Array, "n ..."]) -> Float[Array, "n c"]:
        """The classifier's outputs."""
        weight, bias = y
        logits: Array = self.features(x, inputs) @ weight + bias
        return logits

    def losses(self, x: PyTree[Array], y: PyTree[Array], data: Labelled) -> Float[Array, " n"]:
        """The cross-entropy of every sample."""
        inputs, labels = data
        losses: Array = optax.softmax_cross_entropy_with_integer_labels(self.logits(x, y, inputs), labels)
        return losses

    def upper(self, x: PyTree[Array], y: PyTree[Array], batch: Labelled) -> Float[Array, ""]:
        """The mean cross-entropy on validation data."""
        return self.losses(x, y, batch).mean()

    def test_loss(self, x: PyTree[Array], y: PyTree[Array]) -> Float[Array, ""]:
        """The mean cross-entropy on the data held out."""
        return self.losses(x, y, self.test_data).mean()

    def test_accuracy(self, x: PyTree[Array], y: PyTree[Array]) -> Float[Array, ""]:
        """The fraction of the data held out that is classified correctly."""
        inputs, labels = self.test_data
        return (jnp.argmax(self.logits(x, y, inputs), axis=-1) == labels).mean()


class HyperRepresentation(ClassificationTask):
    r"""Learn a recurrent encoder above and its linear classifier below.

    $$h_t = \tanh(W h_{t-1} + U s_t + b), \quad t = 1, \dots, T, \qquad y^\star(x) = \arg\min_y \ell_{\text{train}}(y;
    h_T) + \tfrac{\lambda}{2}\lVert y\rVert^2, \qquad \Phi(x) = \ell_{\text{validation}}(y^\star(x); h_T)$$

    with $x = (W, U, b)$ and $\ell$ the cross-entropy. The lower level is $\lambda$-strongly convex; the smoothness of a
    recurrent network grows with its gradient.

    **Arguments** (by keyword)

    - `upper_data`, `lower_data`, `test_data`: sequences, shape `(n, T, d)`, and labels.
    - `lower_start`: the first classifier, weights and biases.
    - `batch_size`: how many samples a stochastic oracle sees; `None` for all.
    - `regularisation`: $\lambda > 0$.
    """

    upper_data: Labelled = eqx.field(kw_only=True, converter=as_arrays)
    lower_data: Labelled = eqx.field(kw_only=True, converter=as_arrays)
    test_data: Labelled = eqx.field(kw_only=True, converter=as_arrays)
    lower_start: PyTree[Array] = eqx.field(kw_only=True, converter=as_arrays)
    batch_size: int | None = eqx.field(default=None, static=True, kw_only=True)
    regularisation: Scalar = hyperparameter(default=1e-2, kw_only=True)

    def __check_init__(self) -> None:
        validation.positive("regularisation", self.regularisation)

    @staticmethod
    def encoder(key: Key[Array, ""], inputs: int, hidden: int, gain: float = 1.0) -> dict[str, Array]:
        r"""A random start $x_0$: $W$ orthogonal times `gain`, $U$ normal with variance $1/d$, $b = 0$."""
        recurrent_key, input_key = jax.random.split(key)
        return {
            "recurrent": gain * jnp.linalg.qr(jax.random.normal(recurrent_key, (hidden, hidden)))[0],
            "input": jax.random.normal(input_key, (inputs, hidden)) / math.sqrt(inputs),
            "bias": jnp.zeros(hidden),
        }

    def features(self, x: dict[str, Array], inputs: Float[Array, "n steps d"]) -> Float[Array, "n h"]:
        """The last hidden state."""

        def recur(hidden: Array, sample: Array) -> tuple[Array, None]:
            return jnp.tanh(hidden @ x["recurrent"] + sample @ x["input"] + x["bias"]), None

        start = jnp.zeros((inputs.shape[0], x["bias"].shape[0]), inputs.dtype)
        last: Array = jax.lax.scan(recur, start, jnp.swapaxes(inputs, 0, 1))[0]
        return last

    def lower(self, x: dict[str, Array], y: PyTree[Array], batch: Labelled) -> Float[Array, ""]:
        """The regularised training loss."""
        return self.losses(x, y, batch).mean() + 0.5 * self.regularisation * _square(y)


class RegularisationSearch(ClassificationTask):
    r"""Learn the weight of every feature's penalty above and the classifier below.

    $$y^\star(x) = \arg\min_y \ell_{\text{train}}(y) + \tfrac12\sum_j (\lambda +
    \operatorname{sigmoid} x_j) \lVert w_j\rVert^2 +
    \tfrac{\lambda}{2}\lVert b\rVert^2, \qquad \Phi(x) = \ell_{\text{validation}}(y^\star(x))$$

    with $w_j$ the classifier's weights for feature $j$. One entry, shape `(1,)`, is one penalty for all features. The
    sigmoid bounds the smoothness of the lower level, which the theorems ask for; an exponential would not.

    **Arguments** as for `HyperRepresentation`, with features of shape `(n, d)`; `regularisation`, $\lambda > 0$, keeps
    the lower level strongly convex whatever $x$ is.
    """

    upper_data: Labelled = eqx.field(kw_only=True, converter=as_arrays)
    lower_data: Labelled = eqx.field(kw_only=True, converter=as_arrays)
    test_data: Labelled = eqx.field(kw_only=True, converter=as_arrays)
    lower_start: PyTree[Array] = eqx.field(kw_only=True, converter=as_arrays)
    batch_size: int | None = eqx.field(default=None, static=True, kw_only=True)
    regularisation: Scalar = hyperparameter(default=1e-3, kw_only=True)

    def __check_init__(self) -> None:
        validation.positive("regularisation", self.regularisation)

    def lower(self, x: Float[Array, " d"], y: PyTree[Array], batch: Labelled) -> Float[Array, ""]:
        """The regularised training loss."""
        weight, bias = y
        penalty = jnp.sum((self.regularisation + jax.nn.sigmoid(x))[:, None] * weight**2)
        return self.losses(x, y, batch).mean() + 0.5 * (penalty + self.regularisation * jnp.sum(bias**2))


class HyperCleaning(ClassificationTask):
    r"""Learn above how much each training sample counts, where some of their labels are wrong.

    $$y^\star(x) = \arg\min_y \frac1n\sum_i \operatorname{sigmoid}(x_i)\,\ell_i(y) + \tfrac{\lambda}{2}\lVert
    y\rVert^2, \qquad \Phi(x) = \ell_{\text{validation}}(y^\star(x))$$

    The validation labels are clean. Here $\nabla_x f = 0$.

    **Arguments** as for `HyperRepresentation`, but `lower_data` also has each sample's number as a third array
    (`corrupted` makes it).
    """

    upper_data: Labelled = eqx.field(kw_only=True, converter=as_arrays)
    lower_data: tuple[Float[Array, "n d"], Int[Array, " n"], Int[Array, " n"]] = eqx.field(
        kw_only=True, converter=as_arrays
    )
    test_data: Labelled = eqx.field(kw_only=True, converter=as_arrays)
    lower_start: PyTree[Array] = eqx.field(kw_only=True, converter=as_arrays)
    batch_size: int | None = eqx.field(default=None, static=True, kw_only=True)
    regularisation: Scalar = hyperparameter(default=1e-2, kw_only=True)

    def __check_init__(self) -> None:
        validation.positive("regularisation", self.regularisation)

    def lower(self, x: Float[Array, " samples"], y: PyTree[Array], batch: Any) -> Float[Array, ""]:
        """The weighted and regularised training loss."""
        inputs, labels, rows = batch
        weights = jax.nn.sigmoid(x[rows])
        return (weights * self.losses(x, y, (inputs, labels))).mean() + 0.5 * self.regularisation * _square(y)


def zero_classifier(features: int, classes: int) -> tuple[Float[Array, "d c"], Float[Array, " c"]]:
    """Weights and biases of zero: a lower start."""
    return jnp.zeros((features, classes)), jnp.zeros(classes)


def split_rows(inputs: Any, labels: Any, parts: tuple[float, ...], seed: int = 0) -> list[Labelled]:
    """Shuffle samples and deal them out by these fractions, for training, validation and test.

    **Arguments**: `inputs`, shape `(n, …)`; `labels`, integers; `parts`, positive, with a sum of at most 1; `seed`.

    **Raises** `ValueError` if the parts exceed 1.
    """
    if not 0.0 < sum(parts) <= 1.0 + 1e-12:
        raise ValueError(f"parts: must have a sum in (0, 1], got {parts}")
    order = np.random.default_rng(seed).permutation(len(labels))
    ends = np.rint(np.cumsum(parts) * len(labels)).astype(int)
    starts = [0, *ends[:-1]]
    rows = [order[start:end] for start, end in zip(starts, ends, strict=True)]
    return [(jnp.asarray(np.asarray(inputs)[each]), jnp.asarray(np.asarray(labels)[each])) for each in rows]


def corrupted(
    data: Labelled, rate: float, classes: int, seed: int = 0
) -> tuple[Float[Array, "n ..."], Int[Array, " n"], Int[Array, " n"]]:
    """Samples of which a fraction `rate` got another label, chosen uniformly from the wrong ones, and their numbers.

    **Raises** `ValueError` for a rate outside [0, 1].
    """
    validation.real("rate", rate, low=0.0, high=1.0)
    inputs, labels = data
    generator = np.random.default_rng(seed)
    number = len(labels)
    wrong = generator.permutation(number)[: round(rate * number)]
    noisy = np.array(labels)
    noisy[wrong] = (noisy[wrong] + generator.integers(1, classes, wrong.size)) % classes
    return inputs, jnp.asarray(noisy), jnp.arange(number)


def _square(tree: PyTree[Array]) -> Float[Array, ""]:
    total: Array = optax.tree.norm(tree, squared=True)
    return total
