"""Methods for one machine."""

from tendsto.optimize.classifiers import BatchPerceptronClassifier, LogisticGDClassifier, PerceptronClassifier
from tendsto.optimize.factorized import FactorizedGradientDescent, error_lower_bound
from tendsto.optimize.gradient import Optax
from tendsto.optimize.perceptron import BatchPerceptron, LogisticGradientDescent, NormalisedLogisticGradientDescent, Perceptron, iterations_to_separate, scale_by_inverse_mean_residual
from tendsto.optimize.preconditioned import PreconditionedGradientDescent, ScaledGradientDescent, scale_by_gram
from tendsto.optimize.rescale import Rescale, RescaleAtPlateau, RescaleAtStep, RescaleBelowResidual, rebalance

__all__ = [
    "BatchPerceptron",
    "BatchPerceptronClassifier",
    "FactorizedGradientDescent",
    "LogisticGDClassifier",
    "LogisticGradientDescent",
    "NormalisedLogisticGradientDescent",
    "Optax",
    "Perceptron",
    "PerceptronClassifier",
    "PreconditionedGradientDescent",
    "Rescale",
    "RescaleAtPlateau",
    "RescaleAtStep",
    "RescaleBelowResidual",
    "ScaledGradientDescent",
    "error_lower_bound",
    "iterations_to_separate",
    "rebalance",
    "scale_by_gram",
    "scale_by_inverse_mean_residual",
]
