"""Methods for one machine."""

from tendsto.optimize.extragradient import ExtraAnchoredGradient, Extragradient
from tendsto.optimize.gradient import Optax
from tendsto.optimize.halpern import (
    Halpern,
    VarianceReducedHalpern,
    anchored_gradient,
    certified_residual,
    certify,
    harmonic_anchor,
    page_estimate,
)
from tendsto.optimize.resolvent_halpern import (
    ResolventHalpern,
    VarianceReducedForwardReflectedBackward,
    resolvent_residual,
)

__all__ = [
    "ExtraAnchoredGradient",
    "Extragradient",
    "Halpern",
    "Optax",
    "ResolventHalpern",
    "VarianceReducedForwardReflectedBackward",
    "VarianceReducedHalpern",
    "anchored_gradient",
    "certified_residual",
    "certify",
    "harmonic_anchor",
    "page_estimate",
    "resolvent_residual",
]
