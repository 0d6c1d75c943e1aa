"""Formulas for mathematical constants: search, fields that unify them, and proofs where proofs are possible."""

from tendsto import extras

# Everything here computes with FLINT's exact integers and balls, and reads SymPy's expressions.
for _package in ("flint", "sympy"):
    extras.load(_package, extra="constants")

from tendsto.constants.continued_fractions import PCF, Convergent, FactorialReduction, NoLimit  # noqa: E402

__all__ = ["PCF", "Convergent", "FactorialReduction", "NoLimit"]
