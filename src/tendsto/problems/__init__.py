"""Problem classes with their constants, and the real data to build them from."""

from tendsto.problems.base import Objective, Problem
from tendsto.problems.elementary import DiagonalQuadratic, EuclideanNorm, LinearOnSimplex
from tendsto.problems.lower_bounds import LastIterateLowerBound
from tendsto.problems.noise import Gaussian, Noise, ParetoTail, Rademacher, SubWeibull
from tendsto.problems.regularisers import L1, Ball, Box, Regulariser, Simplex, SquaredL2, Zero
from tendsto.problems.stochastic import Noisy, Wrapped

__all__ = [
    "L1",
    "Ball",
    "Box",
    "DiagonalQuadratic",
    "EuclideanNorm",
    "Gaussian",
    "LastIterateLowerBound",
    "LinearOnSimplex",
    "Noise",
    "Noisy",
    "Objective",
    "ParetoTail",
    "Problem",
    "Rademacher",
    "Regulariser",
    "Simplex",
    "SquaredL2",
    "SubWeibull",
    "Wrapped",
    "Zero",
]
