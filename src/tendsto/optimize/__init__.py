"""Methods for one machine."""

from tendsto.optimize import private, schedules
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
from tendsto.optimize.last_iterate_bound import (
    heavy_tail_last_iterate_bound,
    last_iterate_bound,
    last_iterate_quantile_bound,
    optimal_base_step,
)
from tendsto.optimize.mirror_descent import MirrorDescent, proximal_sgd
from tendsto.optimize.mirror_maps import Entropy, Euclidean, MirrorMap, Power
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
    "Entropy",
    "Euclidean",
    "ExtraAnchoredGradient",
    "Extragradient",
    "FactorizedGradientDescent",
    "Halpern",
    "LogisticGDClassifier",
    "LogisticGradientDescent",
    "MirrorDescent",
    "MirrorMap",
    "NormalisedLogisticGradientDescent",
    "Optax",
    "Perceptron",
    "PerceptronClassifier",
    "Power",
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
    "heavy_tail_last_iterate_bound",
    "iterations_to_separate",
    "last_iterate_bound",
    "last_iterate_quantile_bound",
    "optimal_base_step",
    "page_estimate",
    "private",
    "proximal_sgd",
    "rebalance",
    "resolvent_residual",
    "scale_by_gram",
    "scale_by_inverse_mean_residual",
    "schedules",
]
