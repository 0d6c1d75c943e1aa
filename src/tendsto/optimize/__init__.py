"""Methods for one machine."""

from tendsto.optimize import schedules
from tendsto.optimize.classifiers import BatchPerceptronClassifier, LogisticGDClassifier, PerceptronClassifier
from tendsto.optimize.exact_augmented_lagrangian import ExactAugmentedLagrangian
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
from tendsto.optimize.inexact_sqp import inexact_sqp
from tendsto.optimize.last_iterate_bound import (
    heavy_tail_last_iterate_bound,
    last_iterate_bound,
    last_iterate_quantile_bound,
    optimal_base_step,
)
from tendsto.optimize.mirror_descent import MirrorDescent, proximal_sgd
from tendsto.optimize.mirror_maps import Entropy, Euclidean, MirrorMap, Power
from tendsto.optimize.newton_direction import inverse_square_forcing, residual_forcing
from tendsto.optimize.newton_system import NewtonStatus
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
from tendsto.optimize.sketched_newton import SketchedNewton
from tendsto.optimize.sketched_newton_minimize import sketched_newton
from tendsto.optimize.sketching import (
    CustomSketch,
    GaussianSketch,
    KaczmarzSketch,
    Sketch,
    SketchResult,
    SketchSolution,
    sketch_and_project,
)

__all__ = [
    "BatchPerceptron",
    "BatchPerceptronClassifier",
    "CustomSketch",
    "Entropy",
    "Euclidean",
    "ExactAugmentedLagrangian",
    "ExtraAnchoredGradient",
    "Extragradient",
    "FactorizedGradientDescent",
    "GaussianSketch",
    "Halpern",
    "KaczmarzSketch",
    "LogisticGDClassifier",
    "LogisticGradientDescent",
    "MirrorDescent",
    "MirrorMap",
    "NewtonStatus",
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
    "Sketch",
    "SketchResult",
    "SketchSolution",
    "SketchedNewton",
    "VarianceReducedForwardReflectedBackward",
    "VarianceReducedHalpern",
    "anchored_gradient",
    "certified_residual",
    "certify",
    "error_lower_bound",
    "harmonic_anchor",
    "heavy_tail_last_iterate_bound",
    "inexact_sqp",
    "inverse_square_forcing",
    "iterations_to_separate",
    "last_iterate_bound",
    "last_iterate_quantile_bound",
    "optimal_base_step",
    "page_estimate",
    "proximal_sgd",
    "rebalance",
    "residual_forcing",
    "resolvent_residual",
    "scale_by_gram",
    "scale_by_inverse_mean_residual",
    "schedules",
    "sketch_and_project",
    "sketched_newton",
]
