"""Methods for one machine."""

from tendsto.optimize import schedules
from tendsto.optimize.bilevel import BilevelState, NormalisedBilevel, OracleCalls
from tendsto.optimize.bilevel_baselines import SABA, SOBA, TTSA, StocBiO
from tendsto.optimize.classifiers import BatchPerceptronClassifier, LogisticGDClassifier, PerceptronClassifier
from tendsto.optimize.epoch_sgd import EpochSGD
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
from tendsto.optimize.normalised_momentum import normalised_momentum
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
    "SABA",
    "SOBA",
    "TTSA",
    "BatchPerceptron",
    "BatchPerceptronClassifier",
    "BilevelState",
    "Entropy",
    "EpochSGD",
    "Euclidean",
    "ExtraAnchoredGradient",
    "Extragradient",
    "FactorizedGradientDescent",
    "Halpern",
    "LogisticGDClassifier",
    "LogisticGradientDescent",
    "MirrorDescent",
    "MirrorMap",
    "NormalisedBilevel",
    "NormalisedLogisticGradientDescent",
    "Optax",
    "OracleCalls",
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
    "StocBiO",
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
    "normalised_momentum",
    "optimal_base_step",
    "page_estimate",
    "proximal_sgd",
    "rebalance",
    "resolvent_residual",
    "scale_by_gram",
    "scale_by_inverse_mean_residual",
    "schedules",
]
