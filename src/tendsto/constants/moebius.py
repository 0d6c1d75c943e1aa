"""Moebius maps with exact coefficients: what relates the limits of equivalent formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import flint
import sympy

from tendsto.constants.rational_matrices import rational


@dataclass(frozen=True, init=False)
class Moebius:
    r"""The map $x \mapsto \dfrac{a x + b}{c x + d}$, its coefficients coprime integers.

    **Arguments**: `a`, `b`, `c`, `d`, exact rational numbers. A common factor is taken out, and the first coefficient
    that is not zero among $c, d$ made positive, so that equal maps are equal objects.

    **Raises** `TypeError` for floats, `ValueError` if $ad = bc$.
    """

    a: int
    b: int
    c: int
    d: int

    def __init__(self, a: Any, b: Any, c: Any, d: Any) -> None:
        exact = [rational(name, value) for name, value in zip("abcd", (a, b, c, d), strict=True)]
        if exact[0] * exact[3] == exact[1] * exact[2]:
            raise ValueError(f"a, b, c, d: the map is constant, for {exact[0]}·{exact[3]} = {exact[1]}·{exact[2]}")
        units = math.lcm(*(int(value.q) for value in exact))
        whole = [int(value.p) * (units // int(value.q)) for value in exact]
        divisor = math.gcd(*whole) * (-1 if (whole[2] or whole[3]) < 0 else 1)
        for name, value in zip("abcd", whole, strict=True):
            object.__setattr__(self, name, value // divisor)

    def __call__(self, value: Any) -> Any:
        """The image of a ball (rigorous, at the working precision), a SymPy expression, or a FLINT rational.

        A ball that contains the pole has no finite image; a rational pole raises `ZeroDivisionError`.
        """
        if isinstance(value, flint.arb) and self.c:
            # The variable once: as it stands the quotient would count its uncertainty twice.
            determinant = flint.fmpz(self.b * self.c - self.a * self.d)
            return flint.arb(flint.fmpq(self.a, self.c)) + determinant / (self.c * (self.c * value + self.d))
        return (self.a * value + self.b) / (self.c * value + self.d)

    def __matmul__(self, other: Moebius) -> Moebius:
        """The map that applies `other` first."""
        return Moebius(
            self.a * other.a + self.b * other.c,
            self.a * other.b + self.b * other.d,
            self.c * other.a + self.d * other.c,
            self.c * other.b + self.d * other.d,
        )

    def inverse(self) -> Moebius:
        """The map that takes it back."""
        return Moebius(self.d, -self.b, -self.c, self.a)

    def __repr__(self) -> str:
        return f"Moebius({self.a}, {self.b}, {self.c}, {self.d})"

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle x \mapsto {sympy.latex(self(sympy.Symbol('x')))}$"
