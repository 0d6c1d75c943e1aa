"""Conservative matrix fields of known constants, their families, and the closed forms that their limits agree with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flint
import sympy
from sympy import Catalan, E, Rational, erf, erfi, gamma, log, pi, sqrt, zeta

from tendsto import validation
from tendsto.constants.matrix_fields import ConservativeMatrixField
from tendsto.constants.rational_matrices import rational, to_rational

x, y = sympy.symbols("x y")
_HALF = Rational(1, 2)
_QUARTER = Rational(1, 4)
_ONES = (sympy.Integer(1), sympy.Integer(1))


@dataclass(frozen=True, eq=False)
class KnownField:
    r"""A field, and what the limits of its trajectories are believed to be, by starting point.

    That a limit equals its closed form is not proved here. It can be tested to any number of digits: `limit` encloses
    the closed form and `Trajectory.limit` the limit, both rigorously.

    **Arguments**

    - `name`: of the constant that gives the field its name.
    - `field`: the field.
    - `limits`: the closed form for each starting point. From $(1, 1)$ it is a Moebius image of the constant; from
      points shifted by a half or a quarter other constants appear.
    """

    name: str
    field: ConservativeMatrixField
    limits: Mapping[tuple[sympy.Rational, sympy.Rational], sympy.Expr]

    def formula(self, start: Sequence[Any] = _ONES) -> sympy.Expr:
        """The closed form for a starting point.

        **Raises** `ValueError` for a point without one.
        """
        point = tuple(to_rational(rational("start", each)) for each in start)
        if point not in self.limits:
            raise ValueError(f"start: no closed form is known from {point}; there is one from {list(self.limits)}")
        return self.limits[point]

    def limit(self, digits: int, start: Sequence[Any] = _ONES) -> flint.arb:
        """A ball around the closed form, to at least `digits` digits."""
        return enclose(self.formula(start), digits)


def enclose(expression: sympy.Expr, digits: int) -> flint.arb:
    r"""A ball around a closed form of constants, with a radius of at most $10^{-\mathrm{digits}} \max(1, |v|)$.

    Sums, products, integer and half-integer powers of rational numbers, $\pi$, $e$, Catalan's constant, and the values
    of $\zeta$, $\log$, $\Gamma$, erf and erfi at them.

    **Raises** `TypeError` for anything else.
    """
    validation.integer("digits", digits, low=1)
    for extra in (10, 40, 160):
        with flint.ctx.workdps(digits + extra):
            ball = _ball(expression)
            if ball.is_finite() and ball.rad() <= flint.arb(10) ** -digits * flint.arb(1).max(abs(ball.mid())):
                return ball
    raise ValueError(f"expression: {expression} could not be enclosed to {digits} digits")


_CONSTANTS: dict[sympy.Expr, Callable[[], flint.arb]] = {
    sympy.pi: flint.arb.pi,
    sympy.E: flint.arb.const_e,
    sympy.Catalan: flint.arb.const_catalan,
}
_FUNCTIONS: dict[Any, Callable[[flint.arb], flint.arb]] = {
    zeta: flint.arb.zeta,
    log: flint.arb.log,
    sympy.exp: flint.arb.exp,
    gamma: flint.arb.gamma,
    erf: flint.arb.erf,
    erfi: flint.arb.erfi,
}


def _ball(expression: sympy.Expr) -> flint.arb:
    if expression.is_Rational:
        return flint.arb(rational("expression", expression))
    if expression in _CONSTANTS:
        return _CONSTANTS[expression]()
    parts = [_ball(part) for part in expression.args]
    if expression.is_Add:
        return sum(parts, flint.arb(0))
    if expression.is_Mul:
        product = flint.arb(1)
        for part in parts:
            product *= part
        return product
    if expression.is_Pow and expression.exp.is_Integer:
        return parts[0] ** int(expression.exp)
    if expression.is_Pow and (2 * expression.exp).is_Integer:
        return parts[0].sqrt() ** int(2 * expression.exp)
    if expression.func in _FUNCTIONS and len(parts) == 1:
        return _FUNCTIONS[expression.func](parts[0])
    raise TypeError(f"expression: no enclosure for {expression}")


# --- parametric families: each satisfies the linear and the quadratic condition for all values of its parameters


def linear_family() -> ConservativeMatrixField:
    r"""$f = c_0 + c_1(x+y)$, $\bar f = c_2 + c_3(x-y)$."""
    c0, c1, c2, c3 = sympy.symbols("c:4")
    return ConservativeMatrixField.from_ffbar(c0 + c1 * (x + y), c2 + c3 * (x - y))


def quadratic_family() -> ConservativeMatrixField:
    r"""Around $f = 2x^2+2xy+y^2$, $\bar f = -(2x^2-2xy+y^2)$, the field of $\zeta(2)$: with shifts $c_1, c_2$.

    $$f = c_0\bigl(2x^2+2xy+y^2 - (4c_1+3c_2)x - (3c_1+2c_2)y + (c_1+c_2)(2c_1+c_2)\bigr) - c_3$$

    $$\bar f = -c_0\bigl(2x^2-2xy+y^2 - c_2 x - c_1 y\bigr) + c_3$$
    """
    c0, c1, c2, c3 = sympy.symbols("c:4")
    shifted = (c1 + c2) * (2 * c1 + c2) - (4 * c1 + 3 * c2) * x - (3 * c1 + 2 * c2) * y
    f = c0 * (2 * x**2 + 2 * x * y + y**2 + shifted) - c3
    fbar = -c0 * (2 * x**2 - 2 * x * y + y**2 - c2 * x - c1 * y) + c3
    return ConservativeMatrixField.from_ffbar(f, fbar)


def alternating_quadratic_family() -> ConservativeMatrixField:
    r"""Around $f = x^2+2xy+2y^2$, $\bar f = x^2-2xy+2y^2$, whose rows have positive $b = x^4$.

    $$f = c_0\bigl(x^2+2xy+2y^2 - (2c_1+3c_2)x - (3c_1+4c_2)y + (c_1+c_2)(c_1+2c_2)\bigr) - c_3$$

    $$\bar f = c_0\bigl(x^2-2xy+2y^2 - c_2 x - c_1 y\bigr) - c_3$$
    """
    c0, c1, c2, c3 = sympy.symbols("c:4")
    shifted = (c1 + c2) * (c1 + 2 * c2) - (2 * c1 + 3 * c2) * x - (3 * c1 + 4 * c2) * y
    f = c0 * (x**2 + 2 * x * y + 2 * y**2 + shifted) - c3
    fbar = c0 * (x**2 - 2 * x * y + 2 * y**2 - c2 * x - c1 * y) - c3
    return ConservativeMatrixField.from_ffbar(f, fbar)


def cubic_family() -> ConservativeMatrixField:
    r"""Around the field of $\zeta(3)$, which is $c_0 = 0$, $c_1 = 1$ up to a factor of $-2$.

    $f = -(x+y)(c_0^2 + 2c_1^2(x^2+xy+y^2))$, $\bar f = (x-y)(c_0^2 + 2c_1^2(x^2-xy+y^2))$.
    """
    c0, c1 = sympy.symbols("c:2")
    f = -(x + y) * (c0**2 + 2 * c1**2 * (x**2 + x * y + y**2))
    fbar = (x - y) * (c0**2 + 2 * c1**2 * (x**2 - x * y + y**2))
    return ConservativeMatrixField.from_ffbar(f, fbar)


_FAMILIES = {
    "linear": linear_family,
    "quadratic": quadratic_family,
    "alternating quadratic": alternating_quadratic_family,
    "cubic": cubic_family,
}


def field_families() -> dict[str, ConservativeMatrixField]:
    """The parametric families by name."""
    return {name: family() for name, family in _FAMILIES.items()}


# --- fields of single constants


def _ln2() -> KnownField:
    limits = {_ONES: 1 / log(2) - 1, (_ONES[0], _HALF): 2 / pi, (_HALF, _HALF): 4 * pi**2 / gamma(Rational(1, 4)) ** 4}
    return KnownField("ln2", ConservativeMatrixField.from_ffbar(x + y, x - y), limits)


def _e() -> KnownField:
    limits = {
        _ONES: 1 / (E - 1),
        (_ONES[0], _HALF): _HALF + 1 / (E * sqrt(pi) * erf(1)),
        (_HALF, _ONES[1]): E / (sqrt(pi) * erfi(1)) - _HALF,
    }
    return KnownField("e", ConservativeMatrixField.from_ffbar(x + y, 1), limits)


def _pi() -> KnownField:
    limits = {_ONES: (3 * pi - 10) / (4 - pi), (_ONES[0], _HALF): 1 / sqrt(2) - Rational(3, 2)}
    return KnownField("pi", ConservativeMatrixField.from_ffbar(1 + 2 * (x + y), y - x), limits)


def _symmetric_pi() -> KnownField:
    matrices = {x: [[x, x * y], [1, 1 + 2 * x + y]], y: [[y, x * y], [1, 1 + x + 2 * y]]}
    limits = {_ONES: (2 * pi - 6) / (4 - pi), (_ONES[0], _HALF): 1 / sqrt(2) - _HALF}
    return KnownField("symmetric pi", ConservativeMatrixField(matrices), limits)


def _zeta2() -> KnownField:
    field = ConservativeMatrixField.from_ffbar(2 * x**2 + 2 * x * y + y**2, -(2 * x**2 - 2 * x * y + y**2))
    limits = {
        _ONES: 2 * (1 / zeta(2) - 1),
        (_ONES[0], _HALF): 1 / (4 * Catalan) - Rational(3, 2),
        (_HALF, _ONES[1]): 4 / pi**2 - _HALF,
        (_QUARTER, _ONES[1]): 2 / (pi**2 + 8 * Catalan) - Rational(1, 8),
        (3 * _QUARTER, _ONES[1]): 2 / (pi**2 - 8 * Catalan) - Rational(9, 8),
    }
    return KnownField("zeta2", field, limits)


def _zeta3() -> KnownField:
    field = ConservativeMatrixField.from_ffbar(
        x**3 + 2 * x**2 * y + 2 * x * y**2 + y**3, -(x**3) + 2 * x**2 * y - 2 * x * y**2 + y**3
    )
    # From (1, y) it is the Hurwitz zeta function at y that the limit belongs to.
    limits = {
        _ONES: 1 / zeta(3) - 1,
        (_ONES[0], _HALF): 1 / (7 * zeta(3)) - _HALF,
        (_ONES[0], _QUARTER): 1 / (28 * zeta(3) + pi**3) - Rational(5, 8),
        (_ONES[0], 3 * _QUARTER): 1 / (28 * zeta(3) - pi**3) - Rational(5, 8),
    }
    return KnownField("zeta3", field, limits)


_KNOWN = {"ln2": _ln2, "e": _e, "pi": _pi, "zeta2": _zeta2, "zeta3": _zeta3, "symmetric pi": _symmetric_pi}


def known_field(name: str) -> KnownField:
    """The field of a constant: `"ln2"`, `"e"`, `"pi"`, `"zeta2"`, `"zeta3"` or `"symmetric pi"`.

    **Raises** `ValueError` for another name.
    """
    if name not in _KNOWN:
        raise ValueError(f"name: {name!r} is not one of {', '.join(_KNOWN)}")
    return _KNOWN[name]()


def known_fields() -> dict[str, KnownField]:
    """All fields of single constants by name."""
    return {name: build() for name, build in _KNOWN.items()}
