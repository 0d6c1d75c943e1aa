import jax
import numpy as np
import pytest
from scipy.optimize import BFGS, LinearConstraint, NonlinearConstraint, minimize
from scipy.sparse import csr_array

import tendsto as tt
from tendsto.optimize import KaczmarzSketch, NewtonStatus, SketchedNewton, inexact_sqp, sketched_newton
from tendsto.problems import hock_schittkowski

METHODS = [sketched_newton, inexact_sqp]
ROOT = np.sqrt(3.0)


def fun(x):
    return np.log(1 + x[0] ** 2) - x[1]


def jac(x):
    return np.array([2 * x[0] / (1 + x[0] ** 2), -1.0])


def hess(x):
    return np.diag([2 * (1 - x[0] ** 2) / (1 + x[0] ** 2) ** 2, 0.0])


def con(x):
    return (1 + x[0] ** 2) ** 2 + x[1] ** 2


def con_jac(x):
    return np.array([[4 * x[0] * (1 + x[0] ** 2), 2 * x[1]]])


def con_hess(x, v):
    return v[0] * np.diag([4 + 12 * x[0] ** 2, 2.0])


FULL = {"jac": jac, "hess": hess}
SPHERE = NonlinearConstraint(con, 4.0, 4.0, con_jac, con_hess)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("given", "constraints"),
    [
        (FULL, SPHERE),
        (FULL, [SPHERE]),
        ({"jac": jac, "hessp": lambda x, p: hess(x) @ p}, SPHERE),
        (FULL, {"type": "eq", "fun": lambda x: con(x) - 4.0, "jac": con_jac}),
        (FULL, {"type": "eq", "fun": lambda x, level: con(x) - level, "args": (4.0,)}),
        ({"jac": jac}, NonlinearConstraint(con, 4, 4, jac=con_jac, hess=BFGS())),
        ({"jac": "2-point"}, NonlinearConstraint(con, 4, 4)),
        ({}, NonlinearConstraint(con, 4, 4, jac="3-point")),
        (FULL, NonlinearConstraint(con, 4, 4, lambda x: csr_array(con_jac(x)), lambda x, v: csr_array(con_hess(x, v)))),
    ],
)
def test_every_way_of_stating_a_problem(method, given, constraints):
    result = minimize(fun, [2.0, 2.0], method=method, constraints=constraints, **given)
    assert result.success, result.message
    np.testing.assert_allclose(result.x, [0.0, ROOT], atol=1e-5)
    np.testing.assert_allclose(result.fun, -ROOT, atol=1e-6)
    np.testing.assert_allclose(np.concatenate(result.v), [1 / (2 * ROOT)], atol=1e-5)
    np.testing.assert_allclose(result.jac, [0.0, -1.0], atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_results_follow_scipy(method):
    counts = dict.fromkeys(("fun", "jac", "hess"), 0)

    def counted(name, function):
        def call(x, shift):
            counts[name] += 1
            return function(x - shift)

        return call

    shifted = NonlinearConstraint(
        lambda x: con(x - 1.0), 4, 4, lambda x: con_jac(x - 1.0), lambda x, v: con_hess(x - 1.0, v)
    )
    linear = LinearConstraint(np.array([[1.0, 0.0]]), 1.0, 1.0)
    result = minimize(
        counted("fun", fun), [2.5, 3.0], (1.0,), method, counted("jac", jac), counted("hess", hess),
        constraints=[linear, shifted], tol=1e-8,
    )  # fmt: skip
    assert (result.success, result.status) == (True, 0)
    np.testing.assert_allclose(result.x, [1.0, 1.0 + ROOT], atol=1e-7)
    assert [each.shape for each in result.v] == [(1,), (1,)]
    assert (result.nfev, result.njev, result.nhev) == (counts["fun"], counts["jac"], counts["hess"])
    assert result.nhev == result.nit == len(result.history["step_size"]) == len(result.history["kkt"]) - 1
    assert result.kkt <= 1e-8
    assert result.history["kkt"][-1] == result.kkt
    assert result.constr_violation <= 1e-8


def test_the_method_and_its_scipy_form_take_the_same_steps():
    problem = hock_schittkowski(42)
    options = {"sketch": KaczmarzSketch(6), "maxiter": 3, "tol": 0.0}
    result = minimize(**problem.as_scipy(), method=sketched_newton, options=options)
    trace = tt.run(
        SketchedNewton(KaczmarzSketch(6)), problem, None, steps=3, points=[1, 2], record="stationarity", progress=False
    )
    np.testing.assert_allclose(result.x, trace.x.x[0], rtol=1e-9)
    np.testing.assert_allclose(result.history["kkt"], trace["stationarity"].values[0], rtol=1e-6, atol=1e-10)
    assert result.constraint_penalty == trace.state.merit.constraint_penalty[0]
    assert result.history["sketches"].sum() == result.sketches


def test_seeds_decide_the_sketches():
    runs = [
        minimize(fun, [2, 2], method=sketched_newton, constraints=SPHERE, options={"seed": seed, "maxiter": 2}, **FULL)
        for seed in (0, 0, 1)
    ]
    assert runs[0].sketches == runs[1].sketches
    np.testing.assert_array_equal(runs[0].x, runs[1].x)
    assert runs[0].sketches != runs[2].sketches


def test_it_works_in_64_bits_whatever_jax_is_set_to():
    with jax.enable_x64(False):
        result = minimize(fun, [2, 2], method=sketched_newton, constraints=SPHERE, tol=1e-9, **FULL)
        assert jax.numpy.ones(1).dtype == "float32"
    assert result.kkt < 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_callbacks_see_iterates_and_stop(method):
    seen = []

    def by_result(*, intermediate_result):
        seen.append(intermediate_result)

    def by_position(xk):
        seen.append(xk)
        raise StopIteration

    result = minimize(fun, [2, 2], method=method, constraints=SPHERE, callback=by_result, **FULL)
    assert len(seen) == result.nit
    np.testing.assert_array_equal(seen[-1].x, result.x)
    stopped = minimize(fun, [2, 2], method=method, constraints=SPHERE, callback=by_position, **FULL)
    assert (stopped.status, stopped.success, stopped.nit) == (99, False, 1)
    np.testing.assert_array_equal(seen[-1], stopped.x)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"constraints": NonlinearConstraint(con, 0, 4)}, ValueError, "only equalities are supported"),
        ({"constraints": LinearConstraint(np.eye(2), 0, [0, 1])}, ValueError, "only equalities are supported"),
        ({"constraints": {"type": "ineq", "fun": con}}, ValueError, "only equalities are supported"),
        ({"constraints": [SPHERE], "bounds": [(0, None), (None, None)]}, ValueError, "bounds: only equality"),
        ({"constraints": ()}, ValueError, "at least one equality"),
        ({"constraints": LinearConstraint(np.ones((3, 2)), 1, 1)}, ValueError, "expected 1 to 2 equations, got 3"),
        ({"constraints": [3]}, TypeError, "constraints: expected"),
        ({"x0": [np.nan, 1.0]}, ValueError, "x0: must be finite"),
        ({"fun": lambda x: x}, ValueError, "fun: must return a scalar"),
        ({"jac": lambda x: np.ones(3)}, ValueError, "jac: expected shape"),
        ({"hess": lambda x: np.ones(3)}, ValueError, "hess: expected shape"),
        ({"options": {"maxiter": -1}}, ValueError, "maxiter"),
        ({"options": {"multipliers": [1, 2]}}, ValueError, "multipliers: expected 1 finite"),
        ({"options": {"speed": 1}}, TypeError, "speed"),
        ({"options": {"curvature": -1.0}}, ValueError, "curvature"),
    ],
)
def test_what_is_not_supported_is_named(method, changes, error, message):
    arguments = {"fun": fun, "x0": [2.0, 2.0], "constraints": SPHERE, **FULL, **changes}
    with pytest.raises(error, match=message):
        minimize(method=method, **arguments)


@pytest.mark.parametrize("method", METHODS)
def test_failures_are_results(method):
    def solve(function=fun, constraints=SPHERE, x0=(2.0, 2.0), given=FULL, **options):
        result = minimize(function, x0, method=method, constraints=constraints, options=options, **given)
        assert not result.success
        assert np.isfinite(result.x).all()
        return result.status, result.nit

    assert solve(maxiter=2) == (1, 2)
    assert solve(maxiter=0) == (1, 0)
    # Not a number from the start, in the Hessian, and everywhere but at the start.
    assert solve(lambda x: np.nan) == (NewtonStatus.nonfinite, 0)
    assert solve(given={"jac": jac, "hess": lambda x: hess(x) * np.nan}) == (NewtonStatus.nonfinite, 0)
    assert solve(lambda x: fun(x) if x[0] == 2.0 else np.nan) == (NewtonStatus.nonfinite, 0)


def test_failures_of_the_solvers_are_results():
    def solve(method, constraints, **options):
        return minimize(fun, [2, 2], method=method, constraints=constraints, options=options, **FULL)

    short = solve(sketched_newton, SPHERE, max_sketches=3)
    assert (short.status, short.sketches) == (NewtonStatus.inner_solver, 3)
    assert short.history["inner_residual"][0] > short.history["inner_tolerance"][0]
    flat = NonlinearConstraint(lambda x: (x[0] - 2) ** 2 + 1, 0, 0, lambda x: [[2 * (x[0] - 2), 0.0]])
    assert solve(sketched_newton, flat).status == NewtonStatus.singular
    assert solve(inexact_sqp, flat).status == NewtonStatus.inner_solver


def test_exceptions_of_the_user_pass_through():
    def raises(x):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        minimize(raises, [2, 2], method=sketched_newton, constraints=SPHERE, **FULL)


def test_disp_says_how_it_ended(capsys):
    minimize(fun, [2, 2], method=sketched_newton, constraints=SPHERE, options={"disp": True}, **FULL)
    assert "KKT residual" in capsys.readouterr().out


def test_inexact_sqp_is_what_it_says():
    """Each direction solves the Newton system to the tolerance; the penalty is at least its multipliers' size."""
    problem = hock_schittkowski(78)
    tight = minimize(**problem.as_scipy(), method=inexact_sqp, options={"relative_tolerance": 1e-10})
    loose = minimize(**problem.as_scipy(), method=inexact_sqp, options={"relative_tolerance": 0.5})
    assert tight.success
    assert loose.success
    assert tight.history["products"].mean() > loose.history["products"].mean()
    assert tight.nit < loose.nit
    assert tight.fun == pytest.approx(problem.minimum, abs=1e-6)
    with pytest.raises(ValueError, match="relative_tolerance"):
        minimize(**problem.as_scipy(), method=inexact_sqp, options={"relative_tolerance": 1.0})


def test_the_penalty_of_inexact_sqp_rises_where_it_must():
    """With f scaled by a hundred the multipliers are beyond the first penalty, 1."""
    result = minimize(
        lambda x: 100 * fun(x), [0.1, 1.0], method=inexact_sqp, jac=lambda x: 100 * jac(x),
        hess=lambda x: 100 * hess(x), constraints=SPHERE, tol=1e-6,
    )  # fmt: skip
    assert result.success
    assert result.penalty > np.abs(np.concatenate(result.v)).max() > 1.0
