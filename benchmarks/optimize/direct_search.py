"""Evaluations until a target value is reached: direct search and the hybrid beside NOMAD, COBYQA, CMA-ES and L-BFGS-B.

    python -m benchmarks.optimize.direct_search [--quick] [--json]

Classical functions are smooth, nonsmooth and discontinuous; the problem through a network is that of the paper's claim
on random networks (40 inputs). Every run has the same budget; gradients count as evaluations, and L-BFGS-B pays two
for each value with its gradient. The table gives the median over seeds, with smallest and largest, of the
evaluations to the target; `inf` means that the budget did not reach it. The last column is the time of a run.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import cma
import cobyqa
import jax
import jax.numpy as jnp
import numpy as np
import PyNomad
from scipy.optimize import Bounds, minimize, rosen

from benchmarks.contest import options, show
from tendsto.optimize import covering_direct_search, hybrid_direct_search
from tendsto.problems import NetworkProblem

LOW, HIGH = -3.0, 3.0


class Watched:
    """A function that counts its evaluations up to a target, and stops there."""

    def __init__(self, fun: Callable, target: float, budget: int) -> None:
        self.fun, self.target, self.budget = fun, target, budget
        self.calls, self.best, self.reached = 0, np.inf, np.inf

    def __call__(self, x: np.ndarray) -> float:
        self.calls += 1
        value = float(self.fun(np.asarray(x, dtype=float)))
        if value < self.best:
            self.best = value
            if value <= self.target and self.reached == np.inf:
                self.reached = self.calls
        return value

    @property
    def done(self) -> bool:
        return self.calls >= self.budget or self.reached < np.inf


def run_tendsto(watched: Watched, start: np.ndarray, seed: int) -> None:
    def stop(_: np.ndarray) -> None:
        if watched.done:
            raise StopIteration

    chosen = {"maxfev": watched.budget, "rng": seed, "covering_points": watched.budget}
    bounds = Bounds(LOW, HIGH)
    minimize(watched, start, method=covering_direct_search, bounds=bounds, callback=stop, options=chosen)


def run_nomad(watched: Watched, start: np.ndarray, seed: int) -> None:
    def black_box(point: object) -> int:
        x = [point.get_coord(i) for i in range(point.size())]
        point.setBBO(repr(watched(x)).encode())
        return 1

    size = len(start)
    parameters = [
        f"DIMENSION {size}",
        "BB_OUTPUT_TYPE OBJ",
        f"MAX_BB_EVAL {watched.budget}",
        "DISPLAY_DEGREE 0",
        "DISPLAY_ALL_EVAL false",
        f"SEED {seed + 1}",
    ]
    PyNomad.optimize(black_box, start.tolist(), [LOW] * size, [HIGH] * size, parameters)


def run_cobyqa(watched: Watched, start: np.ndarray, _: int) -> None:
    limits = {"maxfev": watched.budget, "target": watched.target, "radius_init": 1.0}
    cobyqa.minimize(watched, start, bounds=[(LOW, HIGH)] * len(start), options=limits)


def run_cma(watched: Watched, start: np.ndarray, seed: int) -> None:
    chosen = {"seed": seed + 1, "verbose": -9, "bounds": [LOW, HIGH], "maxfevals": watched.budget}
    strategy = cma.CMAEvolutionStrategy(start, 1.0, chosen)
    while not strategy.stop() and not watched.done:
        points = strategy.ask()
        strategy.tell(points, [watched(point) for point in points])


SEARCHES = {"tendsto cDSM": run_tendsto, "NOMAD": run_nomad, "COBYQA": run_cobyqa, "CMA-ES": run_cma}


def nonsmooth(x: np.ndarray) -> float:
    return float(np.abs(x - 0.5).sum() + np.abs(np.diff(x)).max())


def steps(x: np.ndarray) -> float:
    """Discontinuous everywhere that matters: plateaus of width 0.1 under a bowl."""
    return float(np.floor(10.0 * np.abs(x - 0.37)).sum() + 0.01 * np.sum((x - 0.37) ** 2))


def hole(x: np.ndarray) -> float:
    """A bowl whose minimiser is no local solution: a ball nearby is lower."""
    centre = np.zeros_like(x)
    centre[0] = 0.42
    return -1.0 if np.linalg.norm(x - centre) <= 0.08 else float(x @ x)


FUNCTIONS = {
    "quadratic, condition 100": (lambda x: float(np.geomspace(1, 100, x.size) @ (x - 0.3) ** 2), 5, 1e-6),
    "Rosenbrock": (rosen, 5, 1e-4),
    "nonsmooth": (nonsmooth, 5, 1e-3),
    "steps": (steps, 5, 0.5),
    "bowl with a hole": (hole, 2, -0.5),
}


def network_problem(seed: int) -> NetworkProblem:
    keys = jax.random.split(jax.random.key(seed), 4)
    shapes = ((40, 64), (64, 64), (64, 10))
    weights = [1.5 * jax.random.normal(k, shape) / shape[0] ** 0.5 for k, shape in zip(keys, shapes, strict=False)]

    def network(x: jax.Array) -> jax.Array:
        return jnp.tanh(jnp.tanh(x @ weights[0]) @ weights[1]) @ weights[2]

    target = network(jax.random.uniform(keys[3], (40,), minval=-1.0, maxval=1.0))
    return NetworkProblem(lambda y: -jnp.sum((y - target) ** 2), network)


def row(name: str, contender: str, reached: list[float], seconds: list[float]) -> dict:
    spread = f"{np.median(reached):.0f} [{min(reached):.0f}, {max(reached):.0f}]"
    return {"problem": name, "contender": contender, "evaluations": spread, "seconds": float(np.median(seconds))}


def classical(seeds: int, budget: int) -> list[dict]:
    rows = []
    for name, (fun, size, target) in FUNCTIONS.items():
        reached: dict[str, list[float]] = {search: [] for search in SEARCHES}
        seconds: dict[str, list[float]] = {search: [] for search in SEARCHES}
        for seed in range(seeds):
            start = np.random.default_rng(seed).uniform(-2.0, -1.0, size)
            for search, run in SEARCHES.items():
                watched = Watched(fun, target, budget)
                began = time.perf_counter()
                run(watched, start, seed)
                seconds[search].append(time.perf_counter() - began)
                reached[search].append(watched.reached)
        rows += [row(name, search, reached[search], seconds[search]) for search in SEARCHES]
    return rows


def through_network(seeds: int, budget: int, target: float = 1e-2) -> list[dict]:
    reached: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(seeds):
        problem = network_problem(seed)
        start = np.zeros(40)
        problem.penalised.pullback(start, problem.direction((problem(start), problem.outputs)[1], start))  # compile

        def hybrid(problem: NetworkProblem = problem, start: np.ndarray = start, seed: int = seed) -> float:
            result = minimize(
                problem,
                start,
                method=hybrid_direct_search,
                bounds=Bounds(LOW, HIGH),
                options={"maxfev": budget, "rng": seed},
            )
            data = result.history.dataset.isel(seed=0)
            spent = np.asarray(data["evaluations"] + data["gradients"])
            under = np.asarray(data["objective"]) <= target
            return float(spent[under.argmax()]) if under.any() else np.inf

        def lbfgsb(problem: NetworkProblem = problem, start: np.ndarray = start) -> float:
            watched = Watched(problem, target, budget)

            def with_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
                value = watched(x)
                watched.calls += 1  # the gradient; a fused one would not evaluate the network again
                return value, -problem.penalised.pullback(x, problem.direction(problem.outputs, x))

            minimize(with_gradient, start, jac=True, method="L-BFGS-B", bounds=Bounds(LOW, HIGH))
            return watched.reached

        def free(
            run: Callable, problem: NetworkProblem = problem, start: np.ndarray = start, seed: int = seed
        ) -> float:
            watched = Watched(problem, target, budget)
            run(watched, start, seed)
            return watched.reached

        contenders = {"tendsto hybrid": hybrid, "L-BFGS-B (gradients)": lbfgsb}
        # NOMAD spends a quarter of a second on each evaluation in 40 dimensions: 50 s for the first 200.
        contenders |= {name: functools.partial(free, run) for name, run in SEARCHES.items() if name != "NOMAD"}
        for name, contender in contenders.items():
            began = time.perf_counter()
            reached.setdefault(name, []).append(contender())
            seconds.setdefault(name, []).append(time.perf_counter() - began)
    return [row(f"network, gap {target:g}", name, reached[name], seconds[name]) for name in reached]


def main() -> None:
    chosen = options(__doc__)
    seeds = 3 if chosen.quick else 7
    show("evaluations to target, 5,000 at most", classical(seeds, 5000), as_json=chosen.json)
    show("through a network, 4,000 at most", through_network(seeds, 4000), as_json=chosen.json)


if __name__ == "__main__":
    main()
