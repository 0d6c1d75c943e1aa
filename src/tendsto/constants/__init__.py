"""Formulas for mathematical constants: search, fields that unify them, and proofs where proofs are possible."""

from tendsto import extras

# Everything here computes with FLINT's exact integers and balls, and reads SymPy's expressions.
for _package in ("flint", "sympy"):
    extras.load(_package, extra="constants")

from tendsto.constants.continued_fractions import PCF, Convergent, FactorialReduction, NoLimit  # noqa: E402
from tendsto.constants.direction_scans import plot_scan, primitive_directions, scan_directions  # noqa: E402
from tendsto.constants.field_certificates import FieldCertificate, certify, field_development  # noqa: E402
from tendsto.constants.find_field import NoField, find_field  # noqa: E402
from tendsto.constants.known_fields import (  # noqa: E402
    KnownField,
    enclose,
    field_families,
    known_field,
    known_fields,
)
from tendsto.constants.matrix_fields import ConservativeMatrixField, NotConservative  # noqa: E402
from tendsto.constants.moebius import Moebius  # noqa: E402
from tendsto.constants.rational_matrices import SingularStep  # noqa: E402
from tendsto.constants.trajectories import Irrationality, Trajectory  # noqa: E402

__all__ = [
    "PCF",
    "ConservativeMatrixField",
    "Convergent",
    "FactorialReduction",
    "FieldCertificate",
    "Irrationality",
    "KnownField",
    "Moebius",
    "NoField",
    "NoLimit",
    "NotConservative",
    "SingularStep",
    "Trajectory",
    "certify",
    "enclose",
    "field_development",
    "field_families",
    "find_field",
    "known_field",
    "known_fields",
    "plot_scan",
    "primitive_directions",
    "scan_directions",
]
