"""From a continued fraction to a conservative matrix field that has it as a row."""

from __future__ import annotations

import itertools
import math

import sympy

from tendsto import validation
from tendsto.constants.continued_fractions import PCF
from tendsto.constants.matrix_fields import ConservativeMatrixField, ffbar_conditions

_X, _Y = sympy.symbols("x y")


class NoField(ValueError):
    """No field of the form tried contains the continued fraction."""


def find_field(pcf: PCF, *, row: int = 1, degree: int | None = None) -> ConservativeMatrixField:
    r"""A field of the form of `ConservativeMatrixField.from_ffbar` whose row $y = \mathrm{row}$ is the fraction.

    The unknowns are the coefficients of $f$ and $\bar f$. The linear condition and $a(x, \mathrm{row}) = a(x)$ are a
    linear system for them, solved first. The quadratic condition and $b$ are solved one total degree after the other,
    from the top, where few unknowns are left in each.

    Fields come in pairs, mirrored in $y$. The one returned can be walked upwards: its $M_y$ is regular at every
    $y \ge \mathrm{row}$. Fields whose rows are all equal are not counted.

    **Arguments**

    - `pcf`: the fraction; a field needs $b(0) = 0$.
    - `row`: which row it is.
    - `degree`: total degree of $f$ and $\bar f$; by default $\max(\deg a, \lceil\deg b / 2\rceil)$.

    **Raises** `NoField` if there is none with rational coefficients. Another fraction for the same number, inflated or
    shifted, may have one.

    **Source**: R. Elimelech et al., arXiv:2308.11829, appendix B.
    """
    validation.integer("row", row)
    degree = math.ceil(pcf.degree) if degree is None else degree
    validation.integer("degree", degree, low=1, high=6)
    n = sympy.Symbol("n")
    a, b = (part.subs(n, _X) for part in pcf.to_sympy())
    if pcf.b[-1] != 0:
        raise NoField(f"pcf: b(0) is {pcf.b[-1]}, and in a field it is 0; shift n until b(0) = 0")
    for f, fbar in _candidates(a, b, row, degree):
        _, _, rows, _ = ffbar_conditions(f, fbar, _X, _Y)
        determinant = sympy.Poly((f * fbar).subs(_X, 0), _Y)
        walkable = not determinant.is_zero and all(root < row for root in determinant.ground_roots() if root.is_Integer)
        if rows.has(_Y) and walkable:
            return ConservativeMatrixField.from_ffbar(f, fbar)
    raise NoField(f"pcf: {pcf} is row {row} of no field with f and f̄ of degree {degree} and rational coefficients")


def _candidates(a: sympy.Expr, b: sympy.Expr, row: int, degree: int) -> list[tuple[sympy.Expr, sympy.Expr]]:
    powers = [(i, j) for i, j in itertools.product(range(degree + 1), repeat=2) if i + j <= degree]
    unknowns = {(name, i, j): sympy.Symbol(f"{name}_{i}_{j}") for name in ("f", "g") for i, j in powers}
    f, fbar = (sum(unknowns[name, i, j] * _X**i * _Y**j for i, j in powers) for name in ("f", "g"))
    linear, _, rows, _ = ffbar_conditions(f, fbar, _X, _Y)
    equations = [*_coefficients(linear), *_coefficients(rows.subs(_Y, row) - a)]
    # The highest degrees last: they stay free, and the equations of the top degree determine them.
    order = sorted(unknowns, key=lambda key: (key[1] + key[2], key[0]))
    solutions = sympy.solve(equations, [unknowns[key] for key in order], dict=True)
    weights = {unknowns[key]: key[1] + key[2] for key in order}
    return [pair for found in solutions for pair in _solve(f.subs(found), fbar.subs(found), b, weights)]


def _solve(
    f: sympy.Expr, fbar: sympy.Expr, b: sympy.Expr, weights: dict[sympy.Symbol, int]
) -> list[tuple[sympy.Expr, sympy.Expr]]:
    """Every way to satisfy the quadratic condition, and $b$, by the total degree of the equations from the top."""
    product = sympy.Poly(f * fbar - b, _X, _Y)
    levels: dict[int, list[sympy.Expr]] = {}
    for (i, j), coefficient in product.terms():
        if i > 0 and (left := sympy.numer(sympy.together(coefficient))).expand() != 0:
            levels.setdefault(i + j, []).append(left)
    if not levels:
        free = dict.fromkeys((f.free_symbols | fbar.free_symbols) & weights.keys(), 0)
        return [(sympy.expand(f.subs(free)), sympy.expand(fbar.subs(free)))]
    equations = levels[max(levels)]
    unknowns = sorted(set().union(*(each.free_symbols for each in equations)), key=lambda s: (-weights[s], str(s)))
    found = []
    for values in sympy.solve(equations, unknowns, dict=True) if unknowns else []:
        if all(_is_rational(value) for value in values.values()):
            found += _solve(f.subs(values), fbar.subs(values), b, weights)
    return found


def _coefficients(polynomial: sympy.Expr) -> list[sympy.Expr]:
    return list(sympy.Poly(polynomial, _X, _Y).coeffs())


def _is_rational(value: sympy.Expr) -> bool:
    roots = (power for power in value.atoms(sympy.Pow) if not power.exp.is_Integer)
    return value.is_rational_function() and not value.has(sympy.I) and not any(roots)
