"""Problem classes with their constants, and the real data to build them from."""

from tendsto.problems.base import Objective, Problem
from tendsto.problems.bilevel import BilevelFiniteSum, BilevelObjective, BilevelProblem, CoshBilevel
from tendsto.problems.bilevel_tasks import (
    ClassificationTask,
    HyperCleaning,
    HyperRepresentation,
    RegularisationSearch,
    corrupted,
    split_rows,
    zero_classifier,
)
from tendsto.problems.cutest import cutest_problem
from tendsto.problems.data import Dataset, dataset, read_svmlight
from tendsto.problems.elementary import DiagonalQuadratic, EuclideanNorm, LinearOnSimplex
from tendsto.problems.equality_constrained import (
    EqualityConstrained,
    PrimalDual,
    constrained_logistic_regression,
    elliptic_control,
)
from tendsto.problems.finite_sum import FiniteSum
from tendsto.problems.hock_schittkowski import hock_schittkowski
from tendsto.problems.inclusions import (
    Certificate,
    FiniteSumInclusion,
    GradientField,
    Inclusion,
    Operator,
    OperatorSum,
    ProximalSubproblem,
    Sampling,
)
from tendsto.problems.landscapes import GrandCanyon, Rastrigin
from tendsto.problems.linear_models import LeastSquares, LinearModel, LogisticRegression
from tendsto.problems.lower_bounds import LastIterateLowerBound
from tendsto.problems.matrix_sensing import MatrixSensing, random_low_rank
from tendsto.problems.measurements import (
    EntryMeasurements,
    GaussianMeasurements,
    IdentityMeasurements,
    LinearMeasurements,
    Measurements,
    isometry_distortion,
)
from tendsto.problems.network_surrogates import Surrogate, image_barycentre, path_counterfactual, wine_process
from tendsto.problems.networks import FrozenNetwork, NetworkProblem, freeze
from tendsto.problems.noise import Gaussian, Noise, ParetoTail, Rademacher, SubWeibull
from tendsto.problems.preference_games import PerturbedGame, PreferenceGame, SampledGame, kullback_leibler
from tendsto.problems.preferences import (
    AdditivePreferences,
    FunctionPreferences,
    LowRankPreferences,
    MatrixPreferences,
    Preferences,
    bradley_terry,
    circular_preferences,
    cyclic_preferences,
    random_preferences,
)
from tendsto.problems.regularisers import L1, Ball, Box, Regulariser, Simplex, SquaredL2, Zero
from tendsto.problems.saddle_points import (
    Audit,
    Blocks,
    ConstrainedQuadratic,
    Equilibrium,
    MatrixGame,
    audit,
    saddle_operator,
)
from tendsto.problems.separable import (
    LinearSeparation,
    MarginCertificate,
    batch_perceptron_worst_case,
    gaussian_separation,
    margin_certificate,
    misleading_loss_pair,
    weighted_margin_bound,
)
from tendsto.problems.stochastic import Minibatch, Noisy, Wrapped

__all__ = [
    "L1",
    "AdditivePreferences",
    "Audit",
    "Ball",
    "BilevelFiniteSum",
    "BilevelObjective",
    "BilevelProblem",
    "Blocks",
    "Box",
    "Certificate",
    "ClassificationTask",
    "ConstrainedQuadratic",
    "CoshBilevel",
    "Dataset",
    "DiagonalQuadratic",
    "EntryMeasurements",
    "EqualityConstrained",
    "Equilibrium",
    "EuclideanNorm",
    "FiniteSum",
    "FiniteSumInclusion",
    "FrozenNetwork",
    "FunctionPreferences",
    "Gaussian",
    "GaussianMeasurements",
    "GradientField",
    "GrandCanyon",
    "HyperCleaning",
    "HyperRepresentation",
    "IdentityMeasurements",
    "Inclusion",
    "LastIterateLowerBound",
    "LeastSquares",
    "LinearMeasurements",
    "LinearModel",
    "LinearOnSimplex",
    "LinearSeparation",
    "LogisticRegression",
    "LowRankPreferences",
    "MarginCertificate",
    "MatrixGame",
    "MatrixPreferences",
    "MatrixSensing",
    "Measurements",
    "Minibatch",
    "NetworkProblem",
    "Noise",
    "Noisy",
    "Objective",
    "Operator",
    "OperatorSum",
    "ParetoTail",
    "PerturbedGame",
    "PreferenceGame",
    "Preferences",
    "PrimalDual",
    "Problem",
    "ProximalSubproblem",
    "Rademacher",
    "Rastrigin",
    "RegularisationSearch",
    "Regulariser",
    "SampledGame",
    "Sampling",
    "Simplex",
    "SquaredL2",
    "SubWeibull",
    "Surrogate",
    "Wrapped",
    "Zero",
    "audit",
    "batch_perceptron_worst_case",
    "bradley_terry",
    "circular_preferences",
    "constrained_logistic_regression",
    "corrupted",
    "cutest_problem",
    "cyclic_preferences",
    "dataset",
    "elliptic_control",
    "freeze",
    "gaussian_separation",
    "hock_schittkowski",
    "image_barycentre",
    "isometry_distortion",
    "kullback_leibler",
    "margin_certificate",
    "misleading_loss_pair",
    "path_counterfactual",
    "random_low_rank",
    "random_preferences",
    "read_svmlight",
    "saddle_operator",
    "split_rows",
    "weighted_margin_bound",
    "wine_process",
    "zero_classifier",
]
