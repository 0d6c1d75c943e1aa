"""Problem classes with their constants, and the real data to build them from."""

from tendsto.problems.base import Objective, Problem
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
    "EntryMeasurements",
    "GaussianMeasurements",
    "IdentityMeasurements",
    "LinearMeasurements",
    "MatrixSensing",
    "Measurements",
    "Objective",
    "Problem",
    "Regulariser",
    "Simplex",
    "SquaredL2",
    "Zero",
    "isometry_distortion",
    "random_low_rank",
]
