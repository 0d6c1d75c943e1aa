"""Walks through a matrix field in one direction: exact convergents, rigorous limits, irrationality exponents."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import flint
import sympy

from tendsto import validation
from tendsto.constants.continued_fractions import PCF, Convergent, NoLimit
from tendsto.constants.moebius import Moebius
from tendsto.constants.polynomials import log
from tendsto.constants.rational_matrices import RationalMatrix, SingularStep, context

K = sympy.Symbol("k")
"""The variable of a trajectory matrix: the number of steps taken before."""

_RING = context([K])
_GROUP = 4  # matrices multiplied as polynomials before they are evaluated: half the time, measured, up to 8 alike
_LONG = 64  # steps from which that pays


class Trajectory:
    r"""The product $T(0)\,T(1) \cdots T(n-1)$ of a square matrix $T(k)$ of rational functions.

    $T$ is kept as a primitive matrix of integer polynomials, times one rational function. The function scales a product
    and leaves its quotients alone, so the convergents are those of the primitive matrix: with $\Pi_n$ its product,

    $$\frac{p_n}{q_n} = \frac{(\Pi_n)_{0,r-1}}{(\Pi_n)_{1,r-1}},$$

    the quotient of the first two rows in the last of $r$ columns.

    **Arguments**

    - `matrix`: a SymPy matrix of rational functions in the symbol `k`, at least 2 by 2.

    **Raises** `TypeError` or `ValueError` for anything else, or a matrix of zeros.

    **Source**: R. Elimelech et al., "Algorithm-assisted discovery of an intrinsic order among mathematical constants",
    arXiv:2308.11829.
    """

    def __init__(self, matrix: Any) -> None:
        found = matrix if isinstance(matrix, RationalMatrix) else RationalMatrix.from_sympy("matrix", matrix, [K])
        if found.rank < 2:
            raise ValueError("matrix: must have at least two rows, for a quotient of two")
        self._step = found
        content = _RING.from_dict({})
        for entry in found.flat:
            content = content.gcd(entry)
        if content.is_zero():
            raise ValueError("matrix: must not be zero")
        self._primitive, factor = _primitive([entry / content for entry in found.flat])
        common = content.gcd(found.denominator)
        (above,), upper = _primitive([content / common])
        (below,), lower = _primitive([found.denominator / common])
        # T(k) is the primitive matrix times factor · above(k) / below(k).
        self._scale = factor * upper / lower, above, below

    @property
    def rank(self) -> int:
        """The number of rows of $T$."""
        return self._step.rank

    @cached_property
    def matrix(self) -> sympy.ImmutableMatrix:
        """$T(k)$ as a SymPy matrix in the symbol `k`, factored."""
        return self._step.to_sympy([K]).applyfunc(sympy.factor)

    def __repr__(self) -> str:
        return f"Trajectory({self.matrix.tolist()})"

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle T(k) = {sympy.latex(self.matrix)}$"

    # --- products

    def product(self, steps: int) -> flint.fmpq_mat:
        r"""$T(0) \cdots T(n-1)$, exactly.

        **Raises** `SingularStep` if one of the factors has a pole.
        """
        validation.integer("steps", steps, low=0)
        factor, above, below = self._scale
        poles = _tree([below], 1, 0, steps)[0, 0]
        if poles == 0:
            pole = next(k for k in range(steps) if below(k) == 0)
            raise SingularStep(f"the step from k = {pole} is singular")
        scale = flint.fmpq(_tree([above], 1, 0, steps)[0, 0], poles) * factor**steps
        return flint.fmpq_mat(self._product(0, steps)) * scale

    def _product(self, start: int, stop: int) -> flint.fmpz_mat:
        """The product of the primitive matrices at `start`, …, `stop` - 1."""
        if stop - start < _LONG:
            return _tree(self._primitive, self.rank, start, stop)
        first, last = -(-start // _GROUP), stop // _GROUP
        head = _tree(self._primitive, self.rank, start, _GROUP * first)
        body = _tree(self._grouped, self.rank, first, last)
        return head * body * _tree(self._primitive, self.rank, _GROUP * last, stop)

    @cached_property
    def _grouped(self) -> list[flint.fmpz_poly]:
        """The product of the primitive matrices at $gk$, …, $gk + g - 1$ as polynomials in $k$."""
        rank, total = self.rank, [flint.fmpz_poly([each]) for each in _identity(self.rank)]
        for offset in range(_GROUP):
            step = [entry(flint.fmpz_poly([offset, _GROUP])) for entry in self._primitive]
            total = [
                sum((total[i + m] * step[m * rank + j] for m in range(rank)), flint.fmpz_poly())
                for i in range(0, rank * rank, rank)
                for j in range(rank)
            ]
        return total

    def convergents(self, depths: Iterable[int]) -> list[Convergent]:
        """The convergents after `depths` steps, which must not decrease; the work is that of the deepest.

        **Raises** `ValueError` for negative or decreasing depths.
        """
        found, last = [], 0
        product = self._product(0, 0)
        for depth in depths:
            validation.integer("depths", depth, low=last)
            product = product * self._product(last, depth)
            found.append(Convergent(depth, product[0, self.rank - 1], product[1, self.rank - 1]))
            last = depth
        return found

    def convergent(self, depth: int) -> Convergent:
        """The convergent after `depth` steps."""
        return self.convergents([depth])[0]

    # --- the limit

    @cached_property
    def _companion(self) -> tuple[PCF, Moebius]:
        if self.rank != 2:
            raise ValueError(f"a continued fraction belongs to matrices of rank 2, not {self.rank}")
        p, q, r, s = self._primitive
        if not q:
            raise NoLimit("the upper right entry of the matrix is zero: every convergent is zero")
        shift = flint.fmpz_poly([-1, 1])
        earlier = [entry(shift) for entry in (p, q, r, s)]
        determinant = earlier[0] * earlier[3] - earlier[1] * earlier[2]
        a = earlier[1] * s + earlier[0] * q
        b = -earlier[1](shift) * q * determinant
        a, b, deflation = _deflate(a, b)
        common = earlier[1].gcd(deflation)
        inflation = earlier[1] / common, deflation / common
        first = max((root + 1 for each in (q, *inflation) for root in _roots_from_zero(each)), default=0)
        ahead = flint.fmpz_poly([first, 1])
        head = self._product(0, first)
        scale = flint.fmpq(inflation[0](first), inflation[1](first))
        pcf = PCF(a(ahead), b(ahead))
        tail = Moebius(0, q(first) * scale, 1, s(first) * scale - a(first))
        return pcf, Moebius(*head.entries()) @ tail

    def to_pcf(self) -> tuple[PCF, Moebius]:
        r"""A continued fraction and the map that takes its limit to the limit of the trajectory.

        With $T = \begin{pmatrix} p & q\\ r & s\end{pmatrix}$ the last column of the product obeys

        $$u_{k+1} = \Bigl(s(k) + p(k-1)\frac{q(k)}{q(k-1)}\Bigr) u_k - \frac{q(k) \det T(k-1)}{q(k-1)}\,u_{k-1}.$$

        Multiplied by $c(k)$ and $c(k)c(k-1)$ the coefficients are integer polynomials $a(k)$, $b(k)$: $c = q(k-1)$
        achieves that, and common factors $e(k)$ of $a(k)$ with $e(k)e(k-1)$ in $b(k)$ are taken out again. The limits
        are related by $x \mapsto q(0)c(0) / (x + s(0)c(0) - a(0))$. Where $q$ or $c$ has a zero at some $k \ge 0$ the
        fraction begins after it, and the map includes the steps before.

        **Raises** `ValueError` for a rank other than 2, `NoLimit` if $q$ is zero.
        """
        return self._companion

    def limit(self, digits: int, *, max_depth: int = 100_000) -> flint.arb:
        r"""A ball that provably contains $\lim p_n/q_n$, with a radius of at most $10^{-\mathrm{digits}}\max(1, |L|)$.

        It is the image of the ball of the continued fraction of `to_pcf`, for which see `PCF.limit`.

        **Raises** `NoLimit` if the limit is infinite, or cannot be certified (along the axes of many fields convergence
        is only polynomial).
        """
        pcf, moebius = self.to_pcf()
        for extra in (10, 40, 160, 640):
            ball = pcf.limit(digits + extra, max_depth=max_depth)
            with flint.ctx.workdps(digits + extra + 20):
                image: flint.arb = moebius(ball)
                if image.is_finite() and image.rad() <= flint.arb(10) ** -digits * flint.arb(1).max(abs(image.mid())):
                    return image
        raise NoLimit(f"no finite limit: {moebius} has a pole within the ball around {float(ball.mid()):.6g}")

    # --- what the convergents say of irrationality

    def delta(self, depth: int, limit: flint.arb | None = None, *, reduced: bool = True) -> flint.arb:
        r"""The irrationality exponent after `depth` steps, as a rigorous ball.

        $$\delta_n = -1 - \frac{\log|L - p_n/q_n|}{\log\tilde q_n}$$

        **Arguments**

        - `depth`: $n$.
        - `limit`: a ball around $L$; by default the certified limit, precise enough.
        - `reduced`: whether $\tilde q_n$ is the denominator in lowest terms, or $|q_n|$ as the product leaves it.

        **Raises** `NoLimit` as `limit` does; `ValueError` if the limit given is not precise enough to tell it from the
        convergent, or the denominator is at most 1.
        """
        return self.deltas([depth], limit, reduced=reduced)[0]

    def deltas(self, depths: Sequence[int], limit: flint.arb | None = None, *, reduced: bool = True) -> list[flint.arb]:
        """The exponents at several depths, which must not decrease; see `delta`."""
        convergents = self.convergents(depths)
        sizes = [each.reduced_denominator if reduced else abs(each.q) for each in convergents]
        for each, size in zip(convergents, sizes, strict=True):
            if size <= 1:
                raise ValueError(f"depth: the denominator at depth {each.depth} is {size}, so delta is not defined")
        digits = int(2.5 * max(map(log, sizes), default=0.0) / math.log(10)) + 20
        ball = self.limit(digits) if limit is None else limit
        found = []
        with flint.ctx.workdps(digits + 20):
            for each, size in zip(convergents, sizes, strict=True):
                error = abs(ball - flint.arb(each.fraction))
                if error.contains(0):
                    raise ValueError("limit: is not precise enough to tell it from the convergent")
                found.append(-1 - error.log() / flint.arb(size).log())
        return found

    def irrationality(
        self, depths: Sequence[int], limit: flint.arb | None = None, *, reduced: bool = True
    ) -> Irrationality:
        """Whether the convergents at `depths` come close enough, for their denominators, to an irrational limit."""
        deltas = self.deltas(depths, limit, reduced=reduced)
        return Irrationality(tuple(depths), tuple(deltas))


@dataclass(frozen=True)
class Irrationality:
    r"""Exponents $\delta_n$ at finitely many depths, against the criterion of irrationality.

    If $\delta_n \ge \varepsilon > 0$ for infinitely many distinct fractions, their limit is irrational with a measure
    of at most $1 + 1/\varepsilon$. Finitely many exponents are evidence; a proof needs a bound for all $n$.

    **Arguments**: `depths`, `deltas` (rigorous balls).
    """

    depths: tuple[int, ...]
    deltas: tuple[flint.arb, ...]

    def __bool__(self) -> bool:
        """Whether every exponent is certainly positive."""
        return all(delta > 0 for delta in self.deltas)

    @property
    def measure(self) -> flint.arb:
        """The bound $1 + 1/\\varepsilon$ that the least of these exponents would give.

        **Raises** `ValueError` unless every exponent is positive: then the fractions show nothing.
        """
        for depth, delta in zip(self.depths, self.deltas, strict=True):
            if not delta > 0:
                raise ValueError(
                    f"no evidence of irrationality: δ is {float(delta.mid()):.6g} at depth {depth}. "
                    "Were the denominators reduced?"
                )
        least = self.deltas[0]
        for delta in self.deltas[1:]:
            least = least.min(delta)
        return 1 + 1 / least


def _identity(rank: int) -> list[int]:
    return [int(i == j) for i in range(rank) for j in range(rank)]


def _tree(entries: Sequence[flint.fmpz_poly], rank: int, start: int, stop: int) -> flint.fmpz_mat:
    """The product of a matrix of polynomials at `start`, …, `stop` - 1, by binary splitting."""
    if stop - start <= 1:
        return flint.fmpz_mat(rank, rank, [each(start) for each in entries] if stop > start else _identity(rank))
    middle = (start + stop) // 2
    return _tree(entries, rank, start, middle) * _tree(entries, rank, middle, stop)


def _primitive(polynomials: Sequence[flint.fmpq_mpoly]) -> tuple[list[flint.fmpz_poly], flint.fmpq]:
    """Integer polynomials without a common integer factor, and the number that multiplies them."""
    found = [{int(powers[0]): each for powers, each in entry.to_dict().items()} for entry in polynomials]
    units = math.lcm(*(int(each.q) for entry in found for each in entry.values()))
    divisor = math.gcd(*(int((each * units).p) for entry in found for each in entry.values()))
    factor = flint.fmpq(divisor, units)
    whole = [
        flint.fmpz_poly(
            [int((entry.get(power, flint.fmpq(0)) / factor).p) for power in range(max(entry, default=-1) + 1)]
        )
        for entry in found
    ]
    return whole, factor


def _roots_from_zero(polynomial: flint.fmpz_poly) -> list[int]:
    """The integers $k \\ge 0$ with $p(k) = 0$."""
    roots = [
        -int(each[0]) // int(each[1])
        for each, _ in polynomial.factor()[1]
        if each.degree() == 1 and each[0] % each[1] == 0
    ]
    return [root for root in roots if root >= 0]


def _deflate(a: flint.fmpz_poly, b: flint.fmpz_poly) -> tuple[flint.fmpz_poly, flint.fmpz_poly, flint.fmpz_poly]:
    """Divide $a(k)$ by $e(k)$ and $b(k)$ by $e(k)e(k-1)$ as far as possible, and return $e$ too."""
    removed = flint.fmpz_poly([1])
    number, factors = a.gcd(b).factor()
    candidates = [each for each, power in factors for _ in range(power)]
    candidates += [flint.fmpz_poly([int(prime)]) for prime, power in number.factor() for _ in range(power)]
    for each in candidates:
        pair = each * each(flint.fmpz_poly([-1, 1]))
        quotient, rest = divmod(b, pair)
        if not rest and quotient * pair == b:
            a, b, removed = a / each, quotient, removed * each
    return a, b, removed
