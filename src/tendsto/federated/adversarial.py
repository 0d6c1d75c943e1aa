"""Adversarial training at the clients: any method here trains on samples that an adversary has perturbed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree
from numpy.typing import ArrayLike

from tendsto import validation
from tendsto.federated.adversaries import Adversary, SampleLoss, attack_gradients
from tendsto.federated.clients import Clients, Learning
from tendsto.iteration import Method, Scalar, State, hyperparameter


class AdversarialLearning(Learning):
    r"""Minimise the robust loss $\sum_i p_i \frac1{m_i}\sum_j \ell(h_x(\tilde a_{ij}), b_{ij})$; made by `adversarial`.

    $\tilde a_{ij}$ is the adversary's answer to the client's current model at every gradient, thus in every local step;
    gradients do not pass through it (Danskin's theorem). Values and exact gradients use one fixed key for the
    adversary's randomness, stochastic gradients their own. With `FedAvg` this is federated adversarial learning (FAL),
    and so it is with any other method.

    **Source**: X. Li, Z. Song, J. Yang, *Federated Adversarial Learning: A Framework with Convergence Analysis*,
    2208.03635, Algorithm 1.
    """

    adversary: Adversary = eqx.field(kw_only=True)

    def attacked_loss(self, x: PyTree[Array], clean: Array) -> SampleLoss:
        """What the adversary maximises."""
        del clean
        return lambda features, targets: self.loss(self.predict(x, features), targets)

    def sample_losses(self, x: PyTree[Array], clean: Array, attacked: Array, targets: Array) -> Float[Array, " rows"]:
        """What the client minimises."""
        del clean
        return self.loss(self.predict(x, attacked), targets)

    def attack(self, x: PyTree[Array], features: Array, targets: Array, key: Key[Array, ""]) -> Array:
        """The adversary's answer to a batch."""
        loss = self.attacked_loss(jax.lax.stop_gradient(x), features)
        return jax.lax.stop_gradient(self.adversary(loss, features, targets, key))

    def _loss(self, samples: tuple[Array, Array, Array], x: PyTree[Array], key: Key[Array, ""]) -> Float[Array, ""]:
        """Over the first of some features and targets, as many as the third says."""
        features, targets, size = samples
        losses = self.sample_losses(x, features, self.attack(x, features, targets, key), targets)
        weights = (jnp.arange(losses.shape[0]) < size) / size
        return self._penalised(losses, weights, x)

    def client_loss(self, data: Clients, x: PyTree[Array]) -> Float[Array, ""]:
        """The robust loss of one client."""
        return self._loss((data.features, data.targets, data.sizes), x, jax.random.key(0))

    def client_stochastic_gradient(self, data: Clients, x: PyTree[Array], key: Key[Array, ""]) -> PyTree[Array]:
        """On a batch, the one that the problem without an adversary would draw."""
        of_attack = jax.random.fold_in(key, 1)
        samples = (data.features, data.targets, data.sizes)
        if self.batch is not None:
            samples = (*self.draw(data, key, self.batch), jnp.asarray(self.batch))
        return jax.grad(lambda at: self._loss(samples, at, of_attack))(x)

    @property
    def client_gradient_cost(self) -> Float[Array, " clients"]:
        """Each sample's gradient, and those that the attack on it takes."""
        return (1.0 + attack_gradients(self.adversary)) * super().client_gradient_cost

    @property
    def client_stochastic_gradient_cost(self) -> Float[Array, " clients"]:
        """Each sample's gradient, and those that the attack on it takes."""
        if self.batch is None:
            return self.client_gradient_cost
        return jnp.full(self.clients, self.batch * (1.0 + attack_gradients(self.adversary)))

    def accuracy(self, x: PyTree[Array]) -> Float[Array, ""]:
        """The share of all clients' samples that are classified right as they are and under the attack."""

        def right(data: Clients) -> Any:
            attacked = self.attack(x, data.features, data.targets, jax.random.key(0))
            hits = _right(self, x, data.features, data.targets) & _right(self, x, attacked, data.targets)
            return jnp.count_nonzero(hits & (jnp.arange(hits.shape[0]) < data.sizes))

        return jnp.sum(self.map(right)) / jnp.sum(self.samples.sizes)


class Trades(AdversarialLearning):
    r"""The loss on clean samples plus $\beta$ times how far the adversary drives the predictions from there.

    $\ell(h_x(a), b) + \beta\, \mathrm{KL}(\operatorname{softmax} h_x(a)\,\Vert\,\operatorname{softmax} h_x(\tilde a))$,
    and the adversary maximises the divergence. At the clean sample its gradient is zero, so the attack needs a random
    start. Made by `adversarial(…, trade_off=β)`.

    **Source**: H. Zhang et al., *Theoretically Principled Trade-off between Robustness and Accuracy*, 1901.08573.
    """

    trade_off: Scalar = hyperparameter(kw_only=True)

    def attacked_loss(self, x: PyTree[Array], clean: Array) -> SampleLoss:
        """The divergence from the predictions at the clean samples."""
        scores = self.predict(x, clean)
        return lambda features, _: _divergence(scores, self.predict(x, features))

    def sample_losses(self, x: PyTree[Array], clean: Array, attacked: Array, targets: Array) -> Float[Array, " rows"]:
        """The loss at the clean sample, and the divergence."""
        scores = self.predict(x, clean)
        return self.loss(scores, targets) + self.trade_off * _divergence(scores, self.predict(x, attacked))


def _divergence(scores: Array, others: Array) -> Float[Array, " rows"]:
    logs, other_logs = jax.nn.log_softmax(scores), jax.nn.log_softmax(others)
    return jnp.sum(jnp.exp(logs) * (logs - other_logs), axis=-1)


def _right(problem: Learning, x: PyTree[Array], features: Array, targets: Array) -> Array:
    return jnp.argmax(problem.predict(x, features), axis=-1) == targets


def adversarial(problem: Learning, adversary: Adversary, *, trade_off: Scalar | None = None) -> AdversarialLearning:
    """The same clients and model, trained against an adversary.

    **Arguments**

    - `problem`: what `Clients.problem` makes. One that has an adversary gets this one instead: so a run is measured
      by a stronger attack than it trained with, `adversarial(problem, stronger).objective(x)`.
    - `adversary`: `PGD(…)`, `fgsm(…)`, or any function of the samples' loss, features, targets and a key.
    - `trade_off`: β of the TRADES loss; by default the loss at the perturbed samples.

    **Raises** `TypeError` or `ValueError` naming the argument.
    """
    if not isinstance(problem, Learning):
        raise TypeError(f"problem: expected what Clients.problem makes, got {type(problem).__name__}")
    if not callable(adversary):
        raise TypeError(f"adversary: expected a function, got {type(adversary).__name__}")
    parts = {field.name: getattr(problem, field.name) for field in dataclasses.fields(Learning)}
    if trade_off is None:
        return AdversarialLearning(**parts, adversary=adversary)
    validation.real("trade_off", trade_off, low=0.0)
    return Trades(**parts, adversary=adversary, trade_off=trade_off)


class OneAttackPerRound(Method[Learning, State]):
    """Attack every sample once a round, with the round's first model, and let a method train on the answers.

    Cheaper than an attack in every local step, and weaker the further local steps go.

    **Arguments**: `method`, of any kind, run on a problem without an adversary; `adversary`.
    """

    method: Method[Any, Any]
    adversary: Adversary

    def init(self, problem: Learning, x0: PyTree[Array], key: Key[Array, ""]) -> State:
        """The method's."""
        state: State = self.method.init(problem, x0, key)
        return state

    def step(self, problem: Learning, state: State, key: Key[Array, ""]) -> State:
        """The method's, on attacked samples."""
        attacker = adversarial(problem, self.adversary)
        keys = jax.random.split(jax.random.fold_in(key, 1), problem.clients)
        samples = problem.samples
        features = attacker.map(lambda data, key: attacker.attack(state.x, data.features, data.targets, key), keys)
        attacked = eqx.tree_at(lambda where: where.samples, problem, dataclasses.replace(samples, features=features))
        after: State = self.method.step(attacked, state, key)
        spent = attack_gradients(self.adversary) * jnp.sum(samples.sizes)
        return dataclasses.replace(after, cost=dataclasses.replace(after.cost, gradients=after.cost.gradients + spent))


def robust_accuracy_on(
    data: tuple[ArrayLike, ArrayLike], adversary: Adversary, *, seed: int = 0
) -> Callable[[Learning, Any], Float[Array, ""]]:
    """A metric for `run`'s `record`: the share of held-out samples right as they are and under an attack.

    **Arguments**: `data`, features and classes; `adversary`; `seed` of its randomness.
    """
    features, targets = jnp.asarray(data[0]), jnp.asarray(data[1])

    def accuracy(problem: Learning, state: Any) -> Float[Array, ""]:
        attacked = adversarial(problem, adversary).attack(state.x, features, targets, jax.random.key(seed))
        hits = _right(problem, state.x, features, targets) & _right(problem, state.x, attacked, targets)
        return jnp.mean(hits, dtype=float)

    return accuracy


def certified_loss(
    problem: Learning, x: PyTree[Array], bounds: Callable[[Any, Array], tuple[Array, Array]]
) -> Float[Array, ""]:
    r"""An upper bound on the robust loss, whatever the adversary: the loss at the worse end of each prediction's range.

    **Arguments**

    - `problem`: with one prediction a sample and a loss that is convex in it.
    - `x`: the parameters.
    - `bounds`: from parameters and features to the smallest and largest prediction in the ball;
      `lambda x, features: two_layer_bounds(x, features, radius)` for one.

    **Returns** a number that, with an attack's loss, encloses the robust loss.
    """

    def worst(data: Clients) -> Float[Array, ""]:
        low, high = bounds(x, data.features)
        losses = jnp.maximum(problem.loss(low, data.targets), problem.loss(high, data.targets))
        weights = (jnp.arange(losses.shape[0]) < data.sizes) / data.sizes
        return problem._penalised(losses, weights, x)

    return jnp.dot(problem.weights, problem.map(worst))
