"""Formulas for mathematical constants: search, fields that unify them, and proofs where proofs are possible."""

from tendsto import extras

# Everything here computes with FLINT's exact integers and balls, and reads SymPy's expressions.
for _package in ("flint", "sympy"):
    extras.load(_package, extra="constants")

# ruff: noqa: E402
from tendsto.constants.boxes import Box
from tendsto.constants.continued_fractions import PCF, Convergent, FactorialReduction, NoLimit
from tendsto.constants.identification import Identification, confirm, identify
from tendsto.constants.library import LIBRARY, Constant
from tendsto.constants.screening import promising, screen
from tendsto.constants.search import Find, discover, search_part

__all__ = [
    "LIBRARY",
    "PCF",
    "Box",
    "Constant",
    "Convergent",
    "FactorialReduction",
    "Find",
    "Identification",
    "NoLimit",
    "confirm",
    "discover",
    "identify",
    "promising",
    "screen",
    "search_part",
]
