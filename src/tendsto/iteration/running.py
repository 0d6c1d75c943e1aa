"""Run a method on a problem for a fixed number of steps, over many seeds and hyper-parameters at once."""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Int, Key, PyTree

from tendsto import validation
from tendsto.iteration import checkpoint as checkpoints
from tendsto.iteration.method import Method, State
from tendsto.iteration.pace import progress_bar, slices
from tendsto.iteration.trace import COSTS, Trace

Metric = Callable[[Any, Any], Array]
# Measures that compare with the solution, which is found once, before the run.
_SOLUTION_MEASURES = {"gap", "distance"}
Record = str | Sequence[str] | Mapping[str, Metric]


def run(
    method: Method[Any, Any],
    problem: Any,
    x0: PyTree[ArrayLike] | Callable[[Key[Array, ""]], PyTree[Array]] | None = None,
    *,
    steps: int,
    seeds: int | Sequence[int] = 1,
    key: int | Key[Array, ""] = 0,
    record: Record = "objective",
    points: int | Sequence[int] = 50,
    spacing: Literal["log", "linear"] = "log",
    grid: Mapping[str, Sequence[Any]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 10.0,
    progress: bool | None = None,
) -> Trace:
    """Run `method` on `problem` for `steps` steps and record metrics on the way.

    All seeds, and all points of a grid of hyper-parameters, advance together in one compiled loop;
    metrics are taken inside it, so memory does not grow with `steps`. Divergence is a recorded
    outcome (`Trace.finite`), never an exception.

    **Arguments**

    - `method`: the method with its hyper-parameters.
    - `problem`: the problem, with the oracles that the method calls.
    - `x0`: the starting point (any pytree of arrays), a function from a random key to one (each seed
      draws its own), or `None` for methods that choose their own start.
    - `steps`: how many steps to take.
    - `seeds`: how many independent runs, or the list of their numbers; seed $i$ gives the same run
      whatever the others are.
    - `key`: the root of all randomness, an integer or a JAX key.
    - `record`: what to record: names of the problem's measures (`"objective"`, `["gap", "stationarity"]`,
      methods of `problem` that take `x`), or a mapping from names to functions `(problem, state) -> array`.
    - `points`: how many steps to record at, or which; the first (0) and last are always included.
    - `spacing`: whether those steps are spaced logarithmically or linearly.
    - `grid`: hyper-parameters to vary and their values, `{"step_size": [0.1, 1.0]}`; dots reach nested
      ones. The product of all is run, and each becomes a dimension of the trace.
    - `checkpoint`: a file to save progress in. A run that was killed resumes from it to the same bits; a
      run that was finished returns at once.
    - `checkpoint_seconds`: how often to save.
    - `progress`: show a progress bar; by default on a terminal, once the run has taken two seconds.

    **Returns** a `Trace`.

    **Raises** `ValueError` or `TypeError` naming the argument that is wrong. `KeyboardInterrupt` passes
    through after progress has been saved.
    """
    validation.integer("steps", steps, low=0)
    numbers = _seed_numbers(seeds)
    schedule = record_steps(steps, points, spacing)
    metrics = _metrics(problem, record)
    given = problem
    if _SOLUTION_MEASURES.intersection(metric.name for _, metric in metrics if isinstance(metric, _Measure)):
        problem = problem.solved()
    root = root_key(key)
    start = starting_point(x0)
    methods, axes = _stack(method, grid or {})
    batch = _Batch(methods, problem, metrics, jax.vmap(lambda number: run_key(root, number))(numbers), bool(axes))

    carry = _begin(batch, start, jnp.asarray(schedule))
    identity, done = "", 0
    if checkpoint is not None:
        identity = checkpoints.fingerprint(methods, problem, metrics, start, root, numbers, schedule)
        done, carry = checkpoints.load(checkpoint, identity, carry) or (0, carry)

    saved, saved_at = done, time.monotonic()
    with progress_bar(type(method).__name__, steps, progress) as report:
        try:
            for stop in slices(done, steps):
                carry = jax.block_until_ready(_advance(batch, carry, jnp.asarray(stop)))
                done = stop
                report(done)
                if checkpoint is not None and time.monotonic() - saved_at > checkpoint_seconds:
                    checkpoints.save(checkpoint, identity, done, carry)
                    saved, saved_at = done, time.monotonic()
        finally:
            if checkpoint is not None and done > saved:
                checkpoints.save(checkpoint, identity, done, carry)

    return Trace.from_run(
        {name: np.asarray(values) for name, values in carry.recorded.items()},
        steps=schedule,
        seeds=np.asarray(numbers),
        grid=axes,
        state=carry.state if axes else jax.tree.map(lambda leaf: leaf[0], carry.state),
        label=type(method).__name__,
        problem=given,
        measures=dict(metrics),
    )


def record_steps(
    steps: int, points: int | Sequence[int], spacing: Literal["log", "linear"] = "log"
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The step numbers at which a run of `steps` steps records: at most `points` + 2 of them, from 0 to `steps`."""
    if spacing not in ("log", "linear"):
        raise ValueError(f"spacing: must be 'log' or 'linear', got {spacing!r}")
    if isinstance(points, (int, np.integer)):
        validation.integer("points", points, low=1)
        inner = np.geomspace(1, steps, points) if spacing == "log" and steps else np.linspace(0, steps, points + 1)
        chosen = np.rint(inner).astype(np.int64)
    else:
        chosen = np.asarray(points)
        if chosen.size and (not np.issubdtype(chosen.dtype, np.integer) or chosen.min() < 0 or chosen.max() > steps):
            raise ValueError(f"points: must be integers in [0, {steps}], got {points}")
    return np.unique(np.concatenate([[0], chosen, [steps]])).astype(np.int64)


class _Batch(eqx.Module):
    """What stays the same during a run. The grid is the outer batch dimension, seeds the inner one."""

    methods: Method[Any, Any]
    problem: Any
    metrics: tuple[tuple[str, Metric], ...] = eqx.field(static=True)
    keys: Key[Array, " seeds"]
    stacked: bool = eqx.field(static=True)

    def map(self, function: Callable[..., Any], *per_run: Any) -> Any:
        """Apply `function(method, key, *per_run)` to every run of the batch."""
        over_seeds = jax.vmap(function, in_axes=(None, 0, *(0 for _ in per_run)))
        over_grid = jax.vmap(over_seeds, in_axes=(0 if self.stacked else None, None, *(0 for _ in per_run)))
        if self.stacked or per_run:
            return over_grid(self.methods, self.keys, *per_run)
        return jax.tree.map(lambda leaf: leaf[None], over_seeds(self.methods, self.keys))

    def measure(self, state: State) -> dict[str, Array]:
        """Every metric of every run, whether the iterate is finite, and what was spent."""

        def one(method: Any, key: Any, state: State) -> dict[str, Array]:
            del method, key
            values = {name: jnp.asarray(metric(self.problem, state)) for name, metric in self.metrics}
            return values | {"finite": all_finite(state.x)} | dict(vars(state.cost))

        measured: dict[str, Array] = self.map(one, state)
        return measured


class _Carry(eqx.Module):
    state: State
    recorded: dict[str, Array]
    step: Int[Array, ""]
    slot: Int[Array, ""]
    schedule: Int[Array, " slots"]


@eqx.filter_jit
def _begin(batch: _Batch, x0: Any, schedule: Int[Array, " slots"]) -> _Carry:
    def one(method: Method[Any, Any], key: Key[Array, ""]) -> State:
        first: State = method.init(batch.problem, x0(start_key(key)) if callable(x0) else x0, init_key(key))
        return first

    state = batch.map(one)
    # Slot 0 is step 0; the others are filled by the loop.
    recorded = {
        name: jnp.zeros((schedule.size, *value.shape), value.dtype).at[0].set(value)
        for name, value in batch.measure(state).items()
    }
    # Of the loop's own types: a weakly typed zero would have the loop compiled a second time after its first slice.
    return _Carry(state, recorded, jnp.zeros((), schedule.dtype), jnp.ones((), schedule.dtype), schedule)


@eqx.filter_jit(donate="all-except-first")
def _advance(batch: _Batch, carry: _Carry, stop: Int[Array, ""]) -> _Carry:
    """Take steps up to number `stop`, recording wherever the schedule says so."""

    def one_step(number: Int[Array, ""], state: State) -> State:
        def one(method: Method[Any, Any], key: Key[Array, ""], state: State) -> State:
            after: State = method.step(batch.problem, state, step_key(key, number))
            return after

        advanced: State = batch.map(one, state)
        return advanced

    def segment(carry: _Carry) -> _Carry:
        target = carry.schedule[carry.slot]
        end = jnp.minimum(target, stop)
        state = jax.lax.fori_loop(carry.step, end, one_step, carry.state)

        def write(recorded: dict[str, Array]) -> dict[str, Array]:
            return {name: recorded[name].at[carry.slot].set(value) for name, value in batch.measure(state).items()}

        arrived = end == target
        recorded = jax.lax.cond(arrived, write, lambda recorded: recorded, carry.recorded)
        return _Carry(state, recorded, end, carry.slot + arrived, carry.schedule)

    return jax.lax.while_loop(lambda carry: carry.step < stop, segment, carry)


def starting_point(x0: Any) -> Any:
    """`x0` with arrays for leaves; a list of numbers is a vector. Functions of a key and `None` pass through."""
    if x0 is None or callable(x0):
        return x0
    if isinstance(x0, (list, tuple)) and all(isinstance(leaf, (int, float)) for leaf in jax.tree.leaves(x0)):
        return validation.finite_array("x0", x0)
    return jax.tree.map(lambda leaf: validation.finite_array("x0", leaf), x0)


def root_key(key: int | Key[Array, ""]) -> Key[Array, ""]:
    """The root of all randomness from an integer or a key."""
    if isinstance(key, (int, np.integer)):
        validation.integer("key", key, low=0)
        return jax.random.key(int(key))
    return key


def run_key(root: Key[Array, ""], seed: int | Int[Array, ""]) -> Key[Array, ""]:
    """The key of the run with number `seed`."""
    return jax.random.fold_in(root, seed)


# One run's key is folded with 0 for its start, 1 for the method's first state, and t + 2 for step t.
def start_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """The key that a random starting point is drawn from."""
    return jax.random.fold_in(key, 0)


def init_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """The key that `Method.init` gets."""
    return jax.random.fold_in(key, 1)


def step_key(key: Key[Array, ""], number: int | Int[Array, ""]) -> Key[Array, ""]:
    """The key that `Method.step` gets in step `number`, counted from 0."""
    return jax.random.fold_in(key, number + 2)


def all_finite(x: PyTree[Array]) -> Bool[Array, ""]:
    """Whether every entry of the pytree `x` is finite."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(x)]).all()


@dataclasses.dataclass(frozen=True)
class _Measure:
    """A measure of the problem by name; equal names compile once."""

    name: str

    def __call__(self, problem: Any, state: State) -> Array:
        value: Array = getattr(problem, self.name)(state.x)
        return value


def _metrics(problem: Any, record: Record) -> tuple[tuple[str, Metric], ...]:
    names = [record] if isinstance(record, str) else list(record)
    if reserved := sorted({"finite", "seed", "step", *COSTS}.intersection(names)):
        raise ValueError(f"record: {reserved[0]!r} is a name of the trace itself; choose another")
    if isinstance(record, Mapping):
        for name, metric in record.items():
            if not callable(metric):
                raise TypeError(f"record: {name!r} must map to a function (problem, state) -> array, got {metric!r}")
        return tuple(record.items())
    for name in names:
        if not callable(getattr(problem, name, None)):
            raise ValueError(f"record: {type(problem).__name__} has no measure {name!r}")
    return tuple((name, _Measure(name)) for name in names)


def _seed_numbers(seeds: int | Sequence[int]) -> Int[Array, " seeds"]:
    if isinstance(seeds, (int, np.integer)):
        validation.integer("seeds", seeds, low=1)
        return jnp.arange(seeds)
    if len(seeds) == 0:
        raise ValueError("seeds: must not be empty")
    for seed in seeds:
        validation.integer("seeds", seed, low=0)
    return jnp.asarray(seeds)


def _stack(
    method: Method[Any, Any], grid: Mapping[str, Sequence[Any]]
) -> tuple[Method[Any, Any], dict[str, np.ndarray]]:
    """One method whose leaves carry every combination of the grid's values along a first dimension."""
    if not grid:
        return method, {}
    for name, values in grid.items():
        if len(values) == 0:
            raise ValueError(f"grid: {name!r} must have at least one value")
    combinations = [
        _replace(method, dict(zip(grid, values, strict=True))) for values in itertools.product(*grid.values())
    ]
    dynamic, static = zip(*(eqx.partition(each, eqx.is_array) for each in combinations), strict=True)
    structures = [jax.tree.structure(each) for each in dynamic]
    if not all(eqx.tree_equal(static[0], other) for other in static) or len(set(structures)) > 1:
        raise ValueError(f"grid: {', '.join(grid)}: only numeric hyper-parameters can vary within one run")
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *dynamic)
    return eqx.combine(stacked, static[0]), {name: np.asarray(values) for name, values in grid.items()}


def _replace(method: Any, values: Mapping[str, Any]) -> Any:
    for path, value in values.items():
        head, _, rest = path.partition(".")
        if head not in {field.name for field in dataclasses.fields(method)}:
            raise ValueError(f"grid: {type(method).__name__} has no hyper-parameter {head!r}")
        inner = _replace(getattr(method, head), {rest: value}) if rest else value
        method = dataclasses.replace(method, **{head: inner})
    return method
