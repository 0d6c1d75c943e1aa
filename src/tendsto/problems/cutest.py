"""Equality-constrained problems of the CUTEst collection, as `sif2jax` states them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from tendsto import extras
from tendsto.problems.equality_constrained import EqualityConstrained

# sif2jax builds all of its problems when it is imported, which takes half a minute. Its modules are therefore read
# below packages of our own, which have its directories for paths and no code; `sif2jax` itself stays untouched.
_ALIAS = "_tendsto_sif2jax"
_FAMILIES = ("_constrained_minimisation", "_nonlinear_equations", "_quadratic_problems")


def cutest_problem(name: str) -> EqualityConstrained:
    """The CUTEst problem called `name`, at its default size, with its `start` and `minimum` where they are known.

    Only the module of this one problem is imported. Systems of equations have $f = 0$.

    **Arguments**: `name`, as in the collection: `"HS7"`, `"BT3"`, `"ORTHREGB"`.

    **Raises** `tendsto.extras.MissingExtra` without `sif2jax`; `ValueError` for a name that it does not have, and for a
    problem with inequalities, bounds, or more equations than variables.
    """
    problem = getattr(_module(name), name.upper())()
    start, unravel = ravel_pytree(problem.y0)
    bounds = getattr(problem, "bounds", None)
    equalities, inequalities = problem.constraint(problem.y0)
    if inequalities is not None or (bounds is not None and _binding(bounds)) or equalities is None:
        raise ValueError(f"name: {name} has inequality constraints or bounds; only equalities are supported")
    if ravel_pytree(equalities)[0].size > start.size:
        raise ValueError(f"name: {name} has more equations than variables")

    def function(x: Float[Array, " n"]) -> Float[Array, ""]:
        value: Float[Array, ""] = problem.objective(unravel(x), problem.args)
        return value

    def constraints(x: Float[Array, " n"]) -> Float[Array, " m"]:
        return ravel_pytree(problem.constraint(unravel(x))[0])[0]

    known = problem.expected_objective_value
    return EqualityConstrained(function, constraints, start, None if known is None else float(known))


def _binding(bounds: Any) -> bool:
    return bool(jnp.isfinite(ravel_pytree(bounds)[0]).any())


def _module(name: str) -> ModuleType:
    spec = importlib.util.find_spec("sif2jax")
    if spec is None or not spec.submodule_search_locations:
        return extras.load("sif2jax", extra="cutest")  # which says what is missing
    root = Path(spec.submodule_search_locations[0])
    for family in _FAMILIES:
        folder = root / "cutest" / family
        if name.isidentifier() and (folder / f"{name.lower()}.py").is_file():
            for package, path in {"": root, ".cutest": root / "cutest", f".cutest.{family}": folder}.items():
                bare = ModuleType(_ALIAS + package)
                bare.__path__ = [str(path)]
                sys.modules.setdefault(bare.__name__, bare)
            return importlib.import_module(f"{_ALIAS}.cutest.{family}.{name.lower()}")
    raise ValueError(f"name: sif2jax has no equality-constrained problem {name!r}")
