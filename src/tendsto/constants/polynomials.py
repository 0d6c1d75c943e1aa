"""Integer polynomials in one variable: what users write, as the exact coefficients that the room computes with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Rational
from typing import Any, TypeAlias

import flint
import sympy

Polynomial: TypeAlias = int | Sequence[int] | sympy.Expr | sympy.Poly | flint.fmpz_poly
"""An integer, integer coefficients from the highest power down, or a SymPy or FLINT polynomial in one variable."""

MAX_DEGREE = 512


def coefficients(name: str, value: Polynomial) -> tuple[int, ...]:
    """The coefficients of `value` from the highest power down, without leading zeros; `(0,)` for zero.

    **Raises** `TypeError` for coefficients that are not integers (a float has no exact value) or what is no polynomial,
    `ValueError` for several variables, fractions, or a degree above 512.
    """
    if isinstance(value, flint.fmpz_poly):
        found = tuple(int(value[power]) for power in range(max(value.degree(), 0), -1, -1))
    elif isinstance(value, (int, Integral)) and not isinstance(value, bool):
        found = (int(value),)
    elif isinstance(value, (list, tuple)) or hasattr(value, "tolist"):
        found = tuple(_integer(name, each) for each in (value.tolist() if hasattr(value, "tolist") else value))
        if not found:
            raise ValueError(f"{name}: needs at least one coefficient")
    else:
        found = _from_sympy(name, value)
    while len(found) > 1 and found[0] == 0:
        found = found[1:]
    if len(found) > MAX_DEGREE + 1:
        raise ValueError(f"{name}: degree {len(found) - 1} is above {MAX_DEGREE}")
    return found


def _integer(name: str, value: Any) -> int:
    if isinstance(value, (Integral, flint.fmpz, sympy.Integer)) and not isinstance(value, bool):
        return int(value)
    if not isinstance(value, bool) and isinstance(value, (Rational, flint.fmpq, sympy.Rational)):
        raise ValueError(f"{name}: {value} is no integer; inflate the fraction to clear denominators first")
    raise TypeError(f"{name}: coefficients must be integers, got {value!r}")


def _from_sympy(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, (sympy.Expr, sympy.Poly)):
        raise TypeError(f"{name}: expected integer coefficients or a polynomial, got {type(value).__name__}")
    symbols = sorted(value.free_symbols, key=str)
    if len(symbols) > 1:
        raise ValueError(f"{name}: expected one variable, got {', '.join(map(str, symbols))}")
    try:
        polynomial = sympy.Poly(value, symbols[0] if symbols else sympy.Symbol("n"))
    except sympy.PolynomialError:
        raise TypeError(f"{name}: {value} is no polynomial") from None
    return tuple(_integer(name, each) for each in polynomial.all_coeffs())


def to_flint(found: Sequence[int]) -> flint.fmpz_poly:
    """The FLINT polynomial with these coefficients, from the highest power down."""
    return flint.fmpz_poly(list(reversed(found)))


def to_latex(found: Sequence[int], variable: str = "n") -> str:
    """The polynomial in LaTeX."""
    terms = []
    for place, coefficient in enumerate(found):
        power = len(found) - 1 - place
        if coefficient:
            factor = "" if power and abs(coefficient) == 1 else str(abs(coefficient))
            symbol = {0: "", 1: variable}.get(power, f"{variable}^{{{power}}}")
            terms.append(("-" if coefficient < 0 else "+") + factor + symbol)
    return "".join(terms).removeprefix("+") or "0"


def positive_from(polynomial: flint.fmpz_poly) -> int | None:
    """A $k_0 \\ge 1$ with $p(k) > 0$ for every integer $k \\ge k_0$; none if there is none.

    Beyond Fujiwara's bound on its roots a polynomial has the sign of its leading coefficient. From there $k_0$ goes
    down while the value stays positive, a thousand integers at most.
    """
    degree = polynomial.degree()
    if degree < 0 or polynomial[degree] < 0:
        return None
    lead = polynomial[degree]
    beyond = 1
    for power in range(degree):
        ratio = -(-abs(polynomial[power]) // lead)
        beyond = max(beyond, 2 * (int(ratio.root(degree - power)) + 1))
    lowest = max(1, beyond - 1000)
    while beyond > lowest and polynomial(beyond - 1) > 0:
        beyond -= 1
    return beyond


def positive_integer_roots(polynomial: flint.fmpz_poly) -> list[int]:
    """The integers $k \\ge 1$ with $p(k) = 0$, ascending."""
    if polynomial.degree() <= 0:
        return []
    roots = [-int(factor[0]) // int(factor[1]) for factor, _ in polynomial.factor()[1] if _has_integer_root(factor)]
    return sorted(root for root in roots if root >= 1)


def _has_integer_root(factor: flint.fmpz_poly) -> bool:
    return bool(factor.degree() == 1 and factor[0] % factor[1] == 0)


def log(value: flint.fmpz) -> float:
    """$\\log|v|$ of an integer of any size, to double precision; minus infinity for zero."""
    magnitude = abs(int(value))
    return math.log(magnitude) if magnitude else -math.inf
