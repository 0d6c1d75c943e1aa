"""Consensus-based optimisation beside CBXpy and CMA-ES: throughput, and success at equal numbers of evaluations.

    python -m benchmarks.optimize.particles [--quick] [--json]

CBXpy runs the same scheme with the same parameters (time step, drift, noise, temperature, number of particles), its
batched form on arrays of 64-bit floats and the fewest records; only the random numbers differ. It takes the objective
in NumPy, or ours as JAX compiles it, so that methods alone compare. Ours takes the library's Rastrigin, whose sine is a
polynomial, or the formula with the cosine of JAX. Contenders take turns in one process and what threads they want;
`taskset -c 0` before the command leaves them one core. Compilation is left out of the times. A ratio above 1 means that
Tendsto is faster.
"""

from __future__ import annotations

import functools
import itertools
import os
import warnings

import cma
import jax
import jax.numpy as jnp
import numpy as np
from cbx.dynamics import CBO

import tendsto as tt
from benchmarks.contest import options, ratios, show, turns

NOISES = ("isotropic", "anisotropic")


def rastrigin(x: np.ndarray) -> np.ndarray:
    return np.sum(x**2 + 2.5 * (1 - np.cos(2 * np.pi * x)), axis=-1)


BY_COSINE = tt.problems.Objective(lambda x: jnp.sum(x**2 + 2.5 * (1 - jnp.cos(2 * jnp.pi * x))))


def canyon(point: np.ndarray) -> np.ndarray:
    x, y = point[..., 0], point[..., 1]
    valley = y - ((x - 1) * (x - 4) ** 2 / 8 + 2)
    block = -x - 1.6 * y
    hills = 25 * (1 - np.exp(-1.4 * valley**2 * np.exp(-0.002 * x**4))) + 0.4 * x**2 + 0.2 * y**2
    ripples = 1.1625 * (2 - np.cos(0.75 * np.pi * x) - np.cos(0.75 * np.pi * y))
    return hills + ripples + 4 * np.exp(1 - 2 * valley**4) * np.where(block > 0, 1 - np.exp(-9 * block**2), 0)


def with_tendsto(method, problem, mean, steps, runs):
    trace = tt.run(method, problem, mean, steps=steps, seeds=runs, points=steps, spacing="linear", progress=False)
    return trace["objective"].values


def compiled(problem):
    """The objective of a problem at all particles of all runs, compiled, for a caller with NumPy arrays."""
    everywhere = jax.jit(lambda points: jax.vmap(problem.objective)(points.reshape(-1, points.shape[-1])))
    return lambda points: np.asarray(everywhere(points)).reshape(points.shape[:-1])


def with_cbx(function, mean, steps, runs, particles, noise, sigma, spread, alpha):
    start = np.asarray(mean) + spread * np.random.default_rng(0).standard_normal((runs, particles, len(mean)))
    dynamics = CBO(
        function,
        f_dim="3D",
        check_f_dims=False,
        x=start,
        dt=0.01,
        lamda=1.0,
        sigma=sigma,
        alpha=alpha,
        noise=noise,
        max_it=steps,
        verbosity=0,
        seed=0,
        track_args={"names": ["consensus"]},
    )
    dynamics.optimize(sched=None)
    return function(np.array(dynamics.history["consensus"])[..., 0, :]).T


def throughput(quick: bool) -> list[dict]:
    rows = []
    sizes = [(1, 20, 2, 500), (1, 200, 20, 300), (100, 20, 2, 200), (100, 200, 20, 50)]
    for runs, particles, dimension, steps in sizes[-1:] if quick else sizes:
        mean = jnp.full(dimension, 2.0)
        landscapes = {"Rastrigin": tt.problems.Rastrigin(jnp.zeros(dimension)), "the same by jnp.cos": BY_COSINE}
        for (landscape, problem), noise in itertools.product(landscapes.items(), NOISES):
            method = tt.optimize.ConsensusBased(particles, 100.0, 1.0, 0.3, 0.01, noise, 1.0)
            setting = (mean, steps, runs, particles, noise, 0.3, 1.0, 100.0)
            times = turns(
                {
                    "tendsto": functools.partial(with_tendsto, method, problem, mean, steps, runs),
                    "CBXpy": functools.partial(with_cbx, rastrigin, *setting),
                    "CBXpy, compiled f": functools.partial(with_cbx, compiled(problem), *setting),
                },
                rounds=5 if quick else 7,
            )
            shape = {"landscape": landscape, "runs": runs, "particles": particles, "d": dimension, "noise": noise}
            rows.append(shape | {"ms_a_step": float(np.median(times["tendsto"])) / steps * 1e3} | ratios(times))
    return rows


def summary(landscape: str, contender: str, heights: np.ndarray, particles: int) -> dict:
    """The share of runs whose point ever gets below 0.1, and their median number of evaluations until then."""
    below = heights < 0.1
    reached = below.any(axis=1)
    first = below.argmax(axis=1)[reached] * particles
    return {
        "landscape": landscape,
        "contender": contender,
        "share": float(reached.mean()),
        "evaluations": float(np.median(first)) if reached.any() else float("nan"),
    }


def with_cma(function, mean, spread, budget, runs):
    """Best height after each generation, padded to the budget, by generations of CMA-ES's own size."""
    rows = []
    for seed in range(runs):
        settings = {"seed": seed + 1, "verbose": -9, "maxfevals": budget}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            strategy = cma.CMAEvolutionStrategy(np.asarray(mean), spread, settings)
        size, heights = strategy.popsize, []
        while not strategy.stop():
            points = strategy.ask()
            strategy.tell(points, list(function(np.array(points))))
            heights.append(float(function(strategy.mean)))
        rows.append(np.pad(heights, (0, budget // size + 1 - len(heights)), constant_values=np.inf))
    return np.array(rows), size


def quality(quick: bool) -> list[dict]:
    runs, particles, steps = (10, 200, 250) if quick else (50, 200, 250)
    cases = [("grand canyon", tt.problems.GrandCanyon.noisy(), canyon, [8.0, 8.0], 0.5, 1.6, "isotropic", 250)]
    cases += [
        (
            f"Rastrigin, d = {d}",
            tt.problems.Rastrigin(jnp.zeros(d)),
            rastrigin,
            [2.0] * d,
            2.0,
            1.0,
            "anisotropic",
            1000,
        )
        for d in ((2,) if quick else (2, 5, 10, 20))
    ]
    rows = []
    for name, problem, function, mean, spread, sigma, noise, steps in cases:
        method = tt.optimize.ConsensusBased(particles, 100.0, 1.0, sigma, 0.01, noise, spread)
        start = jnp.asarray(mean)
        ours = with_tendsto(method, problem, start, steps, runs)
        theirs = with_cbx(function, mean, steps, runs, particles, noise, sigma, spread, 100.0)
        evolved, size = with_cma(function, mean, spread, particles * steps, runs)
        rows += [
            summary(name, "tendsto", ours, particles),
            summary(name, "CBXpy", theirs, particles),
            summary(name, "CMA-ES", evolved, size),
        ]
    return rows


def main() -> None:
    chosen = options(__doc__)
    if not chosen.json:
        print(f"JAX {jax.__version__} on {jax.default_backend()}, cores: {len(os.sched_getaffinity(0))}")
    show("Time of a step, 64-bit floats", throughput(chosen.quick), as_json=chosen.json)
    show("Consensus (or mean) below 0.1 at equal budgets", quality(chosen.quick), as_json=chosen.json)


if __name__ == "__main__":
    main()
