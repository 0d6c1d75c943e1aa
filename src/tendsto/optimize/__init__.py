"""Methods for one machine."""

from tendsto.optimize.classifiers import BatchPerceptronClassifier, LogisticGDClassifier, PerceptronClassifier
from tendsto.optimize.extragradient import ExtraAnchoredGradient, Extragradient
from tendsto.optimize.factorized import FactorizedGradientDescent, error_lower_bound
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
from tendsto.optimize.perceptron import (
    BatchPerceptron,
    LogisticGradientDescent,
    NormalisedLogisticGradientDescent,
    Perceptron,
    iterations_to_separate,
    scale_by_inverse_mean_residual,
)
from tendsto.optimize.preconditioned import PreconditionedGradientDescent, ScaledGradientDescent, scale_by_gram
from tendsto.optimize.rescale import Rescale, RescaleAtPlateau, RescaleAtStep, RescaleBelowResidual, rebalance
from tendsto.optimize.resolvent_halpern import (
    ResolventHalpern,
    VarianceReducedForwardReflectedBackward,
    resolvent_residual,
)

__all__ = [
    "BatchPerceptron",
    "BatchPerceptronClassifier",
    "ExtraAnchoredGradient",
    "Extragradient",
    "FactorizedGradientDescent",
    "Halpern",
    "LogisticGDClassifier",
    "LogisticGradientDescent",
    "NormalisedLogisticGradientDescent",
    "Optax",
    "Perceptron",
    "PerceptronClassifier",
    "PreconditionedGradientDescent",
    "Rescale",
    "RescaleAtPlateau",
    "RescaleAtStep",
    "RescaleBelowResidual",
    "ResolventHalpern",
    "ScaledGradientDescent",
    "VarianceReducedForwardReflectedBackward",
    "VarianceReducedHalpern",
    "anchored_gradient",
    "certified_residual",
    "certify",
    "error_lower_bound",
    "harmonic_anchor",
    "iterations_to_separate",
    "page_estimate",
    "rebalance",
    "resolvent_residual",
    "scale_by_gram",
    "scale_by_inverse_mean_residual",
]
