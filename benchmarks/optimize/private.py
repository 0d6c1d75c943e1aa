"""A private step beside Opacus: equal batch, model and noise on the digits.

    python -m benchmarks.optimize.private [--quick] [--json]

Every contender takes the same number of DP-SGD steps with clipping of single examples: softmax regression, and a
network with one hidden layer of 64. Opacus draws its batches by Poisson sampling, as Tendsto does, which computes on as
many rows as a sample can have (126 where 64 are expected, 366 where 256 are); the optax row takes batches of fixed
size, the aggregate being that of optax.contrib. The SPIDER row makes steps of the private estimator,
which needs two gradients an example where the others need one. Compilation and the set-up of the privacy engine are
left out. A ratio above 1 means Tendsto is faster.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from jax.flatten_util import ravel_pytree
from opacus import PrivacyEngine
from sklearn.datasets import load_digits

from benchmarks.contest import options, ratios, show, turns
from tendsto.iteration import run
from tendsto.optimize.private import NoisyGradientDescent, RecordMean, private_spider
from tendsto.problems import FiniteSum

CLIP, NOISE, STEP_SIZE = 1.0, 1.0, 0.1
DIGITS = load_digits()
FEATURES = (DIGITS.data / 16.0).astype(np.float32)
TARGETS = DIGITS.target.astype(np.int32)


def parameters(hidden: int) -> dict[str, jax.Array]:
    sizes = [64, hidden, 10] if hidden else [64, 10]
    keys = jax.random.split(jax.random.key(0), len(sizes))
    return {
        name: leaf
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes))
        for name, leaf in {
            f"w{layer}": jax.random.normal(keys[layer], (fan_in, fan_out), jnp.float32) / fan_in**0.5,
            f"b{layer}": jnp.zeros(fan_out, jnp.float32),
        }.items()
    }


def loss(params: dict[str, jax.Array], row: jax.Array, label: jax.Array) -> jax.Array:
    for layer in range(len(params) // 2):
        row = (jax.nn.relu(row) if layer else row) @ params[f"w{layer}"] + params[f"b{layer}"]
    return optax.losses.softmax_cross_entropy_with_integer_labels(row, label)


class Network(FiniteSum):
    """The mean loss of the network over the digits, as a function of all weights in one vector."""

    features: jax.Array
    labels: jax.Array
    hidden: int

    @property
    def components(self) -> int:
        return self.features.shape[0]

    @property
    def component_smoothness(self) -> jax.Array:
        raise AttributeError("Network: not known")

    def unravel(self, x: jax.Array) -> dict[str, jax.Array]:
        return ravel_pytree(parameters(self.hidden))[1](x)

    def smooth_part(self, x: jax.Array) -> jax.Array:
        return jax.vmap(loss, (None, 0, 0))(self.unravel(x), self.features, self.labels).mean()

    def component_gradients(self, x: jax.Array, indices: jax.Array) -> jax.Array:
        one = jax.grad(lambda x, row, label: loss(self.unravel(x), row, label))
        return jax.vmap(one, (None, 0, 0))(x, self.features[indices], self.labels[indices])


def with_tendsto(hidden: int, batch: int, steps: int) -> Callable[[], object]:
    problem = Network(jnp.asarray(FEATURES), jnp.asarray(TARGETS), hidden)
    start = ravel_pytree(parameters(hidden))[0]
    means = RecordMean(batch / problem.components, clip=True)
    method = NoisyGradientDescent(STEP_SIZE, CLIP, NOISE * CLIP / batch, means, steps=steps)
    # One function for all turns: another one each time would be compiled each time.
    record = {"first": lambda _, state: state.x[0]}
    return lambda: run(method, problem, start, steps=steps, record=record, points=1, progress=False).x


def with_spider(hidden: int, batch: int, steps: int) -> Callable[[], object]:
    problem = Network(jnp.asarray(FEATURES), jnp.asarray(TARGETS), hidden)
    start = ravel_pytree(parameters(hidden))[0]
    estimator = private_spider(
        lipschitz=CLIP, smoothness=10.0, anchor_noise=NOISE, variation_noise=NOISE, period=10, batch_size=batch
    )

    @jax.jit
    def train(start: jax.Array) -> jax.Array:
        def step(carry, key):
            x, state = carry
            rows = jax.random.randint(key, (batch,), 0, problem.components)
            now, before = (problem.component_gradients(point, rows) for point in (x, state.params))
            update, state = estimator.update(now, state, x, previous=before)
            return (x - STEP_SIZE * update, state), None

        return jax.lax.scan(step, (start, estimator.init(start)), jax.random.split(jax.random.key(1), steps))[0][0]

    return lambda: train(start)


def with_optax(hidden: int, batch: int, steps: int) -> Callable[[], object]:
    """A Python loop over a compiled step with the aggregate of `optax.contrib`, as its documentation has it."""
    features, labels = jnp.asarray(FEATURES), jnp.asarray(TARGETS)
    optimiser = optax.contrib.dpsgd(STEP_SIZE, CLIP, NOISE, 0)

    @jax.jit
    def step(params, memory, rows):
        gradients = jax.vmap(jax.grad(loss), (None, 0, 0))(params, features[rows], labels[rows])
        updates, memory = optimiser.update(gradients, memory, params)
        return optax.apply_updates(params, updates), memory

    def train() -> object:
        params = parameters(hidden)
        memory, rng = optimiser.init(params), np.random.default_rng(0)
        for _ in range(steps):
            params, memory = step(params, memory, rng.integers(0, len(FEATURES), batch))
        return params

    return train


def with_opacus(hidden: int, batch: int, steps: int) -> Callable[[], object]:
    layers = [torch.nn.Linear(64, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 10)]
    model = torch.nn.Sequential(*(layers if hidden else [torch.nn.Linear(64, 10)]))
    data = torch.utils.data.TensorDataset(torch.tensor(FEATURES), torch.tensor(TARGETS.astype(np.int64)))
    loader = torch.utils.data.DataLoader(data, batch_size=batch)
    optimiser = torch.optim.SGD(model.parameters(), STEP_SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, optimiser, loader = PrivacyEngine().make_private(
            module=model, optimizer=optimiser, data_loader=loader, noise_multiplier=NOISE, max_grad_norm=CLIP
        )
    criterion = torch.nn.CrossEntropyLoss()

    def train() -> None:
        done = 0
        while done < steps:
            for rows, labels in loader:
                optimiser.zero_grad()
                criterion(model(rows), labels).backward()
                optimiser.step()
                done += 1
                if done == steps:
                    return

    return train


CONTENDERS = {"tendsto": with_tendsto, "SPIDER": with_spider, "optax": with_optax, "Opacus": with_opacus}


def main() -> None:
    chosen = options(__doc__)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rounds, steps = (3, 50) if chosen.quick else (7, 100)
    rows = []
    for name, hidden in {"softmax": 0, "hidden layer of 64": 64}.items():
        for batch in (64, 256):
            times = turns({peer: build(hidden, batch, steps) for peer, build in CONTENDERS.items()}, rounds)
            row = {"model": name, "batch": batch, "tendsto_ms_a_step": float(np.median(times["tendsto"])) / steps * 1e3}
            rows.append(row | ratios(times))
    show("Private steps: time of the peer over that of tendsto", rows, as_json=chosen.json)


if __name__ == "__main__":
    main()
