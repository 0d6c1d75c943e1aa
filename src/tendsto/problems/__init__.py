"""Problem classes with their constants, and the real data to build them from."""

from tendsto.problems.base import Objective, Problem
from tendsto.problems.data import Dataset, dataset, read_svmlight
from tendsto.problems.finite_sum import FiniteSum, Minibatch
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

__all__ = [
    "L1",
    "Audit",
    "Ball",
    "Blocks",
    "Box",
    "Certificate",
    "ConstrainedQuadratic",
    "Dataset",
    "Equilibrium",
    "FiniteSum",
    "FiniteSumInclusion",
    "GradientField",
    "Inclusion",
    "LeastSquares",
    "LinearModel",
    "LogisticRegression",
    "MatrixGame",
    "Minibatch",
    "Objective",
    "Operator",
    "OperatorSum",
    "Problem",
    "ProximalSubproblem",
    "Regulariser",
    "Sampling",
    "Simplex",
    "SquaredL2",
    "Zero",
    "audit",
    "dataset",
    "read_svmlight",
    "saddle_operator",
]
