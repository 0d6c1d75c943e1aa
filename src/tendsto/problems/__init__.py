"""Problem classes with their constants, and the real data to build them from."""

from tendsto.problems.base import Objective, Problem
from tendsto.problems.data import Dataset, dataset, read_svmlight
from tendsto.problems.finite_sum import FiniteSum, Minibatch
from tendsto.problems.linear_models import LeastSquares, LinearModel, LogisticRegression
from tendsto.problems.regularisers import L1, Ball, Box, Regulariser, Simplex, SquaredL2, Zero
from tendsto.problems.separable import (
    LinearSeparation,
    MarginCertificate,
    batch_perceptron_worst_case,
    gaussian_separation,
    margin_certificate,
    misleading_loss_pair,
    weighted_margin_bound,
)

__all__ = [
    "L1",
    "Ball",
    "Box",
    "Dataset",
    "FiniteSum",
    "LeastSquares",
    "LinearModel",
    "LinearSeparation",
    "LogisticRegression",
    "MarginCertificate",
    "Minibatch",
    "Objective",
    "Problem",
    "Regulariser",
    "Simplex",
    "SquaredL2",
    "Zero",
    "batch_perceptron_worst_case",
    "dataset",
    "gaussian_separation",
    "margin_certificate",
    "misleading_loss_pair",
    "read_svmlight",
    "weighted_margin_bound",
]
