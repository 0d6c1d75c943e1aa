"""Problem classes with their constants, and the real data to build them from."""

from tendsto.problems.base import Objective, Problem
from tendsto.problems.bounded_models import (
    BoundedHuber,
    BoundedLogistic,
    BoundedModel,
    BoundedSigmoid,
    HuberLocation,
    clip_rows,
)
from tendsto.problems.data import Dataset, dataset, read_svmlight
from tendsto.problems.elementary import DiagonalQuadratic, EuclideanNorm, LinearOnSimplex
from tendsto.problems.finite_sum import FiniteSum
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
from tendsto.problems.noise import Gaussian, Noise, ParetoTail, Rademacher, SubWeibull
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
    "Audit",
    "Ball",
    "Blocks",
    "BoundedHuber",
    "BoundedLogistic",
    "BoundedModel",
    "BoundedSigmoid",
    "Box",
    "Certificate",
    "ConstrainedQuadratic",
    "Dataset",
    "DiagonalQuadratic",
    "EntryMeasurements",
    "Equilibrium",
    "EuclideanNorm",
    "FiniteSum",
    "FiniteSumInclusion",
    "Gaussian",
    "GaussianMeasurements",
    "GradientField",
    "HuberLocation",
    "IdentityMeasurements",
    "Inclusion",
    "LastIterateLowerBound",
    "LeastSquares",
    "LinearMeasurements",
    "LinearModel",
    "LinearOnSimplex",
    "LinearSeparation",
    "LogisticRegression",
    "MarginCertificate",
    "MatrixGame",
    "MatrixSensing",
    "Measurements",
    "Minibatch",
    "Noise",
    "Noisy",
    "Objective",
    "Operator",
    "OperatorSum",
    "ParetoTail",
    "Problem",
    "ProximalSubproblem",
    "Rademacher",
    "Regulariser",
    "Sampling",
    "Simplex",
    "SquaredL2",
    "SubWeibull",
    "Wrapped",
    "Zero",
    "audit",
    "batch_perceptron_worst_case",
    "clip_rows",
    "dataset",
    "gaussian_separation",
    "isometry_distortion",
    "margin_certificate",
    "misleading_loss_pair",
    "random_low_rank",
    "read_svmlight",
    "saddle_operator",
    "weighted_margin_bound",
]
