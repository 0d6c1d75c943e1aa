"""`tendsto.run` beside the loops people write by hand: time as a ratio, cost of recording, peak memory.

    python -m benchmarks.run [--quick] [--json]

Every contender does the same work: stochastic gradient descent on least squares with batches of 8
rows drawn with replacement, the objective recorded 50 times. Contenders take turns in one process;
compilation is left out of the times and reported apart. A ratio above 1 means `tendsto.run` is faster.
"""

from __future__ import annotations

import functools
import json
import resource
import subprocess
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import tendsto as tt
from benchmarks.contest import options, ratios, seconds, spread, turns
from tendsto.iteration import Cost, Method, State, record_steps

BATCH, ROWS, STEP_SIZE, POINTS = 8, 200, 1e-3, 50
METHOD = tt.optimize.Optax(optax.sgd(STEP_SIZE))


def make_problem(d: int) -> tt.problems.Minibatch:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((ROWS, d)) / np.sqrt(d)
    return tt.problems.Minibatch(tt.problems.LeastSquares(features, features @ np.ones(d)), BATCH)


def with_tendsto(problem: tt.problems.Minibatch, steps: int, seeds: int, points: int = POINTS) -> float:
    d = problem.problem.features.shape[1]
    trace = tt.run(METHOD, problem, jnp.zeros(d), steps=steps, seeds=seeds, points=points, progress=False)
    return float(trace.final("objective").mean())


def with_numpy(problem: tt.problems.Minibatch, steps: int, seeds: int) -> float:
    features, targets = np.asarray(problem.problem.features), np.asarray(problem.problem.targets)
    record = set(record_steps(steps, POINTS).tolist())
    final = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x = np.zeros(features.shape[1])
        for t in range(1, steps + 1):
            rows = rng.integers(0, ROWS, BATCH)
            batch = features[rows]
            x = x - STEP_SIZE * ((batch @ x - targets[rows]) @ batch / BATCH)
            if t in record:
                value = 0.5 * np.mean((features @ x - targets) ** 2)
        final.append(value)
    return float(np.mean(final))


def with_jitted_steps(problem: tt.problems.Minibatch, steps: int, seeds: int) -> float:
    """A Python loop over a compiled step, vectorised over seeds."""
    step, measure = _jitted(problem)
    x = jnp.zeros((seeds, problem.problem.features.shape[1]))
    keys = jax.random.split(jax.random.key(0), seeds)
    record = set(record_steps(steps, POINTS).tolist())
    for t in range(1, steps + 1):
        x = step(problem, x, keys, t)
        if t in record:
            value = measure(problem, x)
    return float(jnp.mean(value))


def with_optax_loop(problem: tt.problems.Minibatch, steps: int, seeds: int) -> float:
    """The training loop of optax's documentation, vectorised over seeds."""
    optimiser, train_step, measure = _optax()
    x = jnp.zeros((seeds, problem.problem.features.shape[1]))
    memory = jax.vmap(optimiser.init)(x)
    keys = jax.random.split(jax.random.key(0), seeds)
    record = set(record_steps(steps, POINTS).tolist())
    for t in range(1, steps + 1):
        x, memory = train_step(problem, x, memory, keys, t)
        if t in record:
            value = measure(problem, x)
    return float(jnp.mean(value))


def _once(build: Callable) -> Callable:
    kept: list = []

    def get(*arguments: object) -> object:
        if not kept:
            kept.append(build(*arguments))
        return kept[0]

    return get


@_once
def _jitted(_: object) -> tuple[Callable, Callable]:
    def step(problem, x, key, t):
        return x - STEP_SIZE * problem.stochastic_gradient(x, jax.random.fold_in(key, t))

    return (
        jax.jit(jax.vmap(step, in_axes=(None, 0, 0, None))),
        jax.jit(jax.vmap(lambda problem, x: problem.objective(x), in_axes=(None, 0))),
    )


@_once
def _optax() -> tuple[optax.GradientTransformation, Callable, Callable]:
    optimiser = optax.sgd(STEP_SIZE)

    def train_step(problem, x, memory, key, t):
        gradient = problem.stochastic_gradient(x, jax.random.fold_in(key, t))
        update, memory = optimiser.update(gradient, memory, x)
        return optax.apply_updates(x, update), memory

    return (
        optimiser,
        jax.jit(jax.vmap(train_step, in_axes=(None, 0, 0, 0, None))),
        jax.jit(jax.vmap(lambda problem, x: problem.objective(x), in_axes=(None, 0))),
    )


PEERS = {"NumPy loop": with_numpy, "loop over jitted steps": with_jitted_steps, "optax training loop": with_optax_loop}


def compare(d: int, seeds: int, steps: int, rounds: int) -> list[dict]:
    """Median, smallest and largest ratio of each peer's time to ours over `rounds` rounds of turns."""
    problem = make_problem(d)
    compiling = seconds(with_tendsto, problem, steps, seeds)
    for peer in PEERS.values():
        peer(problem, 2, seeds)
    contenders = {"tendsto": with_tendsto} | PEERS
    times = turns({name: functools.partial(call, problem, steps, seeds) for name, call in contenders.items()}, rounds)
    return [
        {
            "d": d,
            "seeds": seeds,
            "steps": steps,
            "peer": name,
            "tendsto_seconds": float(np.median(times["tendsto"])),
            "first_call_seconds": compiling,
            "ratio": ratio,
        }
        for name, ratio in ratios(times).items()
    ]


def recording(d: int, seeds: int, steps: int, rounds: int) -> dict:
    """The extra time that 50 recorded points take, as a fraction of a run that records only its two ends."""
    problem = make_problem(d)
    times = turns(
        {str(points): functools.partial(with_tendsto, problem, steps, seeds, points) for points in (1, POINTS)}, rounds
    )
    extra = times[str(POINTS)] / times["1"] - 1
    return {
        "d": d,
        "seeds": seeds,
        "steps": steps,
        "extra": float(np.median(extra)),
        "seconds": float(np.median(times[str(POINTS)])),
    }


class ClientsState(State):
    """The server's iterate and one correction a client."""

    corrections: jax.Array


class ClientGradients(Method[jax.Array, ClientsState]):
    """Each of the clients takes a gradient on its own rows and sends what has changed since the last round."""

    def init(self, problem, x0, key):
        return ClientsState(x0, Cost(), jnp.zeros((problem.shape[0], x0.size)))

    def step(self, problem, state, key):
        gradients = jax.vmap(lambda rows: rows.T @ (rows @ state.x - 1.0) / rows.shape[0])(problem)
        change = gradients - state.corrections
        kept = jnp.where(jnp.abs(change) >= jnp.sort(jnp.abs(change), axis=1)[:, -3:-2], change, 0.0)
        corrections = state.corrections + kept
        cost = state.cost + Cost(gradients=problem.shape[0], rounds=1)
        return ClientsState(state.x - 0.01 * corrections.mean(axis=0), cost, corrections)


def many_rounds() -> dict:
    """Seconds for 10 seeds x 5,000 rounds of 20 clients in dimension 30, without and with compilation."""
    clients = jax.random.normal(jax.random.key(0), (20, 50, 30))

    def start(key):
        return jax.random.normal(key, (30,))

    def go() -> object:
        record = {"norm": _norm}
        return tt.run(ClientGradients(), clients, start, steps=5_000, seeds=10, record=record, progress=False)

    first = seconds(go)
    return {"clients": 20, "d": 30, "seeds": 10, "rounds": 5_000, "seconds": seconds(go), "first_call_seconds": first}


def _norm(_, state):
    return jnp.linalg.norm(state.x)


def peak_memory(steps: int) -> dict:
    """Peak resident memory in MiB of a fresh process that runs `steps` steps with 10 seeds in dimension 100."""
    code = f"from benchmarks.run import *; with_tendsto(make_problem(100), {steps}, 10); print(peak())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return {"steps": steps, "peak_mib": float(done.stdout)}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    chosen = options(__doc__)
    rounds = 3 if chosen.quick else 5
    sizes = (
        [(20, 1), (20, 100), (1_000, 10)]
        if chosen.quick
        else [(d, seeds) for d in (20, 100, 1_000, 10_000) for seeds in (1, 10, 100)]
    )
    comparisons = [
        row for d, seeds in sizes for row in compare(d, seeds, max(100, 2_000_000 // max(d * seeds, 1_000)), rounds)
    ]
    recordings = [recording(30, 20, 5_000, rounds), recording(1_000, 10, 5_000, rounds)]
    federated = many_rounds()
    memory = [peak_memory(steps) for steps in (1_000, 10_000, 100_000, 1_000_000)]

    if chosen.json:
        for row in [*comparisons, *recordings, federated, *memory]:
            print(json.dumps(row))
        return
    console = Console()
    table = Table(title="time of the peer / time of tendsto.run: median [smallest, largest]", padding=(0, 0))
    for column in ("d", "seeds", "steps", "tendsto.run", "first call", *PEERS):
        table.add_column(column, justify="right")
    for start in range(0, len(comparisons), len(PEERS)):
        group = comparisons[start : start + len(PEERS)]
        first = group[0]
        table.add_row(
            *(f"{first[name]:,}" for name in ("d", "seeds", "steps")),
            f"{first['tendsto_seconds']:.3f} s",
            f"{first['first_call_seconds']:.2f} s",
            *(spread(row["ratio"]) for row in group),
        )
    console.print(table)
    for row in recordings:
        console.print(
            f"50 recorded points: {row['extra']:+.1%} of {row['seconds']:.2f} s "
            f"(d={row['d']}, {row['seeds']} seeds, {row['steps']:,} steps)"
        )
    console.print(
        f"20 clients, d=30, 10 seeds x 5,000 rounds: {federated['seconds']:.2f} s "
        f"({federated['first_call_seconds']:.2f} s with compilation)"
    )
    for row in memory:
        console.print(f"peak memory at {row['steps']:>9,} steps: {row['peak_mib']:.0f} MiB")


if __name__ == "__main__":
    main()
