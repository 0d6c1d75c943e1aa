"""Methods for one machine."""

from tendsto.optimize import private, schedules
from tendsto.optimize.annealing import InverseLogarithm
from tendsto.optimize.attacks import DirectionalAttack
from tendsto.optimize.bilevel import BilevelState, NormalisedBilevel, OracleCalls
from tendsto.optimize.bilevel_baselines import SABA, SOBA, TTSA, StocBiO
from tendsto.optimize.classifiers import BatchPerceptronClassifier, LogisticGDClassifier, PerceptronClassifier
from tendsto.optimize.consensus import ConsensusBased, ConsensusHopping, consensus_point, effective_sample_size
from tendsto.optimize.consensus_scipy import consensus_based
from tendsto.optimize.direct_search import cosine_measure, covering_direct_search, poll_basis
from tendsto.optimize.entropic_envelope import EntropicEnvelope
from tendsto.optimize.epoch_sgd import EpochSGD
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
from tendsto.optimize.langevin import AnnealedLangevin
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
from tendsto.optimize.network_search import (
    attack_search,
    hybrid_direct_search,
    projected_gradient_ascent,
    random_line_search,
)
from tendsto.optimize.newton_direction import inverse_square_forcing, residual_forcing
from tendsto.optimize.newton_system import NewtonStatus
from tendsto.optimize.normalised_momentum import normalised_momentum
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
    "SABA",
    "SOBA",
    "TTSA",
    "AnnealedLangevin",
    "BatchPerceptron",
    "BatchPerceptronClassifier",
    "BilevelState",
    "ConsensusBased",
    "ConsensusHopping",
    "CustomSketch",
    "DeepNashMirrorProx",
    "DirectionalAttack",
    "EntropicEnvelope",
    "Entropy",
    "EpochSGD",
    "Euclidean",
    "ExactAugmentedLagrangian",
    "ExtraAnchoredGradient",
    "Extragradient",
    "ExtragradientPreferences",
    "FactorizedGradientDescent",
    "GaussianSketch",
    "Halpern",
    "InverseLogarithm",
    "KaczmarzSketch",
    "LogisticGDClassifier",
    "LogisticGradientDescent",
    "MirrorDescent",
    "MirrorMap",
    "MirrorProxBounds",
    "NashMirrorDescent",
    "NashMirrorProx",
    "NashProx",
    "NetworkGame",
    "NewtonStatus",
    "NormalisedBilevel",
    "NormalisedLogisticGradientDescent",
    "Optax",
    "OptimisticMirrorDescent",
    "OracleCalls",
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
    "Sketch",
    "SketchResult",
    "SketchSolution",
    "SketchedNewton",
    "StocBiO",
    "StochasticNashMirrorProx",
    "VarianceReducedForwardReflectedBackward",
    "VarianceReducedHalpern",
    "anchored_gradient",
    "attack_search",
    "certified_residual",
    "certify",
    "consensus_based",
    "consensus_point",
    "cosine_measure",
    "covering_direct_search",
    "effective_sample_size",
    "error_lower_bound",
    "harmonic_anchor",
    "heavy_tail_last_iterate_bound",
    "host_judge",
    "hybrid_direct_search",
    "inexact_sqp",
    "inverse_square_forcing",
    "iterations_to_separate",
    "last_iterate_bound",
    "last_iterate_quantile_bound",
    "mirror_prox_bounds",
    "nash_policy_gradient_loss",
    "normalised_momentum",
    "online_ipo_loss",
    "optimal_base_step",
    "page_estimate",
    "poll_basis",
    "preference_prox",
    "private",
    "projected_gradient_ascent",
    "proximal_sgd",
    "queries_to_divergence",
    "random_line_search",
    "rebalance",
    "residual_forcing",
    "resolvent_residual",
    "scale_by_gram",
    "scale_by_inverse_mean_residual",
    "schedules",
    "sketch_and_project",
    "sketched_newton",
    "split_network",
]
