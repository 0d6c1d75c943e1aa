"""Methods for one machine."""

from tendsto.optimize.classifiers import BatchPerceptronClassifier, LogisticGDClassifier, PerceptronClassifier
from tendsto.optimize.gradient import Optax
from tendsto.optimize.perceptron import (
    BatchPerceptron,
    LogisticGradientDescent,
    NormalisedLogisticGradientDescent,
    Perceptron,
    iterations_to_separate,
    scale_by_inverse_mean_residual,
)

__all__ = [
    "BatchPerceptron",
    "BatchPerceptronClassifier",
    "LogisticGDClassifier",
    "LogisticGradientDescent",
    "NormalisedLogisticGradientDescent",
    "Optax",
    "Perceptron",
    "PerceptronClassifier",
    "iterations_to_separate",
    "scale_by_inverse_mean_residual",
]
