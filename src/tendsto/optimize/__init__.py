"""Methods for one machine."""

from tendsto.optimize import schedules
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
from tendsto.optimize.nash_baselines import (
    ExtragradientPreferences,
    NashMirrorDescent,
    OptimisticMirrorDescent,
    RegularisedFictitiousPlay,
    SelfPlayMirrorDescent,
    SelfPlayPolicyGradient,
)
from tendsto.optimize.nash_mirror_prox import (
    MirrorProxBounds,
    NashMirrorProx,
    NashProx,
    mirror_prox_bounds,
    preference_prox,
    queries_to_divergence,
)
from tendsto.optimize.perceptron import (
    BatchPerceptron,
    LogisticGradientDescent,
    NormalisedLogisticGradientDescent,
    Perceptron,
    iterations_to_separate,
    scale_by_inverse_mean_residual,
)
from tendsto.optimize.policy_gradient_nash import (
    DeepNashMirrorProx,
    NetworkGame,
    StochasticNashMirrorProx,
    host_judge,
    nash_policy_gradient_loss,
    online_ipo_loss,
    split_network,
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
    "DeepNashMirrorProx",
    "Entropy",
    "Euclidean",
    "ExtraAnchoredGradient",
    "Extragradient",
    "ExtragradientPreferences",
    "FactorizedGradientDescent",
    "Halpern",
    "LogisticGDClassifier",
    "LogisticGradientDescent",
    "MirrorDescent",
    "MirrorMap",
    "MirrorProxBounds",
    "NashMirrorDescent",
    "NashMirrorProx",
    "NashProx",
    "NetworkGame",
    "NormalisedLogisticGradientDescent",
    "Optax",
    "OptimisticMirrorDescent",
    "Perceptron",
    "PerceptronClassifier",
    "Power",
    "PreconditionedGradientDescent",
    "RegularisedFictitiousPlay",
    "Rescale",
    "RescaleAtPlateau",
    "RescaleAtStep",
    "RescaleBelowResidual",
    "ResolventHalpern",
    "ScaledGradientDescent",
    "SelfPlayMirrorDescent",
    "SelfPlayPolicyGradient",
    "StochasticNashMirrorProx",
    "VarianceReducedForwardReflectedBackward",
    "VarianceReducedHalpern",
    "anchored_gradient",
    "certified_residual",
    "certify",
    "error_lower_bound",
    "harmonic_anchor",
    "heavy_tail_last_iterate_bound",
    "host_judge",
    "iterations_to_separate",
    "last_iterate_bound",
    "last_iterate_quantile_bound",
    "mirror_prox_bounds",
    "nash_policy_gradient_loss",
    "online_ipo_loss",
    "optimal_base_step",
    "page_estimate",
    "preference_prox",
    "proximal_sgd",
    "queries_to_divergence",
    "rebalance",
    "resolvent_residual",
    "scale_by_gram",
    "scale_by_inverse_mean_residual",
    "schedules",
    "split_network",
]
