"""Real data sets that come with scikit-learn, and svmlight files from disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import sklearn.datasets
from numpy.typing import NDArray

_LOADERS = {
    "breast_cancer": sklearn.datasets.load_breast_cancer,
    "diabetes": sklearn.datasets.load_diabetes,
    "digits": sklearn.datasets.load_digits,
    "iris": sklearn.datasets.load_iris,
    "wine": sklearn.datasets.load_wine,
}


class Dataset(NamedTuple):
    """Features, shape `(n, d)`, and targets, shape `(n,)`."""

    features: NDArray[np.float64]
    targets: NDArray[Any]


def dataset(
    name: str, *, classes: Sequence[Any] | None = None, standardise: bool = True, intercept: bool = False
) -> Dataset:
    """A real data set that scikit-learn ships.

    **Arguments**

    - `name`: `breast_cancer`, `diabetes`, `digits`, `iris` or `wine`.
    - `classes`: keep only samples of these classes, `(3, 5)`.
    - `standardise`: shift and scale each feature to mean 0 and variance 1; constant features are dropped.
    - `intercept`: append a constant feature of ones.

    **Raises** `ValueError` for an unknown name or class.
    """
    if name not in _LOADERS:
        raise ValueError(f"name: {name!r} is not one of {', '.join(_LOADERS)}")
    features, targets = _LOADERS[name](return_X_y=True)
    if classes is not None:
        if missing := sorted(set(classes) - set(targets.tolist())):
            raise ValueError(f"classes: {name} has no class {missing[0]!r}")
        keep = np.isin(targets, list(classes))
        features, targets = features[keep], targets[keep]
    if standardise:
        features = features[:, features.std(axis=0) > 0]
        features = (features - features.mean(axis=0)) / features.std(axis=0)
    if intercept:
        features = np.column_stack([features, np.ones(len(features))])
    return Dataset(np.asarray(features, dtype=np.float64), targets)


def read_svmlight(path: str | os.PathLike[str]) -> Dataset:
    """Read a LIBSVM/svmlight file into dense arrays.

    **Raises** `OSError` if the file cannot be read, `ValueError` naming it if it is not in the format.
    """
    try:
        features, targets = sklearn.datasets.load_svmlight_file(os.fspath(path))
    except ValueError as error:
        raise ValueError(f"path: {os.fspath(path)} is not a svmlight file ({error})") from None
    if features.shape[0] == 0:
        raise ValueError(f"path: {os.fspath(path)} holds no samples")
    return Dataset(features.toarray(), targets)
