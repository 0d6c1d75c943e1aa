"""Boxes of continued fractions with bounded coefficients, enumerated by index so that any part can be asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tendsto import validation
from tendsto.constants.continued_fractions import PCF

Coefficients = NDArray[np.int64]
"""Polynomials as rows of coefficients, from the highest power down."""


@dataclass(frozen=True)
class Box:
    r"""All fractions with $\deg a \le$ `degree_a`, $\deg b \le$ `degree_b` and integer coefficients in $[-c, c]$.

    Polynomials that are zero are left out, so there are $((2c+1)^{d_a+1} - 1)((2c+1)^{d_b+1} - 1)$ of them. They are
    numbered; nothing is kept in memory.

    **Arguments**

    - `degree_a`, `degree_b`: the largest degrees, at most 8.
    - `bound`: $c$, at most 1000.

    **Raises** `TypeError` or `ValueError` naming the argument.
    """

    degree_a: int
    degree_b: int
    bound: int

    def __post_init__(self) -> None:
        validation.integer("degree_a", self.degree_a, low=0, high=8)
        validation.integer("degree_b", self.degree_b, low=0, high=8)
        validation.integer("bound", self.bound, low=1, high=1000)
        if (self.degree_a + self.degree_b + 2) * np.log2(2 * self.bound + 1) > 62:
            raise ValueError(f"bound: {self.size:.3g} fractions are more than can be numbered")

    @property
    def size(self) -> int:
        """How many fractions the box holds."""
        return self._count(self.degree_a) * self._count(self.degree_b)

    def _count(self, degree: int) -> int:
        return int((2 * self.bound + 1) ** (degree + 1)) - 1

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[PCF]:
        for start in range(0, self.size, 4096):
            a, b = self.coefficients(start, min(start + 4096, self.size))
            yield from itertools.starmap(PCF, zip(a.tolist(), b.tolist(), strict=True))

    def coefficients(self, start: int, stop: int) -> tuple[Coefficients, Coefficients]:
        """The coefficients of $a$ and of $b$ of the fractions numbered `start` to `stop` - 1, one row each.

        **Raises** `ValueError` unless 0 <= start <= stop <= size.
        """
        if not 0 <= start <= stop <= self.size:
            raise ValueError(f"start, stop: must lie in order in [0, {self.size}], got {start}, {stop}")
        first, second = np.divmod(np.arange(start, stop, dtype=np.int64), self._count(self.degree_b))
        return self._polynomials(first, self.degree_a), self._polynomials(second, self.degree_b)

    def _polynomials(self, numbers: NDArray[np.int64], degree: int) -> Coefficients:
        base = 2 * self.bound + 1
        numbers = numbers + (numbers >= self._count(degree) // 2)  # the middle number would be the zero polynomial
        powers = base ** np.arange(degree, -1, -1, dtype=np.int64)
        return numbers[:, None] // powers % base - self.bound


def values(polynomials: Coefficients, at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each polynomial's value at each of the integers `at`, of shape `(polynomials, at)`."""
    result = np.zeros((len(polynomials), len(at)), dtype=np.int64)
    for column in polynomials.T:
        result = result * at + column[:, None]
    return result


def representatives(a: Coefficients, b: Coefficients) -> NDArray[np.bool_]:
    r"""Which fractions stand for all that are known to be the same number, or its negative.

    Left out are those with a negative leading coefficient of $a$ (the negative of another), those inflated by an
    integer $t > 1$, $(t\,a, t^2 b)$, and those inflated by a linear polynomial, $(c(n)\,a(n), c(n)\,c(n-1)\,b(n))$ with
    coefficients no larger than the box's.
    """
    leading = a[np.arange(len(a)), np.argmax(a != 0, axis=1)]
    kept: NDArray[np.bool_] = leading > 0
    largest = int(max(np.abs(a).max(initial=0), np.abs(b).max(initial=0)))
    for t in range(2, largest + 1):
        kept &= (a % t != 0).any(axis=1) | (b % (t * t) != 0).any(axis=1)
    for u, v in _primitive_pairs(largest):
        # c(n) = u n + v divides a, and c(n) c(n - 1) divides b: roots at -v/u, and at 1 - v/u.
        inflated = (_scaled_value(a, -v, u) == 0) & (_scaled_value(b, -v, u) == 0) & (_scaled_value(b, u - v, u) == 0)
        kept &= ~inflated
    return kept


def terminating(b: Coefficients) -> NDArray[np.bool_]:
    r"""Which fractions end in a rational number: $b(k) = 0$ for an integer $k \ge 1$ (Cauchy bounds such roots)."""
    largest = int(np.abs(b).max(initial=0)) + 1
    ends: NDArray[np.bool_] = (values(b, np.arange(1, largest + 1, dtype=np.int64)) == 0).any(axis=1)
    return ends


def convergent(a: Coefficients, b: Coefficients) -> NDArray[np.bool_]:
    """Which fractions converge exponentially or faster, by degrees and discriminant; see `PCF.convergence`."""
    degree_a, degree_b = _degrees(a), _degrees(b)
    lead_a = np.take_along_axis(a, (a.shape[1] - 1 - degree_a)[:, None], axis=1)[:, 0]
    lead_b = np.take_along_axis(b, (b.shape[1] - 1 - degree_b)[:, None], axis=1)[:, 0]
    balanced = degree_b == 2 * degree_a
    converges: NDArray[np.bool_] = (degree_b < 2 * degree_a) | (balanced & (lead_a**2 + 4 * lead_b > 0))
    return converges


def _degrees(polynomials: Coefficients) -> NDArray[np.int64]:
    degrees: NDArray[np.int64] = polynomials.shape[1] - 1 - np.argmax(polynomials != 0, axis=1)
    return degrees


def _primitive_pairs(largest: int) -> Iterator[tuple[int, int]]:
    """The linear polynomials $u n + v$ without a common factor; roots beyond the bound cannot be roots of $b$."""
    for u in range(1, largest + 1):
        for v in range(-largest, largest + 1):
            if np.gcd(u, v) == 1:
                yield u, v


def _scaled_value(polynomials: Coefficients, numerator: int, denominator: int) -> NDArray[np.int64]:
    """$w^d\\,p(z/w)$, an integer."""
    result, power = np.zeros(len(polynomials), dtype=np.int64), 1
    for column in polynomials.T:
        result = result * numerator + column * power
        power *= denominator
    return result
