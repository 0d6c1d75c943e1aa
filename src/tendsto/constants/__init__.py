"""Formulas for mathematical constants: search, fields that unify them, and proofs where proofs are possible."""

# ruff: noqa: E402
from tendsto import extras

# Everything here computes with FLINT's exact integers and balls, and reads SymPy's expressions.
for _package in ("flint", "sympy"):
    extras.load(_package, extra="constants")

from tendsto.constants.anchors import ANCHORS, Anchor, arctangent, area_tangent, quadratic
from tendsto.constants.boxes import Box
from tendsto.constants.clustering import PLANES, FormulaClusterer, reducing, split_by_eigenvalue_ratio
from tendsto.constants.continued_fractions import PCF, Convergent, FactorialReduction, NoLimit
from tendsto.constants.direction_scans import plot_scan, primitive_directions, scan_directions
from tendsto.constants.dynamics import (
    Metrics,
    blind_delta,
    build_metrics,
    eigenvalue_ratio,
    metrics,
    metrics_part,
    metrics_table,
    predicted_delta,
)
from tendsto.constants.families import Conjecture, Family, conjecture, find_families, lean_statement
from tendsto.constants.field_certificates import FieldCertificate, certify, field_development
from tendsto.constants.find_field import NoField, find_field
from tendsto.constants.identification import Identification, confirm, identify
from tendsto.constants.known_fields import KnownField, enclose, field_families, known_field, known_fields
from tendsto.constants.labelling import Cluster, Identifier, Labelling, label_clusters, limit_of
from tendsto.constants.library import LIBRARY, Constant
from tendsto.constants.matrix_fields import ConservativeMatrixField, NotConservative
from tendsto.constants.moebius import Moebius
from tendsto.constants.rational_matrices import SingularStep
from tendsto.constants.screening import promising, screen
from tendsto.constants.search import Find, discover, search_part
from tendsto.constants.trajectories import Irrationality, Trajectory

__all__ = [
    "ANCHORS",
    "LIBRARY",
    "PCF",
    "PLANES",
    "Anchor",
    "Box",
    "Cluster",
    "Conjecture",
    "ConservativeMatrixField",
    "Constant",
    "Convergent",
    "FactorialReduction",
    "Family",
    "FieldCertificate",
    "Find",
    "FormulaClusterer",
    "Identification",
    "Identifier",
    "Irrationality",
    "KnownField",
    "Labelling",
    "Metrics",
    "Moebius",
    "NoField",
    "NoLimit",
    "NotConservative",
    "SingularStep",
    "Trajectory",
    "arctangent",
    "area_tangent",
    "blind_delta",
    "build_metrics",
    "certify",
    "confirm",
    "conjecture",
    "discover",
    "eigenvalue_ratio",
    "enclose",
    "field_development",
    "field_families",
    "find_families",
    "find_field",
    "identify",
    "known_field",
    "known_fields",
    "label_clusters",
    "lean_statement",
    "limit_of",
    "metrics",
    "metrics_part",
    "metrics_table",
    "plot_scan",
    "predicted_delta",
    "primitive_directions",
    "promising",
    "quadratic",
    "reducing",
    "scan_directions",
    "screen",
    "search_part",
    "split_by_eigenvalue_ratio",
]
