"""Problems through small networks, trained on real data when they are first asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse
from jaxtyping import Array
from numpy.typing import NDArray

from tendsto import validation
from tendsto.problems.data import dataset
from tendsto.problems.networks import NetworkProblem, Vector

Layers = list[tuple[Array, Array]]


class Surrogate(NamedTuple):
    """A problem through a network, and where to start."""

    problem: NetworkProblem
    start: Vector


def image_barycentre(images: int = 100, seed: int = 0) -> Surrogate:
    r"""Mix images of handwritten digits so that a classifier answers as it does for another image.

    $$\max_x\; -\lVert\Phi(x) - \Phi_\star\rVert^2, \qquad \Phi(x) = \operatorname{softmax}\bigl(C(
    \textstyle\sum_i \operatorname{softmax}(x)_i\, a_i)\bigr), \qquad x \in [-10, 10]^n$$

    with $a_i$ images of the digits of scikit-learn, $C$ a classifier trained on them and $\Phi_\star$ its answer for
    the first of the $a_i$; so the maximum is 0, up to $10^{-6}$ for the bounds. The start weighs all images alike.

    **Arguments**

    - `images`: $n$, how many images are mixed.
    - `seed`: chooses the images.

    **Source**: the first experiment of arXiv:2510.01461, with digits for ImageNet and two layers for ResNet-18.
    """
    validation.integer("images", images, low=2, high=1797)
    chosen = _some_digits(images, seed)
    classifier = _digit_classifier()

    def network(x: Array) -> Array:
        return jax.nn.softmax(_apply(classifier, jax.nn.softmax(x) @ chosen))

    target = jax.nn.softmax(_apply(classifier, chosen[0]))
    problem = NetworkProblem(
        lambda y: -jnp.sum((y - target) ** 2), network, input_constraints=lambda x: jnp.abs(x) - 10.0
    )
    return Surrogate(problem, np.zeros(images))


def path_counterfactual(latent: int = 16, seed: int = 0) -> Surrogate:
    r"""The least change of a map after which another path through it costs half of what is now the shortest.

    Maps are the digits of scikit-learn, 8 by 8 cells, decoded from a latent $x$; a convolutional network learned what
    it costs to enter a cell. $\Phi(x) = [x, \text{costs}]$ and

    $$\max_x\; -\lVert x - x_0\rVert^2 - \bigl(\textstyle\sum\text{costs} - \sum\text{costs}_0\bigr)^2/100^2
    \quad\text{s.t.}\quad \tfrac1{2.5}(2 c_{\text{alt}} - c_{\text{ref}}) \le 0, \quad
    \tfrac1{10}\bigl((\lVert x\rVert - \sqrt n)^2 - 1\bigr) \le 0$$

    with $c_{\text{ref}}$ and $c_{\text{alt}}$ the costs of the paths from corner to corner that are shortest on the
    first and on a second map. The start is $x_0$, the first map. (The paper divides by 10 where 2.5 stands: its
    paths are longer.)

    **Arguments**

    - `latent`: $n$, the dimension of the latent space.
    - `seed`: chooses the two maps.

    **Source**: the second experiment of arXiv:2510.01461, with digits for maps of Warcraft.
    """
    validation.integer("latent", latent, low=2, high=64)
    encoder, decoder, centre, spread = _digit_autoencoder(latent)
    kernels = _terrain_network()

    def encoded(image: Array) -> Array:
        return (_apply(encoder, image) - centre) / spread

    def costs(x: Array) -> Array:
        return _terrain(kernels, _apply(decoder, x * spread + centre))

    first, second = _some_digits(2, seed)
    x0, other = encoded(first), encoded(second)
    costs0 = costs(x0)
    reference, alternative = _shortest_path(np.asarray(costs0)), _shortest_path(np.asarray(costs(other)))

    def objective(y: Array) -> Array:
        moved, total = y[:latent] - x0, (jnp.sum(y[latent:]) - jnp.sum(costs0)) / 100.0
        return -jnp.sum(moved**2) - total**2

    problem = NetworkProblem(
        objective,
        lambda x: jnp.concatenate([x, costs(x)]),
        constraints=lambda y: (2.0 * jnp.sum(alternative * y[latent:]) - jnp.sum(reference * y[latent:])) / 2.5,
        input_constraints=lambda x: ((jnp.linalg.norm(x) - latent**0.5) ** 2 - 1.0) / 10.0,
    )
    return Surrogate(problem, np.asarray(x0, dtype=np.float64))


def wine_process(seed: int = 0) -> Surrogate:
    r"""Choose the alcohol and the phenols of a wine so that a surrogate predicts the best proline per colour.

    The two controls $x$ are standardised; a network trained on the wines of scikit-learn predicts flavanoids, colour
    intensity, hue and proline, $y > 0$ in units of their means. The problem is

    $$\max_x\; y_{\text{proline}}/(y_{\text{colour}} + y_{\text{hue}}) \quad\text{s.t.}\quad
    1000(y_{\text{flavanoids}} - 1.2) \le 0, \quad 1000(y_{\text{colour}} - 1) \le 0, \quad 1000(|x_i| - 2) \le 0,
    \quad 1000(x_1 x_2 - 1) \le 0 .$$

    **Arguments**

    - `seed`: chooses the start, uniformly from $[-1, 1]^2$.

    **Source**: modelled on the third experiment of arXiv:2510.01461 (yield of biodiesel, two controls, a bound on
    their product, constraints times 1000), whose surrogate is not public in a package.
    """
    layers = _wine_surrogate()

    def limits(y: Array) -> Array:
        return 1000.0 * jnp.stack([y[0] - 1.2, y[1] - 1.0])

    def input_limits(x: Array) -> Array:
        return 1000.0 * jnp.concatenate([jnp.abs(x) - 2.0, jnp.prod(x)[None] - 1.0])

    problem = NetworkProblem(
        lambda y: y[3] / (y[1] + y[2]),
        lambda x: jax.nn.softplus(_apply(layers, x)),
        constraints=limits,
        input_constraints=input_limits,
    )
    return Surrogate(problem, np.random.default_rng(seed).uniform(-1.0, 1.0, 2))


# --- Training: in single precision whatever the caller's, so that the weights are the same


def _digits() -> Array:
    return jnp.asarray(dataset("digits", standardise=False).features / 16.0, dtype=jnp.float32)


def _some_digits(number: int, seed: int) -> Array:
    pixels = _digits()
    chosen: Array = pixels[np.random.default_rng(seed).choice(len(pixels), number, replace=False)]
    return chosen


def _layers(sizes: Sequence[int], seed: int) -> Layers:
    keys = jax.random.split(jax.random.key(seed), len(sizes) - 1)
    return [
        (jax.random.normal(key, (fan_in, fan_out), jnp.float32) / fan_in**0.5, jnp.zeros(fan_out, jnp.float32))
        for key, fan_in, fan_out in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def _apply(layers: Layers, x: Array) -> Array:
    for weights, bias in layers[:-1]:
        x = jnp.tanh(x @ weights + bias)
    weights, bias = layers[-1]
    outputs: Array = x @ weights + bias
    return outputs


def _trained(loss: Callable[[Any], Array], parameters: Any, steps: int, step_size: float) -> Any:
    """The parameters after full-batch steps of Adam on `loss`."""
    optimiser = optax.adam(step_size)

    @jax.jit
    def train(parameters: Any) -> Any:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            parameters, memory = carry
            updates, memory = optimiser.update(jax.grad(loss)(parameters), memory)
            return (optax.apply_updates(parameters, updates), memory), None

        return jax.lax.scan(step, (parameters, optimiser.init(parameters)), None, length=steps)[0][0]

    return train(parameters)


@functools.cache
def _digit_classifier() -> Layers:
    pixels, labels = _digits(), dataset("digits").targets

    def loss(layers: Layers) -> Array:
        losses: Array = optax.softmax_cross_entropy_with_integer_labels(_apply(layers, pixels), labels)
        return losses.mean()

    layers: Layers = _trained(loss, _layers([64, 32, 10], seed=0), steps=150, step_size=0.02)
    return layers


@functools.cache
def _digit_autoencoder(latent: int) -> tuple[Layers, Layers, Array, Array]:
    """Encoder, decoder, and the mean and deviation of the codes they were trained on."""
    pixels = _digits()[:600]

    def loss(both: tuple[Layers, Layers]) -> Array:
        encoder, decoder = both
        return jnp.mean((_apply(decoder, _apply(encoder, pixels)) - pixels) ** 2)

    start = (_layers([64, 48, latent], seed=1), _layers([latent, 48, 64], seed=2))
    encoder, decoder = _trained(loss, start, steps=200, step_size=0.01)
    codes = _apply(encoder, pixels)
    return encoder, decoder, codes.mean(axis=0), codes.std(axis=0)


def _terrain(kernels: Layers, image: Array) -> Array:
    """Costs of the cells from a map, shape `(..., 64)`, by two convolutions of width three."""
    cells = image.reshape(-1, 1, 8, 8)
    for number, (weights, bias) in enumerate(kernels):
        cells = jax.nn.relu(cells) if number else cells
        cells = jax.lax.conv(cells, weights.astype(cells.dtype), (1, 1), "SAME") + bias[:, None, None]
    costs: Array = jax.nn.softplus(cells).reshape(image.shape)
    return costs


@functools.cache
def _terrain_network() -> Layers:
    """Trained on what a cell truly costs: from 0.8 to 9.2, more the brighter it and its surroundings are."""
    pixels = _digits()[:300]
    images = pixels.reshape(-1, 8, 8)
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1)))
    surroundings = jnp.mean(jnp.stack([padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]), axis=0)
    truth = (0.8 + 8.4 * images * jnp.sqrt(surroundings)).reshape(pixels.shape)
    keys = jax.random.split(jax.random.key(3))
    start = [
        (0.3 * jax.random.normal(keys[0], (6, 1, 3, 3), jnp.float32), jnp.zeros(6, jnp.float32)),
        (0.3 * jax.random.normal(keys[1], (1, 6, 3, 3), jnp.float32), jnp.zeros(1, jnp.float32)),
    ]
    kernels: Layers = _trained(lambda kernels: jnp.mean((_terrain(kernels, pixels) - truth) ** 2), start, 150, 0.03)
    return kernels


def _shortest_path(costs: NDArray[Any]) -> NDArray[np.float64]:
    """The cells, marked by ones, of the cheapest path from the first to the last one of an 8 by 8 grid."""
    cell = np.arange(64).reshape(8, 8)
    pairs = np.concatenate(
        [np.stack([cell[:, :-1].ravel(), cell[:, 1:].ravel()]), np.stack([cell[:-1].ravel(), cell[1:].ravel()])], axis=1
    )
    both_ways = np.concatenate([pairs, pairs[::-1]], axis=1)
    graph = scipy.sparse.coo_array((costs[both_ways[1]], tuple(both_ways)), shape=(64, 64)).tocsr()
    _, before = scipy.sparse.csgraph.dijkstra(graph, indices=0, return_predecessors=True)
    path, at = np.zeros(64), 63
    while at >= 0:
        path[at], at = 1.0, before[at]
    return path


@functools.cache
def _wine_surrogate() -> Layers:
    features = dataset("wine", standardise=False).features
    controls, responses = features[:, [0, 5]], features[:, [6, 9, 10, 12]]
    inputs = jnp.asarray((controls - controls.mean(axis=0)) / controls.std(axis=0), dtype=jnp.float32)
    outputs = jnp.asarray(responses / responses.mean(axis=0), dtype=jnp.float32)

    def loss(layers: Layers) -> Array:
        return jnp.mean((jax.nn.softplus(_apply(layers, inputs)) - outputs) ** 2)

    layers: Layers = _trained(loss, _layers([2, 16, 16, 4], seed=4), steps=400, step_size=0.01)
    return layers
