"""Square matrices of rational functions, exactly: SymPy's expressions in and out, FLINT's polynomials inside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Rational
from typing import Any

import flint
import sympy

Entries = tuple[tuple[Any, ...], ...]  # FLINT's polynomials, row by row


class SingularStep(ZeroDivisionError):
    """A step of a walk has no matrix: a pole of its entries, or the inverse of a singular matrix."""


def rational(name: str, value: Any) -> flint.fmpq:
    """An exact rational number from an integer, a fraction, or a SymPy or FLINT rational.

    **Raises** `TypeError` for anything else; a float has no exact value.
    """
    if isinstance(value, flint.fmpq):
        return value
    if isinstance(value, (Integral, flint.fmpz, sympy.Integer)) and not isinstance(value, bool):
        return flint.fmpq(int(value))
    if isinstance(value, (Rational, sympy.Rational)):
        exact = Fraction(int(value.numerator), int(value.denominator))
        return flint.fmpq(exact.numerator, exact.denominator)
    raise TypeError(f"{name}: expected an exact rational number, got {value!r}")


def to_rational(value: flint.fmpq) -> sympy.Rational:
    """The SymPy number of the same value."""
    return sympy.Rational(int(value.p), int(value.q))


def context(symbols: Sequence[sympy.Symbol]) -> flint.fmpq_mpoly_ctx:
    """The ring of polynomials in `symbols`."""
    return flint.fmpq_mpoly_ctx.get(tuple(map(str, symbols)), "lex")


def to_expression(polynomial: flint.fmpq_mpoly, symbols: Sequence[sympy.Symbol]) -> sympy.Expr:
    """The SymPy expression of the same polynomial."""
    terms = {tuple(map(int, powers)): to_rational(each) for powers, each in polynomial.to_dict().items()}
    return sympy.Poly.from_dict(terms, *symbols, domain="QQ").as_expr() if terms else sympy.S.Zero


@dataclass(frozen=True, eq=False)
class RationalMatrix:
    """A square matrix of rational functions over one denominator.

    **Arguments**: `numerators`, rows of FLINT polynomials; `denominator`, a polynomial of the same ring, not zero.
    """

    numerators: Entries
    denominator: flint.fmpq_mpoly

    @classmethod
    def from_sympy(cls, name: str, value: Any, symbols: Sequence[sympy.Symbol]) -> RationalMatrix:
        """Read a SymPy matrix, or nested lists, of rational functions in `symbols` with rational coefficients.

        **Raises** `TypeError` for floats and for what is no rational function, `ValueError` for a matrix not square.
        """
        try:
            matrix = sympy.Matrix(value)
        except (TypeError, ValueError):
            raise TypeError(f"{name}: expected a matrix, got {value!r}") from None
        if matrix.rows != matrix.cols or not matrix.rows:
            raise ValueError(f"{name}: must be a square matrix, got {matrix.rows} by {matrix.cols}")
        ring = context(symbols)
        fractions = [_fraction(name, entry, symbols, ring) for entry in matrix]
        denominator = ring.constant(1)
        for _, own in fractions:
            denominator = denominator * (own / denominator.gcd(own))
        return cls(_rows([top * (denominator / own) for top, own in fractions]), denominator)

    @property
    def rank(self) -> int:
        """The number of rows."""
        return len(self.numerators)

    @property
    def flat(self) -> list[Any]:
        """The numerators, row after row."""
        return [entry for row in self.numerators for entry in row]

    def to_sympy(self, symbols: Sequence[sympy.Symbol]) -> sympy.ImmutableMatrix:
        """The matrix with entries in lowest terms."""
        denominator = to_expression(self.denominator, symbols)
        entries = [sympy.cancel(to_expression(each, symbols) / denominator) for each in self.flat]
        return sympy.ImmutableMatrix(self.rank, self.rank, entries)

    def over_integers(self) -> RationalMatrix:
        """The same matrix, numerators and denominator multiplied so that all coefficients are integers."""
        units = math.lcm(*(int(each.q) for part in (*self.flat, self.denominator) for each in part.coeffs()))
        return RationalMatrix(_rows([each * units for each in self.flat]), self.denominator * units)

    def compose(self, images: Sequence[flint.fmpq_mpoly], ring: flint.fmpq_mpoly_ctx) -> RationalMatrix:
        """Substitute a polynomial of `ring` for every variable.

        **Raises** `SingularStep` if the denominator becomes zero.
        """
        denominator = self.denominator.compose(*images, ctx=ring)
        if denominator.is_zero():
            raise SingularStep("the entries have a pole everywhere on this line")
        return RationalMatrix(_rows([each.compose(*images, ctx=ring) for each in self.flat]), denominator)

    def at(self, point: Sequence[flint.fmpq]) -> flint.fmpq_mat:
        """The value at a point.

        **Raises** `SingularStep` at a pole.
        """
        denominator = self.denominator(*point)
        if denominator == 0:
            raise SingularStep("the entries have a pole")
        return flint.fmpq_mat(self.rank, self.rank, [each(*point) / denominator for each in self.flat])

    def __matmul__(self, other: RationalMatrix) -> RationalMatrix:
        return RationalMatrix(_product(self.numerators, other.numerators), self.denominator * other.denominator)

    def inverse(self) -> RationalMatrix:
        """The inverse, by Faddeev and LeVerrier: divisions by integers only.

        **Raises** `SingularStep` if the determinant is zero.
        """
        rank, product = self.rank, self.numerators
        one = self.denominator.context().constant(1)
        cofactors: Entries = _rows([one * int(i == j) for i in range(rank) for j in range(rank)])
        for order in range(1, rank):
            mean = sum(product[i][i] for i in range(rank)) / order
            cofactors = _rows([product[i][j] - mean * int(i == j) for i in range(rank) for j in range(rank)])
            product = _product(self.numerators, cofactors)
        determinant = product[0][0]
        if determinant.is_zero():
            raise SingularStep("the determinant is zero")
        return RationalMatrix(_rows([each * self.denominator for row in cofactors for each in row]), determinant)


def _product(left: Entries, right: Entries) -> Entries:
    columns = list(zip(*right, strict=True))
    return tuple(tuple(sum(a * b for a, b in zip(row, column, strict=True)) for column in columns) for row in left)


def _rows(entries: Sequence[Any]) -> Entries:
    rank = math.isqrt(len(entries))
    return tuple(tuple(entries[start : start + rank]) for start in range(0, len(entries), rank))


def _fraction(
    name: str, entry: sympy.Expr, symbols: Sequence[sympy.Symbol], ring: flint.fmpq_mpoly_ctx
) -> tuple[flint.fmpq_mpoly, flint.fmpq_mpoly]:
    if entry.has(sympy.Float):
        raise TypeError(f"{name}: the entry {entry} holds a float, which has no exact value; write a fraction")
    parts = []
    for part in sympy.fraction(sympy.cancel(entry)):
        try:
            polynomial = sympy.Poly(part, *symbols)
        except sympy.PolynomialError:
            raise TypeError(f"{name}: the entry {entry} is no rational function") from None
        if not (polynomial.domain.is_ZZ or polynomial.domain.is_QQ):
            raise TypeError(f"{name}: the entry {entry} has coefficients that are not rational numbers")
        parts.append(ring.from_dict({powers: rational(name, each) for powers, each in polynomial.terms()}))
    return parts[0], parts[1]
