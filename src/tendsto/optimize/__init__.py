"""Methods for one machine."""

from tendsto.optimize import schedules
from tendsto.optimize.gradient import Optax
from tendsto.optimize.last_iterate_bound import (
    heavy_tail_last_iterate_bound,
    last_iterate_bound,
    last_iterate_quantile_bound,
    optimal_base_step,
)
from tendsto.optimize.mirror_descent import MirrorDescent, proximal_sgd
from tendsto.optimize.mirror_maps import Entropy, Euclidean, MirrorMap, Power

__all__ = [
    "Entropy",
    "Euclidean",
    "MirrorDescent",
    "MirrorMap",
    "Optax",
    "Power",
    "heavy_tail_last_iterate_bound",
    "last_iterate_bound",
    "last_iterate_quantile_bound",
    "optimal_base_step",
    "proximal_sgd",
    "schedules",
]
