"""Adversaries that perturb a client's samples within a ball, to train against them or to measure robustness."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tendsto import validation
from tendsto.iteration import Scalar, hyperparameter
from tendsto.problems.noise import Norm

SampleLoss = Callable[[Array, Array], Array]
"""From a batch of features and a batch of targets to a loss for each sample."""
Adversary = Callable[[SampleLoss, Array, Array, Key[Array, ""]], Array]
"""From the samples' loss, features, targets and a key to perturbed features; any JAX function will do."""
Project = Callable[[Array, Array, Scalar], Array]
"""From perturbed features, clean ones and a radius to admissible perturbed features."""


def _check_ball(radius: Scalar, norm: Norm) -> None:
    validation.real("radius", radius, low=0.0)
    if norm not in get_args(Norm):
        raise ValueError(f"norm: must be one of {', '.join(get_args(Norm))}, got {norm!r}")


def _lengths(rows: Float[Array, "samples ..."]) -> Float[Array, "samples ..."]:
    return jnp.sqrt(jnp.sum(rows**2, axis=tuple(range(1, rows.ndim)), keepdims=True))


def _unit(rows: Float[Array, "samples ..."]) -> Float[Array, "samples ..."]:
    lengths = _lengths(rows)
    return rows / jnp.where(lengths > 0, lengths, 1.0)


def into_ball(features: Array, clean: Array, radius: Scalar, norm: Norm) -> Array:
    """Each sample's nearest point of the ball around the clean one, in the Euclidean or the sup norm."""
    offsets = features - clean
    if norm == "sup":
        return clean + jnp.clip(offsets, -radius, radius)
    lengths = _lengths(offsets)
    return clean + offsets * jnp.minimum(1.0, radius / jnp.where(lengths > 0, lengths, 1.0))


def into_interval(low: float, high: float, norm: Norm = "sup") -> Project:
    """Onto the ball, then every feature into `[low, high]`, as pixels need; clean features have to lie there."""

    def clip(features: Array, clean: Array, radius: Scalar) -> Array:
        return jnp.clip(into_ball(features, clean, radius, norm), low, high)

    return clip


def into_slice(features: Array, clean: Array, radius: Scalar) -> Array:
    r"""Onto $\{x : \lVert x\rVert = 1, x_d = \tfrac12\}$, within the Euclidean radius of the clean samples.

    The first $d - 1$ coordinates lie on a sphere of radius $\sqrt3/2$; what is too far moves along its great circle.
    """
    sphere = math.sqrt(0.75)
    centre, moved = _unit(clean[:, :-1]), _unit(features[:, :-1])
    cosine = jnp.sum(centre * moved, axis=1, keepdims=True)
    aside = _unit(moved - cosine * centre)
    widest = 2.0 * jnp.arcsin(jnp.minimum(1.0, radius / (2.0 * sphere)))
    edge = jnp.cos(widest) * centre + jnp.sin(widest) * aside
    kept = sphere * jnp.where(cosine < jnp.cos(widest), edge, moved)
    return jnp.concatenate([kept, clean[:, -1:]], axis=1)


class PGD(eqx.Module):
    r"""Projected gradient ascent on each sample's loss.

    $\tilde x \leftarrow \Pi(\tilde x + \alpha\, d)$ with $d = g/\lVert g\rVert_2$ in the Euclidean norm and
    $d = \operatorname{sign} g$ in the sup norm, $g$ the gradient of the sample's loss in its features. What it finds is
    a lower bound on the worst case.

    **Arguments**

    - `radius`: of the ball around each clean sample.
    - `norm`: `"euclidean"` or `"sup"`.
    - `steps`: how many.
    - `step_size`: $\alpha$, by default $2.5$ radii over the number of steps.
    - `restarts`: how many runs, of which the worst for each sample counts.
    - `random_start`: whether each run starts uniformly in the ball, or at the clean sample, where the gradient of a
      rectified unit may vanish.
    - `project`: onto what is admissible, where that is less than the ball: `into_interval(0, 1)`, `into_slice`.

    **Raises** `ValueError` naming the argument.

    **Source**: A. Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*, 1706.06083.
    """

    radius: Scalar = hyperparameter()
    norm: Norm = eqx.field(static=True, default="euclidean")
    steps: int = eqx.field(static=True, default=10)
    step_size: Scalar | None = eqx.field(
        default=None, converter=lambda value: None if value is None else jnp.asarray(value, float)
    )
    restarts: int = eqx.field(static=True, default=1)
    random_start: bool = eqx.field(static=True, default=True)
    project: Project | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        _check_ball(self.radius, self.norm)
        validation.integer("steps", self.steps, low=1)
        validation.integer("restarts", self.restarts, low=1)
        if self.step_size is not None:
            validation.real("step_size", self.step_size, low=0.0)
        if self.restarts > 1 and not self.random_start:
            raise ValueError("restarts: without a random start all of them are the same")

    @property
    def gradients(self) -> int:
        """How many gradients of each sample an attack takes."""
        return self.steps * self.restarts

    def _admissible(self, features: Array, clean: Array) -> Array:
        if self.project is None:
            return into_ball(features, clean, self.radius, self.norm)
        return self.project(features, clean, self.radius)

    def __call__(self, loss: SampleLoss, features: Array, targets: Array, key: Key[Array, ""]) -> Array:
        """The perturbed features of a batch."""
        step_size = 2.5 * self.radius / self.steps if self.step_size is None else self.step_size
        slope = jax.grad(lambda moved: jnp.sum(loss(moved, targets)))

        def ascend(key: Key[Array, ""]) -> Array:
            start = features
            if self.random_start:
                start = self._admissible(features + _in_ball(key, features, self.radius, self.norm), features)

            def step(_: Any, moved: Array) -> Array:
                gradient = slope(moved)
                direction = jnp.sign(gradient) if self.norm == "sup" else _unit(gradient)
                return self._admissible(moved + step_size * direction, features)

            return jnp.asarray(jax.lax.fori_loop(0, self.steps, step, start))

        return _worst(loss, jax.vmap(ascend)(jax.random.split(key, self.restarts)), targets)


def fgsm(radius: Scalar, norm: Norm = "sup", project: Project | None = None) -> PGD:
    """The fast gradient sign method: one step of the ball's radius from the clean sample.

    Exact where predictions are linear in the features and the loss is monotone in them.

    **Source**: I. Goodfellow et al., *Explaining and Harnessing Adversarial Examples*, 1412.6572.
    """
    return PGD(radius, norm, steps=1, step_size=radius, random_start=False, project=project)


class RandomNoise(eqx.Module):
    """A random perturbation on the ball's boundary, which looks at no loss: augmentation by noise.

    **Arguments**: `radius`; `norm`, `"euclidean"` for a uniform direction, `"sup"` for random signs.
    """

    radius: Scalar = hyperparameter()
    norm: Norm = eqx.field(static=True, default="euclidean")

    def __check_init__(self) -> None:
        _check_ball(self.radius, self.norm)

    def __call__(self, loss: SampleLoss, features: Array, targets: Array, key: Key[Array, ""]) -> Array:
        """The perturbed features of a batch."""
        noise = jax.random.normal(key, features.shape, features.dtype)
        return features + self.radius * (jnp.sign(noise) if self.norm == "sup" else _unit(noise))


class Among(eqx.Module):
    """The worst of a finite set of points: for each sample, of itself and the given points within its ball.

    Exact for a finite threat model; with midpoints of near pairs it shows what no training can avoid.

    **Arguments**: `points`, shape `(points, *sample)`; `radius`; `norm`.
    """

    points: Float[Array, "points ..."] = eqx.field(converter=lambda value: validation.finite_array("points", value))
    radius: Scalar = hyperparameter()
    norm: Norm = eqx.field(static=True, default="euclidean")

    def __check_init__(self) -> None:
        _check_ball(self.radius, self.norm)

    def __call__(self, loss: SampleLoss, features: Array, targets: Array, key: Key[Array, ""]) -> Array:
        """The worst admissible point of each sample."""

        def admissible(point: Array) -> Array:
            offsets = point - features
            sizes = jnp.abs(offsets) if self.norm == "sup" else _lengths(offsets)
            # By rounding, a midpoint may lie just outside of both balls.
            near = jnp.max(sizes, axis=tuple(range(1, sizes.ndim)), keepdims=True) <= self.radius * (1.0 + 1e-9)
            return jnp.where(near, point, features)

        candidates = jnp.concatenate([features[None], jax.vmap(admissible)(self.points)])
        return _worst(loss, candidates, targets)


class Strongest(eqx.Module):
    """The worst answer of several adversaries for each sample.

    **Arguments**: `adversaries`, any number of them; `unperturbed` among them makes the clean loss a lower bound.
    """

    adversaries: Sequence[Adversary]

    def __check_init__(self) -> None:
        if not self.adversaries:
            raise ValueError("adversaries: must not be empty")

    @property
    def gradients(self) -> int:
        """How many gradients of each sample all of them take."""
        return sum(attack_gradients(adversary) for adversary in self.adversaries)

    def __call__(self, loss: SampleLoss, features: Array, targets: Array, key: Key[Array, ""]) -> Array:
        """The worst answers."""
        keys = jax.random.split(key, len(self.adversaries))
        answers = [each(loss, features, targets, key) for each, key in zip(self.adversaries, keys, strict=True)]
        return _worst(loss, jnp.stack(answers), targets)


def unperturbed(loss: SampleLoss, features: Array, targets: Array, key: Key[Array, ""]) -> Array:
    """The adversary that does nothing."""
    del loss, targets, key
    return features


def attack_gradients(adversary: Adversary) -> int:
    """How many gradients of each sample an attack takes, as its `gradients` says; otherwise none."""
    return int(getattr(adversary, "gradients", 0))


def _in_ball(key: Key[Array, ""], like: Array, radius: Scalar, norm: Norm) -> Array:
    """An offset for each sample, uniform in the ball."""
    if norm == "sup":
        return radius * jax.random.uniform(key, like.shape, like.dtype, -1.0, 1.0)
    of_direction, of_length = jax.random.split(key)
    ones = (len(like), *(1,) * (like.ndim - 1))
    lengths = jax.random.uniform(of_length, ones, like.dtype) ** (len(like) / like.size)
    return radius * lengths * _unit(jax.random.normal(of_direction, like.shape, like.dtype))


def _worst(loss: SampleLoss, candidates: Float[Array, "answers samples ..."], targets: Array) -> Array:
    """For each sample the candidate of the largest loss, the first of equals."""
    if len(candidates) == 1:
        return candidates[0]
    losses = jax.vmap(lambda features: loss(features, targets))(candidates)
    return candidates[jnp.argmax(losses, axis=0), jnp.arange(candidates.shape[1])]
