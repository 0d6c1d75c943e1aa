"""`Trace`: what a user reads, fits, draws and saves."""

import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import tendsto as tt
from tendsto.iteration import Cost, Method, Scalar, State, hyperparameter


class _Scaled(Method[tt.problems.Problem, State]):
    factor: Scalar = hyperparameter()

    def init(self, problem, x0, key):
        return State(x0, Cost())

    def step(self, problem, state, key):
        return State(state.x - self.factor * problem.gradient(state.x), state.cost)


DATA = tt.problems.dataset("breast_cancer")
PROBLEM = tt.problems.Minibatch(tt.problems.LogisticRegression(DATA.features, DATA.targets, l2=1e-2), 16)


@pytest.fixture(scope="module")
def trace():
    return tt.run(
        tt.optimize.Optax(optax.sgd(0.05)), PROBLEM, jnp.zeros(30), steps=400, seeds=3, record=["gap", "stationarity"]
    )


def test_table_and_parquet_hold_every_seed_and_step(trace, tmp_path):
    frame = trace.to_dataframe()
    assert len(frame) == 3 * trace["step"].size
    trace.to_parquet(tmp_path / "trace.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "trace.parquet"), frame)
    assert [path.name for path in tmp_path.iterdir()] == ["trace.parquet"]


def test_a_table_names_the_problem_and_the_measures_by_what_they_are(trace):
    def said(data=DATA.features, record="gap", x0=0.0, **options):
        problem = tt.problems.Minibatch(tt.problems.LogisticRegression(data, DATA.targets, l2=1e-2), 16)
        again = tt.run(_Scaled(0.1), problem, jnp.full(30, x0), steps=1, record=record, **options).to_dataframe()
        return again.attrs["problem"], again.attrs["measures"].get("gap")

    problem, gap = said()
    assert problem.startswith("Minibatch-")
    # Neither the method nor what else was recorded is part of it, and neither is the solution, which `gap` looks for.
    assert (problem, gap) == said(x0=1.0, record=["stationarity", "gap"], seeds=2)
    assert (trace.to_dataframe().attrs["problem"], trace.sel(seed=0).to_dataframe().attrs["problem"]) == (problem,) * 2
    assert said(record="objective") == (problem, None)
    nudged = np.array(DATA.features)
    nudged[0, 0] = np.nextafter(nudged[0, 0], np.inf)
    assert said(nudged)[0] != problem
    assert said(nudged)[1] == gap
    assert said(record={"gap": lambda problem, state: problem.objective(state.x)})[1] not in (gap, None)


def test_rate_against_cost_is_the_rate_against_steps_on_another_axis(trace):
    by_step = trace.rate("gap", window=(20, 400))
    by_gradient = trace.rate("gap", against="gradients", window=(20 * 16, 400 * 16))
    assert by_gradient.value == pytest.approx(by_step.value, rel=1e-9)
    assert by_step.low <= by_step.value <= by_step.high


def test_plot_draws_the_mean_and_names_its_axes(trace):
    axes = trace.plot("gap", against="gradients", label="SGD")
    (line,) = axes.get_lines()
    np.testing.assert_allclose(line.get_ydata(), trace["gap"].values.mean(axis=0))
    assert (axes.get_xlabel(), axes.get_ylabel(), line.get_label()) == ("gradients", "gap", "SGD")


def test_unknown_metric_names_those_there_are(trace):
    with pytest.raises(KeyError, match="was not recorded; there are"):
        trace["loss"]


def test_a_grid_must_be_narrowed_before_a_fit():
    grid = tt.run(
        _Scaled(1.0),
        PROBLEM,
        jnp.zeros(30),
        steps=50,
        record="objective",
        grid={"factor": [0.1, 0.2]},
    )
    with pytest.raises(ValueError, match="choose a value of factor"):
        grid.rate("objective")
    assert grid.sel(factor=0.2).rate("objective").value < 0


def test_arrays_from_an_ordinary_loop_make_a_trace():
    steps = np.arange(1, 50)
    trace = tt.Trace.from_arrays(steps, {"error": [1.0 / steps, 2.0 / steps], "gradients": [3 * steps, 3 * steps]})
    assert trace.rate("error", against="gradients").value == pytest.approx(-1.0)
    assert not trace.diverged.any()
    assert trace.spent == ("gradients",)
    with pytest.raises(ValueError, match="'error' has shape"):
        tt.Trace.from_arrays(steps, {"error": [1.0, 2.0]})
