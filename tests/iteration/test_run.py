"""`run`: what is recorded, and that it does not depend on how the run was cut up."""

import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tendsto as tt
from tendsto.iteration import Cost, Method, Scalar, State, hyperparameter, record_steps


class Contraction(Method[None, State]):
    """x_{t+1} = factor x_t, of which everything is known in closed form."""

    factor: Scalar = hyperparameter()

    def init(self, problem, x0, key):
        return State(x0, Cost())

    def step(self, problem, state, key):
        return State(self.factor * state.x, state.cost + Cost(gradients=2))


class Walk(Method[None, State]):
    """A Gaussian random walk: the sum of the noise that the step keys give."""

    def init(self, problem, x0, key):
        return State(x0 + 0.0 * jax.random.normal(key, x0.shape), Cost())

    def step(self, problem, state, key):
        return State(state.x + jax.random.normal(key, state.x.shape), state.cost)


def norm(problem, state):
    return jnp.linalg.norm(state.x)


def iterate(problem, state):
    return state.x


def test_records_the_closed_form_at_the_recorded_steps():
    trace = tt.run(Contraction(0.9), None, jnp.ones(4), steps=200, record={"norm": norm}, points=20, spacing="linear")
    steps = trace["step"].values
    assert steps[0] == 0
    assert steps[-1] == 200
    np.testing.assert_allclose(trace["norm"].values[0], 2.0 * 0.9**steps, rtol=1e-10)
    np.testing.assert_array_equal(trace["gradients"].values[0], 2 * steps)
    assert trace.spent == ("gradients",)
    rate = trace.rate("norm", kind="linear")
    assert rate.value == pytest.approx(0.9, rel=1e-9)
    np.testing.assert_allclose(trace.x[0], 0.9**200, rtol=1e-10)


def test_array_metrics_keep_their_dimensions():
    trace = tt.run(Contraction(0.5), None, jnp.ones(3), steps=2, seeds=4, record={"x": iterate}, points=[1])
    assert trace["x"].dims == ("seed", "step", "x_0")
    np.testing.assert_array_equal(trace["x"].values[2], [[1] * 3, [0.5] * 3, [0.25] * 3])


def test_grid_is_the_product_of_its_values_and_a_dimension_each():
    grid = {"factor": [0.5, 0.9, 2.0]}
    trace = tt.run(Contraction(1.0), None, jnp.ones(1), steps=30, seeds=2, record={"norm": norm}, grid=grid)
    assert trace["norm"].dims == ("factor", "seed", "step")
    for factor in grid["factor"]:
        np.testing.assert_allclose(trace.sel(factor=factor).final("norm"), factor**30, rtol=1e-12)


def test_seed_keys_do_not_depend_on_the_company():
    both = tt.run(Walk(), None, jnp.zeros(2), steps=50, seeds=[3, 7], record={"x": iterate})
    alone = tt.run(Walk(), None, jnp.zeros(2), steps=50, seeds=[7], record={"x": iterate})
    np.testing.assert_array_equal(both["x"].sel(seed=7), alone["x"].sel(seed=7))
    assert not np.array_equal(both["x"].sel(seed=3), both["x"].sel(seed=7))


def test_noise_has_the_moments_of_independent_steps():
    trace = tt.run(Walk(), None, jnp.zeros(4), steps=100, seeds=1000, record={"x": iterate}, points=[1])
    first, last = trace["x"].values[:, 1], trace["x"].values[:, -1]
    # 4,000 draws: mean 0 and variance 1 after a step, variance 100 after a hundred, both within 5 standard errors.
    assert abs(first.mean()) < 5 / np.sqrt(4000)
    assert abs(last.var() / 100 - 1) < 5 * np.sqrt(2 / 4000)
    assert abs(np.corrcoef(first.ravel(), (last - first).ravel())[0, 1]) < 5 / np.sqrt(4000)


def test_a_random_start_is_drawn_for_each_seed():
    trace = tt.run(
        Contraction(1.0), None, lambda key: jax.random.normal(key, (2,)), steps=0, seeds=3, record={"x": iterate}
    )
    assert len(np.unique(trace["x"].values)) == 6


def test_divergence_is_recorded_not_raised():
    trace = tt.run(
        Contraction(1.0), None, jnp.ones(1), steps=5, seeds=2, record={"norm": norm}, grid={"factor": [0.5, 1e200]}
    )
    assert not trace.diverged.sel(factor=0.5).any()
    assert trace.diverged.sel(factor=1e200).all()


def test_pytrees_are_iterates_too():
    start = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
    problem = tt.problems.Objective(lambda x: jnp.sum(x["w"] ** 2) + jnp.sum((x["b"] - 1) ** 2))
    trace = tt.run(tt.optimize.Optax(optax.sgd(0.25)), problem, start, steps=60)
    np.testing.assert_allclose(trace.x["b"], 1.0, rtol=1e-12)
    assert trace.final("objective") < 1e-12


def test_single_precision_stays_single():
    with jax.enable_x64(False):
        start = jnp.ones(3, jnp.float32)
        trace = tt.run(Contraction(0.5), None, start, steps=3, record={"norm": norm})
        assert trace.x.dtype == jnp.float32
    mixed = tt.run(Contraction(0.5), None, jnp.ones(3, jnp.float32), steps=3, record={"norm": norm})
    assert mixed.x.dtype == jnp.float32


@pytest.mark.parametrize("spacing", ["log", "linear"])
@pytest.mark.parametrize("steps", [0, 1, 2, 49, 1000])
def test_record_steps_start_at_zero_and_end_at_the_end(spacing, steps):
    chosen = record_steps(steps, 50, spacing)
    assert chosen[0] == 0
    assert chosen[-1] == steps
    assert len(chosen) <= 52
    assert (np.diff(chosen) > 0).all()


SCRIPT = """
import sys, jax, jax.numpy as jnp, optax
jax.config.update("jax_enable_x64", True)
import tendsto as tt
data = tt.problems.dataset("diabetes")
problem = tt.problems.Minibatch(tt.problems.LeastSquares(data.features, data.targets), 4)
trace = tt.run(tt.optimize.Optax(optax.adam(1e-3)), problem, jnp.zeros(10), steps=int(sys.argv[2]), seeds=8,
               record="objective", checkpoint=sys.argv[1], checkpoint_seconds=0.05)
trace.to_parquet(sys.argv[3])
"""


def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    def command(name):
        files = str(tmp_path / f"{name}.eqx"), "600000", str(tmp_path / f"{name}.parquet")
        return [sys.executable, "-c", SCRIPT, *files]

    subprocess.run(command("whole"), check=True)

    process = subprocess.Popen(command("killed"))
    first_save = tmp_path / "killed.eqx"
    while not first_save.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (tmp_path / "killed.parquet").exists()

    subprocess.run(command("killed"), check=True)
    assert (tmp_path / "killed.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_finished_run_returns_at_once_and_a_foreign_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run.eqx"
    arguments = {"steps": 500, "record": {"norm": norm}, "checkpoint": path}
    first = tt.run(Contraction(0.99), None, jnp.ones(2), **arguments)
    again = tt.run(Contraction(0.99), None, jnp.ones(2), **arguments)
    assert first.dataset.identical(again.dataset)
    with pytest.raises(ValueError, match="belongs to another run"):
        tt.run(Contraction(0.98), None, jnp.ones(2), **arguments)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        tt.run(Contraction(0.99), None, jnp.ones(2), **arguments)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        tt.run(Contraction(0.99), None, jnp.ones(2), **arguments)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"steps": -1}, ValueError, "steps: must lie in"),
        ({"steps": 2.5}, TypeError, "steps"),
        ({"seeds": 0}, ValueError, "seeds: must lie in"),
        ({"seeds": []}, ValueError, "seeds: must not be empty"),
        ({"x0": [1.0, np.nan]}, ValueError, "x0: must be finite"),
        ({"x0": []}, ValueError, "x0: must not be empty"),
        ({"x0": "one"}, TypeError, "x0"),
        ({"record": "gap"}, ValueError, "record: NoneType has no measure 'gap'"),
        ({"record": {"norm": 3}}, TypeError, "record"),
        ({"record": {"step": norm}}, ValueError, "record: 'step' is a name of the trace"),
        ({"record": {"gradients": norm}}, ValueError, "record: 'gradients' is a name of the trace"),
        ({"points": 0}, ValueError, "points: must lie in"),
        ({"points": [11]}, ValueError, "points: must be integers in"),
        ({"spacing": "even"}, TypeError, "spacing"),
        ({"grid": {"rate": [1.0]}}, ValueError, "grid: Contraction has no hyper-parameter 'rate'"),
        ({"grid": {"factor": []}}, ValueError, "grid: 'factor' must have at least one value"),
        ({"key": -1}, ValueError, "key: must lie in"),
    ],
)
def test_bad_input_is_named(change, error, message):
    arguments = {"x0": [1.0, 2.0], "steps": 10, "record": {"norm": norm}} | change
    with pytest.raises(error, match=message):
        tt.run(Contraction(0.5), None, **arguments)
