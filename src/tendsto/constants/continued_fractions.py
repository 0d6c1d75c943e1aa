"""Polynomial continued fractions in exact arithmetic, with limits as rigorous balls."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import flint
import sympy

from tendsto import validation
from tendsto.constants.polynomials import (
    Polynomial,
    coefficients,
    log,
    positive_from,
    positive_integer_roots,
    to_flint,
    to_latex,
)

Convergence = Literal["terminating", "super-exponential", "exponential", "sub-exponential", "none"]

_BLOCK = 48  # steps that a plain loop multiplies before products are halved: measured, flat between 30 and 100


class NoLimit(ValueError):
    """A continued fraction does not converge, or too slowly for the digits asked for."""


@dataclass(frozen=True)
class Convergent:
    r"""The $n$-th convergent $p_n/q_n$ as the recurrence leaves it.

    **Arguments**: `depth` ($n$), `p`, `q` (FLINT integers, not reduced).
    """

    depth: int
    p: flint.fmpz
    q: flint.fmpz

    @cached_property
    def common_factor(self) -> flint.fmpz:
        r"""$g_n = \gcd(p_n, q_n)$."""
        return self.p.gcd(self.q)

    @cached_property
    def fraction(self) -> flint.fmpq:
        r"""$p_n/q_n$ in lowest terms.

        **Raises** `ZeroDivisionError` if $q_n = 0$.
        """
        return flint.fmpq(self.p, self.q)

    @property
    def reduced_denominator(self) -> flint.fmpz:
        r"""$\tilde q_n = |q_n|/g_n$."""
        return abs(self.q) // self.common_factor


@dataclass(frozen=True)
class FactorialReduction:
    r"""How much of the factorial growth of a fraction's convergents their common factor takes away.

    **Arguments**

    - `depth`: $n$.
    - `ratio`: $\log g_n / (d \log n!)$ with $d = \max(\deg a, \deg b/2)$; near 1 where all of it cancels, and
      near 0 where hardly any does.
    - `growth`: $\log\tilde q_n / n$, which tends to a constant exactly where all of it cancels.
    - `left`: the part of $d$ that does not cancel, $d - (\gamma_n - \gamma_{n/2})/\log 2$ with
      $\gamma_n = \log g_n / n$; near 0 with factorial reduction.
    """

    depth: int
    ratio: float
    growth: float
    left: float

    def __bool__(self) -> bool:
        """Whether less than a quarter of a factorial is left: the reduced denominators grow only exponentially."""
        return self.left < 0.25


@dataclass(frozen=True, init=False)
class PCF:
    r"""A polynomial continued fraction $a(0) + \cfrac{b(1)}{a(1) + \cfrac{b(2)}{a(2) + \cdots}}$.

    Its convergents $p_n/q_n$ obey

    $$u_n = a(n)\,u_{n-1} + b(n)\,u_{n-2}, \qquad p_{-1} = 1,\; p_0 = a(0),\; q_{-1} = 0,\; q_0 = 1$$

    and are computed in exact integers, by halving the product of the matrices
    $\begin{pmatrix}0 & b(k)\\ 1 & a(k)\end{pmatrix}$.

    **Arguments**

    - `a`, `b`: polynomials in $n$ with integer coefficients: an integer, a list of coefficients from the highest
      power down, or a SymPy or FLINT polynomial.

    **Raises** `TypeError` for coefficients that are no integers, `ValueError` if $a$ or $b$ is zero.

    **Source**: R. Elimelech et al., "Algorithm-assisted discovery of an intrinsic order among mathematical constants",
    arXiv:2308.11829.
    """

    a: tuple[int, ...]
    b: tuple[int, ...]

    def __init__(self, a: Polynomial, b: Polynomial) -> None:
        for name, value in (("a", a), ("b", b)):
            found = coefficients(name, value)
            if found == (0,):
                raise ValueError(f"{name}: must not be the zero polynomial")
            object.__setattr__(self, name, found)

    @cached_property
    def _a(self) -> flint.fmpz_poly:
        return to_flint(self.a)

    @cached_property
    def _b(self) -> flint.fmpz_poly:
        return to_flint(self.b)

    def __reduce__(self) -> tuple[type[PCF], tuple[list[int], list[int]]]:
        return PCF, (list(self.a), list(self.b))  # without what is cached, which FLINT does not pickle

    def __repr__(self) -> str:
        return f"PCF({list(self.a)}, {list(self.b)})"

    def _repr_latex_(self) -> str:
        a, b = to_latex(self.a), to_latex(self.b)
        return rf"$\displaystyle \operatorname{{PCF}}\left({a},\; {b}\right)$"

    def to_sympy(self) -> tuple[sympy.Expr, sympy.Expr]:
        """The polynomials $a(n)$ and $b(n)$ as SymPy expressions in the symbol `n`."""
        n = sympy.Symbol("n")
        return sympy.Poly(self.a, n).as_expr(), sympy.Poly(self.b, n).as_expr()

    # --- how it converges, from its coefficients alone

    @cached_property
    def degree(self) -> float:
        r"""$d = \max(\deg a, \deg b / 2)$: the convergents grow like $(n!)^d$ before reduction."""
        return max(len(self.a) - 1, (len(self.b) - 1) / 2)

    @cached_property
    def terminates_at(self) -> int | None:
        """The least $k \\ge 1$ with $b(k) = 0$, where the fraction ends in a rational number; none if there is none."""
        roots = positive_integer_roots(self._b)
        return roots[0] if roots else None

    @cached_property
    def discriminant(self) -> int:
        r"""$A^2 + 4B$ with $A$, $B$ the coefficients of $n^d$ in $a$ and of $n^{2d}$ in $b$, $d$ rounded up."""
        degree = math.ceil(self.degree)
        lead_a = self.a[0] if len(self.a) - 1 == degree else 0
        lead_b = self.b[0] if len(self.b) - 1 == 2 * degree else 0
        return lead_a**2 + 4 * lead_b

    @cached_property
    def convergence(self) -> Convergence:
        r"""How fast the convergents tend to a limit, by the degrees and the discriminant.

        `"exponential"`: $\deg b = 2\deg a$ and $A^2 + 4B > 0$. `"super-exponential"`: $\deg b < 2\deg a$.
        `"sub-exponential"`: $A^2 + 4B = 0$, where the next coefficients decide and there may be no limit at all; or
        positive terms with $2\deg a < \deg b \le 2\deg a + 2$ (Seidel and Stern). `"none"`: no limit.
        """
        if self.terminates_at is not None:
            return "terminating"
        excess = len(self.b) - 1 - 2 * (len(self.a) - 1)
        if excess < 0:
            return "super-exponential"
        if excess == 0:
            if self.discriminant == 0:
                return "sub-exponential"
            return "exponential" if self.discriminant > 0 else "none"
        return "sub-exponential" if self.b[0] > 0 and excess <= 2 else "none"

    @cached_property
    def eigenvalue_ratio(self) -> float:
        r"""$r = \lambda_1/\lambda_2$ with $\lambda_{1,2} = (A \pm \sqrt{A^2 + 4B})/2$, $|\lambda_1| \ge |\lambda_2|$.

        The error of the convergents falls like $|r|^{-n}$.

        **Raises** `NoLimit` unless convergence is exponential.
        """
        if self.convergence != "exponential":
            raise NoLimit(f"{self}: no ratio of eigenvalues, convergence is {self.convergence}")
        # The product of the eigenvalues is -B: dividing its root avoids a difference of nearly equal numbers.
        larger = (abs(self.a[0]) + math.sqrt(self.discriminant)) / 2
        return -(larger**2) / self.b[0]

    # --- convergents

    def convergents(self, depths: Iterable[int]) -> list[Convergent]:
        """The convergents at `depths`, which must not decrease; the work is that of the deepest.

        **Raises** `ValueError` for negative or decreasing depths.
        """
        found, last = [], 0
        # The row (u, v) of the product so far stands for u = x_{n-1}, v = x_n of the two solutions.
        product = flint.fmpz_mat([[1, self._a(0)], [0, 1]])
        for depth in depths:
            validation.integer("depths", depth, low=last)
            product = product * self._product(last, depth)
            found.append(Convergent(depth, product[0, 1], product[1, 1]))
            last = depth
        return found

    def convergent(self, depth: int) -> Convergent:
        """The convergent at `depth`."""
        return self.convergents([depth])[0]

    def _product(self, start: int, stop: int) -> flint.fmpz_mat:
        """The product of the matrices of the steps `start` + 1, …, `stop`."""
        if stop - start > _BLOCK:
            middle = (start + stop) // 2
            return self._product(start, middle) * self._product(middle, stop)
        a, b = self._a, self._b
        before, now = flint.fmpz(1), flint.fmpz(0)
        other_before, other_now = flint.fmpz(0), flint.fmpz(1)
        for k in range(start + 1, stop + 1):
            partial_a, partial_b = a(k), b(k)
            before, now = now, before * partial_b + now * partial_a
            other_before, other_now = other_now, other_before * partial_b + other_now * partial_a
        return flint.fmpz_mat([[before, now], [other_before, other_now]])

    # --- the limit

    def limit(self, digits: int, *, max_depth: int = 100_000) -> flint.arb:
        r"""A ball that provably contains the limit, with a radius of at most $10^{-\mathrm{digits}} \max(1, |L|)$.

        $L = (p_n + p_{n-1} f_n)/(q_n + q_{n-1} f_n)$ with $f_n$ the tail that begins at $b(n+1)$. Where
        $|a_k|\,(2|a_k| - |a_{k+1}|) \ge 4|b_k|$ for all $k > n$, the theorem of Śleszyński and Pringsheim (in its
        weighted form, weights $|a_{k+1}|/2$) gives convergence and $|f_n| \le |a_{n+1}|/2$; where all $b_k$ are
        positive and all $a_k$ of one sign, $f_n$ lies between $0$ and $b_{n+1}/a_{n+1}$. From which $k$ on these
        inequalities between polynomials hold is decided exactly.

        **Arguments**

        - `digits`: decimal digits to certify.
        - `max_depth`: the deepest convergent to try.

        **Returns** a `flint.arb`; exact for a fraction that terminates.

        **Raises** `NoLimit` if the fraction has no limit, or if `max_depth` does not give the digits.
        """
        validation.integer("digits", digits, low=1)
        validation.integer("max_depth", max_depth, low=1)
        if self.terminates_at is not None:
            last = self.convergent(self.terminates_at - 1)
            if last.q == 0:
                raise NoLimit(f"{self}: terminates with a zero denominator")
            with flint.ctx.workdps(digits + 10):
                return flint.arb(last.fraction)
        if self.convergence == "none":
            raise NoLimit(f"{self}: does not converge, A² + 4B = {self.discriminant} and deg b = {len(self.b) - 1}")
        first, positive = self._tail_rule()
        depth = max(first, self._depth_for(digits))
        while True:
            if depth > max_depth:
                raise NoLimit(
                    f"{self}: {digits} digits need more than {max_depth} steps, convergence is {self.convergence}"
                )
            with flint.ctx.workdps(digits + 20):
                ball = self._enclosure(depth, positive)
                if ball.is_finite() and ball.rad() <= flint.arb(10) ** -digits * flint.arb(1).max(abs(ball.mid())):
                    return ball
            depth = 2 * depth

    def _tail_rule(self) -> tuple[int, bool]:
        """The depth from which a tail can be enclosed, and whether as positive terms."""
        a, b = self._a, self._b
        a, b_size = (a if self.a[0] > 0 else -a), (b if self.b[0] > 0 else -b)
        after = a(flint.fmpz_poly([1, 1]))
        own_sign, b_from = positive_from(a), positive_from(b_size)
        weighted = positive_from(a * (2 * a - after) - 4 * b_size + 1)  # integers: > -1 is ≥ 0
        assert own_sign is not None
        assert b_from is not None
        if weighted is not None:
            return max(own_sign, b_from, weighted), False
        if self.b[0] > 0:
            return max(own_sign, b_from), True
        raise NoLimit(f"{self}: converges too slowly for a certified tail, A² + 4B = {self.discriminant}")

    def _depth_for(self, digits: int) -> int:
        if self.convergence == "exponential":
            return math.ceil(digits * math.log(10) / math.log(abs(self.eigenvalue_ratio))) + 8
        return 32

    def _enclosure(self, depth: int, positive: bool) -> flint.arb:
        before, now = self.convergents([depth - 1, depth])
        partial_a, partial_b = self._a(depth + 1), self._b(depth + 1)
        if positive:
            half = flint.arb(partial_b) / (2 * partial_a)
            tail = half + flint.arb(0, abs(half).upper())
        else:
            tail = flint.arb(0, (flint.arb(abs(partial_a)) / 2).upper())
        # One fraction of the tail instead of two: L = p/q + (p' q - p q') f / (q (q + q' f)), each quantity once.
        determinant = before.p * now.q - now.p * before.q
        correction = flint.arb(determinant) / now.q * (tail / (now.q + before.q * tail))
        return flint.arb(flint.fmpq(now.p, now.q)) + correction if now.q else flint.arb.nan()

    # --- what its convergents say of irrationality

    def delta(self, depth: int, limit: flint.arb | None = None) -> flint.arb:
        r"""The irrationality exponent of the convergent at `depth`, as a rigorous ball.

        $$\delta_n = -1 - \frac{\log|L - p_n/q_n|}{\log\tilde q_n}, \qquad |L - p_n/q_n| = \tilde q_n^{-(1+\delta_n)}$$

        with $\tilde q_n$ the denominator in lowest terms. If $\delta_n \ge \varepsilon > 0$ for infinitely many
        distinct fractions, $L$ is irrational and its irrationality measure is at most $1 + 1/\varepsilon$.

        **Arguments**

        - `depth`: $n$.
        - `limit`: a ball around $L$; by default a certified one, precise enough.

        **Raises** `NoLimit` as `limit` does; `ValueError` if the limit given is not precise enough to tell it from the
        convergent, or the denominator is 1.
        """
        convergent = self.convergent(depth)
        size = convergent.reduced_denominator
        if size <= 1:
            raise ValueError(f"depth: the denominator at depth {depth} is {size}, so delta is not defined")
        if self.terminates_at is not None:
            raise NoLimit(f"{self}: its limit is rational, so delta is not defined")
        digits = int(2.5 * log(size) / math.log(10)) + 20
        if limit is None:
            limit = self.limit(digits)
        with flint.ctx.workdps(digits + 20):
            error = abs(limit - flint.arb(convergent.fraction))
            if error.contains(0):
                raise ValueError("limit: is not precise enough to tell it from the convergent")
            return -1 - error.log() / flint.arb(size).log()

    def factorial_reduction(self, depth: int) -> FactorialReduction:
        """How much of the factorial growth cancels at `depth` (at least 4); true where all of it does."""
        validation.integer("depth", depth, low=4)
        half, full = self.convergents([depth // 2, depth])
        factorial = self.degree * math.lgamma(depth + 1)
        before, now = (log(each.common_factor) / each.depth for each in (half, full))
        return FactorialReduction(
            depth,
            log(full.common_factor) / factorial if factorial else 1.0,
            log(full.reduced_denominator) / depth,
            self.degree - (now - before) / math.log(full.depth / half.depth),
        )
