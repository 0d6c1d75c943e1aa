"""Continued fractions whose values are known in closed form: what gives a cluster of formulas its name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import flint
from flint import arb

from tendsto import validation
from tendsto.constants.continued_fractions import PCF
from tendsto.constants.library import LIBRARY, Constant
from tendsto.constants.polynomials import to_latex


@dataclass(frozen=True)
class Anchor:
    """A continued fraction with a proved value.

    **Arguments**

    - `formula`: the fraction.
    - `latex`: its value as one writes it.
    - `value`: a function without arguments that returns the value as a `flint.arb` at the precision of `flint.ctx`.
    - `constant`: the number that gives the cluster its name, of which the value is a Möbius image with integer
      coefficients.
    """

    formula: PCF
    latex: str
    value: Callable[[], arb]
    constant: Constant

    def _repr_latex_(self) -> str:
        a, b = to_latex(self.formula.a), to_latex(self.formula.b)
        return rf"$\displaystyle \operatorname{{PCF}}\left({a},\; {b}\right) = {self.latex}$"


def arctangent(numerator: int, denominator: int = 1) -> Anchor:
    r"""The anchor $z/\arctan z = 1 + \cfrac{z^2}{3 + \cfrac{4z^2}{5 + \cdots}}$ at $z = s/t$, inflated by $t$.

    $a(n) = t(2n+1)$ and $b(n) = s^2 n^2$ give $s/\arctan(s/t)$.

    **Arguments**: `numerator` and `denominator`, $s, t \ge 1$.
    """
    s, t = _lowest_terms(numerator, denominator)
    formula = PCF([2 * t, t], [s * s, 0, 0])
    constant = (
        LIBRARY["pi"] if s == t else _named(f"atan({_ratio(s, t)})", rf"\arctan {_latex_ratio(s, t)}", _atan(s, t))
    )
    return Anchor(formula, rf"{s}/\arctan({_ratio(s, t)})", lambda: s / (arb(s) / t).atan(), constant)


def area_tangent(numerator: int, denominator: int) -> Anchor:
    r"""The anchor $z/\operatorname{artanh} z = 1 - \cfrac{z^2}{3 - \cfrac{4z^2}{5 - \cdots}}$ at $z = s/t < 1$.

    $a(n) = t(2n+1)$ and $b(n) = -s^2 n^2$ give $s/\operatorname{artanh}(s/t)$, where
    $\operatorname{artanh}(s/t) = \frac12\ln\frac{t+s}{t-s}$.

    **Arguments**: `numerator` and `denominator`, $1 \le s < t$.

    **Raises** `ValueError` unless $s < t$.
    """
    s, t = _lowest_terms(numerator, denominator)
    if s >= t:
        raise ValueError(f"numerator: must be below the denominator, got {numerator}/{denominator}")
    argument = flint.fmpq(t + s, t - s)
    name, latex = f"ln({argument})", rf"\ln {_latex_ratio(int(argument.p), int(argument.q))}"
    if argument.q == 1:
        name, latex = f"ln{argument}", rf"\ln {argument}"
    constant = _named(name, latex, lambda: arb(argument).log())
    return Anchor(PCF([2 * t, t], [-s * s, 0, 0]), rf"{2 * s}/{latex}", lambda: 2 * s / arb(argument).log(), constant)


def quadratic(a: int, b: int) -> Anchor:
    r"""The anchor with constant terms, $\frac12\bigl(a \pm \sqrt{a^2 + 4b}\bigr)$ with the sign of $a$.

    **Raises** `ValueError` unless $a^2 + 4b$ is positive and no square, and $a \ne 0$.
    """
    validation.integer("a", a)
    validation.integer("b", b)
    square = a * a + 4 * b
    if a == 0 or square <= 0 or math.isqrt(square) ** 2 == square:
        raise ValueError(f"a, b: need a ≠ 0 and a positive discriminant that is no square, got a² + 4b = {square}")
    sign = 1 if a > 0 else -1
    kernel = squarefree_part(square)
    return Anchor(
        PCF(a, b),
        rf"\tfrac12({a} {'+' if sign > 0 else '-'} \sqrt{{{square}}})",
        lambda: (a + sign * arb(square).sqrt()) / 2,
        square_root(kernel),
    )


def square_root(kernel: int) -> Constant:
    r"""$\sqrt{k}$ as a constant."""
    return Constant(f"sqrt({kernel})", rf"\sqrt{{{kernel}}}", lambda: arb(kernel).sqrt())


def squarefree_part(number: int) -> int:
    """The number without its square factors."""
    kernel = 1
    for prime, exponent in flint.fmpz(abs(number)).factor():
        if exponent % 2:
            kernel *= int(prime)
    return kernel if number > 0 else -kernel


def _named(name: str, latex: str, value: Callable[[], arb]) -> Constant:
    return LIBRARY.get(name) or Constant(name, latex, value)


def _atan(s: int, t: int) -> Callable[[], arb]:
    return lambda: (arb(s) / t).atan()


def _ratio(s: int, t: int) -> str:
    return str(s) if t == 1 else f"{s}/{t}"


def _latex_ratio(s: int, t: int) -> str:
    return str(s) if t == 1 else rf"\tfrac{{{s}}}{{{t}}}"


def _lowest_terms(numerator: int, denominator: int) -> tuple[int, int]:
    validation.integer("numerator", numerator, low=1)
    validation.integer("denominator", denominator, low=1)
    common = math.gcd(numerator, denominator)
    return numerator // common, denominator // common


def _zeta(argument: int, factor: int) -> Callable[[], arb]:
    return lambda: factor / arb(argument).zeta()


ANCHORS: tuple[Anchor, ...] = (
    arctangent(1),
    *(arctangent(1, t) for t in range(2, 7)),
    *(arctangent(s) for s in range(2, 7)),
    *(area_tangent(1, t) for t in range(2, 13)),
    *(quadratic(a, b) for a in range(1, 6) for b in range(1, 6) if math.isqrt(a * a + 4 * b) ** 2 != a * a + 4 * b),
    Anchor(PCF([11, 11, 3], [1, 0, 0, 0, 0]), r"5/\zeta(2)", _zeta(2, 5), LIBRARY["zeta2"]),
    Anchor(PCF([34, 51, 27, 5], [-1, 0, 0, 0, 0, 0, 0]), r"6/\zeta(3)", _zeta(3, 6), LIBRARY["zeta3"]),
    Anchor(PCF([1, 1], [1, 1]), "e - 1", lambda: arb.const_e() - 1, LIBRARY["e"]),
    Anchor(PCF([4, 2], [1]), "(e + 1)/(e - 1)", lambda: (arb.const_e() + 1) / (arb.const_e() - 1), LIBRARY["e"]),
)
"""The anchors that `label_clusters` looks for unless given others."""
