"""Problem classes with their constants, and the real data to build them from."""

from tendsto.problems.base import Objective, Problem
from tendsto.problems.data import Dataset, dataset, read_svmlight
from tendsto.problems.finite_sum import FiniteSum, Minibatch
from tendsto.problems.linear_models import LeastSquares, LinearModel, LogisticRegression
from tendsto.problems.matrix_sensing import MatrixSensing, random_low_rank
from tendsto.problems.measurements import (
    EntryMeasurements,
    GaussianMeasurements,
    IdentityMeasurements,
    LinearMeasurements,
    Measurements,
    isometry_distortion,
)
from tendsto.problems.regularisers import L1, Ball, Box, Regulariser, Simplex, SquaredL2, Zero

__all__ = [
    "L1",
    "Ball",
    "Box",
    "Dataset",
    "EntryMeasurements",
    "FiniteSum",
    "GaussianMeasurements",
    "IdentityMeasurements",
    "LeastSquares",
    "LinearMeasurements",
    "LinearModel",
    "LogisticRegression",
    "MatrixSensing",
    "Measurements",
    "Minibatch",
    "Objective",
    "Problem",
    "Regulariser",
    "Simplex",
    "SquaredL2",
    "Zero",
    "dataset",
    "isometry_distortion",
    "random_low_rank",
    "read_svmlight",
]
