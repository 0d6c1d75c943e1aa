"""Differentially private optimisation; every guarantee is accounted for by dp-accounting.

Neighbouring data sets differ in one replaced record, unless stated otherwise. The noise is floating-point noise, which
is not hardened against attacks on its low bits, and what `tendsto.run` records about a run is not private.
"""

from tendsto.optimize.private.accounting import (
    PrivacySpent,
    Release,
    calibrate,
    poisson_release,
    privacy_spent,
    unit_noise,
    zcdp_epsilon,
    zcdp_rho,
)
from tendsto.optimize.private.classifier import PrivateLogisticRegression
from tendsto.optimize.private.estimators import RecordMean, private_spider
from tendsto.optimize.private.glm_projection import project_features, projection_dimension
from tendsto.optimize.private.method import PrivateMethod, PrivateResult, minimise
from tendsto.optimize.private.noisy_gradient import NoisyGradientDescent
from tendsto.optimize.private.recursive_regularization import (
    NoisyGradientSolver,
    PhasedSolver,
    RecursiveRegularization,
)
from tendsto.optimize.private.spiderboost import (
    PrivateSpiderBoost,
    SpiderBoostParameters,
    spiderboost_parameters,
    theorem_parameters,
)
from tendsto.optimize.private.tree_spider import TreeSpider, samples_per_round

__all__ = [
    "NoisyGradientDescent",
    "NoisyGradientSolver",
    "PhasedSolver",
    "PrivacySpent",
    "PrivateLogisticRegression",
    "PrivateMethod",
    "PrivateResult",
    "PrivateSpiderBoost",
    "RecordMean",
    "RecursiveRegularization",
    "Release",
    "SpiderBoostParameters",
    "TreeSpider",
    "calibrate",
    "minimise",
    "poisson_release",
    "privacy_spent",
    "private_spider",
    "project_features",
    "projection_dimension",
    "samples_per_round",
    "spiderboost_parameters",
    "theorem_parameters",
    "unit_noise",
    "zcdp_epsilon",
    "zcdp_rho",
]
