"""Problem classes with their constants, and the real data to build them from."""

from tendsto.problems.base import Objective, Problem
from tendsto.problems.regularisers import L1, Ball, Box, Regulariser, Simplex, SquaredL2, Zero

__all__ = ["L1", "Ball", "Box", "Objective", "Problem", "Regulariser", "Simplex", "SquaredL2", "Zero"]
