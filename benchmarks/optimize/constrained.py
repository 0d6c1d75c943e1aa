"""Equality-constrained minimisation beside SciPy and IPOPT; sketching beside a direct solve and a NumPy loop.

    python -m benchmarks.optimize.constrained [--quick] [--json] [--figure PATH]

Three tables. The first solves equality-constrained CUTEst problems with every method from the same start and the
same derivatives, all in one process taking turns: iterations, evaluations, time, final KKT residual, and how often a
method comes within a factor of the fastest (Dolan and Moré). The KKT residual is computed here from each answer with
least-squares multipliers, so that all are measured alike. The second compares a Newton system solved by projections
with a direct solve and with MINRES as it grows: elliptic control, whose condition grows with it, and a quadratic on ten
planes, whose condition does not. The third compares `sketch_and_project` with a loop in NumPy. A ratio above 1 means
that Tendsto is faster.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize
from scipy.sparse.linalg import minres

import tendsto as tt
from benchmarks.contest import options, ratios, show, turns
from tendsto.optimize import KaczmarzSketch, inexact_sqp, sketch_and_project, sketched_newton
from tendsto.problems import EqualityConstrained, PrimalDual, cutest_problem, elliptic_control

PROBLEMS = (
    "HS6", "HS7", "HS28", "HS40", "HS42", "HS47", "HS48", "HS49", "HS50", "HS51", "HS52", "HS77", "HS78", "HS79",
    "BT2", "BT3", "BT5", "BT6", "BT9", "BT10", "BT11", "BT12", "BOOTH", "HS56", "HS100LNP", "MARATOS", "ORTHREGB",
)  # fmt: skip
QUICK = ("HS6", "HS7", "HS42", "HS48", "HS49", "BT3")
TOL, MAXITER = 1e-6, 300


def _scipy(method: Any, **extra: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda arguments: minimize(**arguments, method=method, tol=TOL, options={"maxiter": MAXITER, **extra})


def _slsqp(arguments: dict[str, Any]) -> Any:
    without = {name: value for name, value in arguments.items() if name != "hess"}
    return minimize(**without, method="SLSQP", tol=1e-12, options={"maxiter": MAXITER})


def _ipopt(arguments: dict[str, Any]) -> Any:
    constraint = arguments["constraints"]
    equality = {"type": "eq", "fun": constraint.fun, "jac": constraint.jac, "hess": constraint.hess}
    solve = importlib.import_module("cyipopt").minimize_ipopt
    chosen = {name: arguments[name] for name in ("fun", "x0", "jac", "hess")}
    return solve(
        **chosen, constraints=[equality], tol=TOL, options={"max_iter": MAXITER, "print_level": 0, "sb": "yes"}
    )


METHODS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "sketched_newton": _scipy(sketched_newton),
    "sketched_newton, blocks of 3": _scipy(sketched_newton, sketch=KaczmarzSketch(3), max_sketches=200_000),
    "inexact_sqp": _scipy(inexact_sqp),
    "SciPy trust-constr": _scipy("trust-constr", gtol=TOL, xtol=1e-12),
    "SciPy SLSQP": _slsqp,
    "IPOPT": _ipopt,
}


def _kkt(problem: EqualityConstrained, x: np.ndarray) -> float:
    jacobian, gradient = (np.asarray(each(jnp.asarray(x))) for each in (problem.jacobian, problem.gradient))
    if not (np.isfinite(jacobian).all() and np.isfinite(gradient).all()):
        return np.inf
    multipliers = np.linalg.lstsq(jacobian.T, -gradient, rcond=None)[0]
    return float(problem.stationarity(PrimalDual(jnp.asarray(x), jnp.asarray(multipliers))))


def solve_all(names: tuple[str, ...], methods: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name in names:
        problem = cutest_problem(name)
        arguments = problem.as_scipy()
        for warm in (True, False):
            for method, call in methods.items():
                began = time.perf_counter()
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        result = call(arguments)
                except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                    result = error
                spent = time.perf_counter() - began
                if warm:
                    continue
                failed = isinstance(result, Exception)
                kkt = np.inf if failed else _kkt(problem, np.asarray(result.x))
                rows.append(
                    {
                        "problem": name,
                        "method": method,
                        "solved": kkt <= 10 * TOL,
                        "iterations": np.nan if failed else result.nit,
                        "evaluations": np.nan if failed else result.nfev,
                        "seconds": spent,
                        "kkt": kkt,
                    }
                )
    return rows


def profile(rows: list[dict[str, Any]], measure: str, factor: float, method: str) -> float:
    """The share of problems on which `method` comes within `factor` of the best that solved it."""
    names = {row["problem"] for row in rows}
    within = 0
    for name in names:
        costs = {row["method"]: row[measure] for row in rows if row["problem"] == name and row["solved"]}
        within += method in costs and costs[method] <= factor * min(costs.values())
    return within / len(names)


def profiles(rows: list[dict[str, Any]], methods: dict[str, Any]) -> list[dict[str, Any]]:
    table = []
    for method in methods:
        own = [row for row in rows if row["method"] == method]
        done = [row for row in own if row["solved"]]
        table.append(
            {
                "method": method,
                "solved": f"{len(done)} of {len(own)}",
                "median_iterations": float(np.median([row["iterations"] for row in done])) if done else np.nan,
                "median_evaluations": float(np.median([row["evaluations"] for row in done])) if done else np.nan,
                "median_ms": 1e3 * float(np.median([row["seconds"] for row in done])) if done else np.nan,
                "median_kkt": float(np.median([row["kkt"] for row in done])) if done else np.nan,
                "fastest": profile(rows, "seconds", 1.0, method),
                "within_10": profile(rows, "seconds", 10.0, method),
                "fewest_iterations": profile(rows, "iterations", 1.0, method),
            }
        )
    return table


def draw(rows: list[dict[str, Any]], methods: dict[str, Any], path: str) -> None:
    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    factors = np.geomspace(1, 1000, 120)
    for axes, measure in zip(figure.subplots(1, 2), ("iterations", "seconds"), strict=True):
        for method in methods:
            axes.step(factors, [profile(rows, measure, factor, method) for factor in factors], label=method)
        axes.set(xscale="log", xlabel=f"factor of the best in {measure}", ylabel="share of problems", ylim=(0, 1.02))
    axes.legend(fontsize="x-small")
    figure.savefig(path)


def control_system(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The Newton system of elliptic control on a grid of `size` by `size` points."""
    problem = elliptic_control(size)
    point = PrimalDual(problem.start, jnp.zeros(size**2))
    return np.asarray(problem.kkt_matrix(point)), -np.asarray(problem.kkt_residual(point))


def planes_system(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The Newton system of a quadratic with eigenvalues from 1 to 1.7 on ten random planes, from a random point."""
    rng = np.random.default_rng(size)
    factor = 0.5 * rng.standard_normal((size, size // 2)) / size**0.5
    planes = rng.standard_normal((10, size)) / size**0.5
    matrix = np.block([[np.eye(size) + factor @ factor.T, planes.T], [planes, np.zeros((10, 10))]])
    return matrix, rng.standard_normal(size + 10)


def newton_systems(
    systems: dict[str, tuple[Callable[[int], Any], tuple[int, ...], tuple[float, ...]]], rounds: int
) -> list[dict[str, Any]]:
    """Kaczmarz to a relative residual beside LAPACK's direct solve and SciPy's MINRES."""
    table = []
    solve = jax.jit(lambda a, b, tol: sketch_and_project(a, b, tolerance=tol, max_sketches=50_000_000))
    direct = jax.jit(jnp.linalg.solve)
    for name, (build, sizes, accuracies) in systems.items():
        for size, accuracy in itertools.product(sizes, accuracies):
            matrix, target = build(size)
            given = (jnp.asarray(matrix), jnp.asarray(target))
            tolerance = accuracy * np.linalg.norm(target)
            answer = solve(*given, tolerance)
            contenders = {
                "tendsto": lambda g=given, t=tolerance: solve(*g, t).x,
                "direct solve": lambda g=given: direct(*g),
                "MINRES": lambda a=matrix, b=target, r=accuracy: minres(a, b, rtol=r)[0],
            }
            times = turns(contenders, rounds)
            table.append(
                {
                    "system": name,
                    "unknowns": len(target),
                    "accuracy": accuracy,
                    "projections": int(answer.sketches),
                    "converged": bool(answer.converged),
                    "sketching_ms": 1e3 * float(np.median(times["tendsto"])),
                }
                | ratios(times)
            )
    return table


def kaczmarz_loop(matrix: np.ndarray, target: np.ndarray, steps: int) -> np.ndarray:
    rng, x = np.random.default_rng(0), np.zeros(matrix.shape[1])
    squares = np.einsum("ij,ij->i", matrix, matrix)
    for row in rng.integers(0, len(matrix), steps):
        x -= (matrix[row] @ x - target[row]) / squares[row] * matrix[row]
    return x


def loops(sizes: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    table, steps = [], 20_000
    for size in sizes:
        rng = np.random.default_rng(size)
        matrix, target = rng.standard_normal((size, size)), rng.standard_normal(size)
        solve = jax.jit(lambda a, b: sketch_and_project(a, b, tolerance=0.0, max_sketches=20_000).x)
        given = (jnp.asarray(matrix), jnp.asarray(target))
        contenders = {
            "tendsto": lambda s=solve, g=given: s(*g),
            "NumPy loop": lambda a=matrix, b=target: kaczmarz_loop(a, b, steps),
        }
        times = turns(contenders, rounds)
        table.append(
            {
                "size": size,
                "projections": steps,
                "tendsto_us_per_projection": 1e6 * float(np.median(times["tendsto"])) / steps,
                "ratio_numpy_loop": ratios(times)["NumPy loop"],
            }
        )
    return table


def main() -> None:
    path = ""
    if "--figure" in sys.argv:
        at = sys.argv.index("--figure")
        path = sys.argv[at + 1]
        del sys.argv[at : at + 2]
    chosen = options(__doc__)
    methods = dict(METHODS)
    if importlib.util.find_spec("cyipopt") is None:
        print("IPOPT is skipped: cyipopt is not installed")
        del methods["IPOPT"]
    rows = solve_all(QUICK if chosen.quick else PROBLEMS, methods)
    if path:
        draw(rows, methods, path)
    show("CUTEst, by method", profiles(rows, methods), as_json=chosen.json)
    lost = [row for row in rows if not row["solved"]]
    if lost:
        show("Not solved", lost, as_json=chosen.json)
    systems = {
        "elliptic control": (control_system, (2, 3) if chosen.quick else (2, 3, 4, 5), (1e-3,)),
        "ten planes": (
            planes_system,
            (300, 1000) if chosen.quick else (100, 300, 1000, 2000, 4000),
            (1e-1, 1e-3, 1e-6),
        ),
    }
    show("One Newton system", newton_systems(systems, 3), as_json=chosen.json)
    show("Kaczmarz", loops((10, 100) if chosen.quick else (10, 100, 500), 3), as_json=chosen.json)


if __name__ == "__main__":
    print(f"tendsto {tt.__version__}, JAX {jax.__version__}")
    main()
