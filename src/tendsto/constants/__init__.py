"""Formulas for mathematical constants: search, fields that unify them, and proofs where proofs are possible."""

from tendsto import extras

# Everything here computes with FLINT's exact integers and balls, and reads SymPy's expressions.
for _package in ("flint", "sympy"):
    extras.load(_package, extra="constants")

# ruff: noqa: E402
from tendsto.constants.anchors import ANCHORS, Anchor, arctangent, area_tangent, quadratic
from tendsto.constants.boxes import Box
from tendsto.constants.clustering import PLANES, FormulaClusterer, split_by_eigenvalue_ratio
from tendsto.constants.continued_fractions import PCF, Convergent, FactorialReduction, NoLimit
from tendsto.constants.dynamics import (
    Metrics,
    blind_delta,
    eigenvalue_ratio,
    metrics,
    metrics_part,
    metrics_table,
    predicted_delta,
)
from tendsto.constants.families import Conjecture, Family, conjecture, find_families, lean_statement
from tendsto.constants.identification import Identification, confirm, identify
from tendsto.constants.labelling import Cluster, Identifier, Labelling, label_clusters, limit_of
from tendsto.constants.library import LIBRARY, Constant
from tendsto.constants.screening import promising, screen
from tendsto.constants.search import Find, discover, search_part

__all__ = [
    "ANCHORS",
    "LIBRARY",
    "PCF",
    "PLANES",
    "Anchor",
    "Box",
    "Cluster",
    "Conjecture",
    "Constant",
    "Convergent",
    "FactorialReduction",
    "Family",
    "Find",
    "FormulaClusterer",
    "Identification",
    "Identifier",
    "Labelling",
    "Metrics",
    "NoLimit",
    "arctangent",
    "area_tangent",
    "blind_delta",
    "confirm",
    "conjecture",
    "discover",
    "eigenvalue_ratio",
    "find_families",
    "identify",
    "label_clusters",
    "lean_statement",
    "limit_of",
    "metrics",
    "metrics_part",
    "metrics_table",
    "predicted_delta",
    "promising",
    "quadratic",
    "screen",
    "search_part",
    "split_by_eigenvalue_ratio",
]
