"""What a run leaves behind: metrics and costs by step and seed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Array, PyTree
from numpy.typing import ArrayLike, NDArray

from tendsto.files import write_atomically
from tendsto.iteration.checkpoint import fingerprint
from tendsto.iteration.rates import Rate, fit_linear_rate, fit_power_law

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DIGITS = 16
COSTS = ("gradients", "evaluations", "proximal_steps", "rounds", "bits_up", "bits_down", "seconds")


@dataclass(frozen=True)
class Trace:
    """Metrics, costs and whether the iterate was finite, by `seed` and `step` (and by each varied hyper-parameter).

    **Arguments**

    - `dataset`: the `xarray.Dataset`; its variables are the metrics, the costs that were spent
      (`gradients`, `bits_up`, …) and `finite`.
    - `state`: the final states, a pytree whose leaves lead with the grid's points (if there is a grid)
      and then the seeds; `None` for a trace that was loaded or written by hand.
    - `problem`: what the method ran on, and `measures`: what each metric was computed by, so that traces of one
      problem can be told from others wherever they are stored.
    """

    dataset: xr.Dataset
    state: PyTree[Array] = None
    problem: Any = None
    measures: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_run(
        cls,
        recorded: Mapping[str, NDArray[Any]],
        *,
        steps: NDArray[np.int64],
        seeds: NDArray[Any],
        grid: Mapping[str, NDArray[Any]],
        state: PyTree[Array],
        label: str,
        problem: Any,
        measures: Mapping[str, Any],
    ) -> Trace:
        """Wrap arrays of shape `(steps, points of the grid, seeds, …)` as `run` records them."""
        names = [name.replace(".", "_") for name in grid]
        sizes = tuple(len(values) for values in grid.values())
        variables = {}
        for name, values in recorded.items():
            if name in COSTS and not values.any():
                continue
            shaped = values.reshape((len(steps), *sizes, len(seeds), *values.shape[3:]))
            extra = [f"{name}_{axis}" for axis in range(values.ndim - 3)]
            array = xr.DataArray(shaped, dims=("step", *names, "seed", *extra))
            variables[name] = array.transpose(*names, "seed", "step", *extra)
        coordinates = {"step": steps, "seed": seeds} | dict(zip(names, grid.values(), strict=True))
        return cls(xr.Dataset(variables, coordinates, {"method": label}), state, problem, measures)

    @classmethod
    def from_arrays(
        cls,
        steps: ArrayLike,
        values: Mapping[str, ArrayLike],
        *,
        label: str = "",
        problem: Any = None,
        measures: Mapping[str, Any] | None = None,
    ) -> Trace:
        """A trace written by an ordinary loop: each value has shape `(steps,)` or `(seeds, steps)`.

        `finite` is derived from the values unless it is among them; `problem` and `measures` are as in `Trace`.
        """
        step = np.asarray(steps)
        arrays = {name: np.atleast_2d(np.asarray(each)) for name, each in values.items()}
        for name, array in arrays.items():
            if array.shape[1:] != step.shape:
                raise ValueError(f"values: {name!r} has shape {array.shape}, expected (seeds, {step.size})")
        if "finite" not in arrays:
            arrays["finite"] = np.logical_and.reduce([np.isfinite(array) for array in arrays.values()])
        seeds = np.arange(max(len(array) for array in arrays.values()))
        return cls(
            xr.Dataset(
                {name: (("seed", "step"), array) for name, array in arrays.items()},
                {"step": step, "seed": seeds},
                {"method": label},
            ),
            problem=problem,
            measures=measures or {},
        )

    @property
    def x(self) -> PyTree[Array]:
        """The last iterate of every run."""
        return None if self.state is None else self.state.x

    @property
    def diverged(self) -> xr.DataArray:
        """Whether each run's iterate was not finite at some recorded step."""
        return ~self.dataset["finite"].all("step")

    @property
    def spent(self) -> tuple[str, ...]:
        """The names of the costs that were counted."""
        return tuple(name for name in COSTS if name in self.dataset)

    def __getitem__(self, metric: str) -> xr.DataArray:
        if metric not in self.dataset and metric not in self.dataset.coords:
            raise KeyError(f"{metric!r} was not recorded; there are {', '.join(map(str, self.dataset))}")
        return self.dataset[metric]

    def sel(self, **hyperparameters: Any) -> Trace:
        """The runs at these values of varied hyper-parameters (the nearest ones), of seeds or of steps."""
        labels = {name: value for name, value in hyperparameters.items() if np.issubdtype(self[name].dtype, np.number)}
        others = {name: value for name, value in hyperparameters.items() if name not in labels}
        chosen = self.dataset.sel(others).sel(labels, method="nearest" if labels else None)
        return Trace(chosen, problem=self.problem, measures=self.measures)

    def final(self, metric: str) -> NDArray[Any]:
        """`metric` at the last step, by seed."""
        return np.asarray(self[metric].isel(step=-1))

    def rate(
        self,
        metric: str,
        *,
        kind: Literal["power", "linear"] = "power",
        against: str = "step",
        window: tuple[float, float] | None = None,
        confidence: float = 0.95,
    ) -> Rate:
        """Fit how the mean of `metric` over seeds falls with steps, or with what was spent.

        **Arguments**

        - `metric`: a recorded metric.
        - `kind`: `"power"` (see `fit_power_law`) or `"linear"` (see `fit_linear_rate`).
        - `against`: `"step"`, or a cost such as `"gradients"`, whose mean over seeds is the abscissa.
        - `window`, `confidence`: as in those functions.

        **Raises** `KeyError` for a metric that was not recorded, `ValueError` if a grid was run and no
        point of it was chosen with `sel`.
        """
        values = self._by_seed(metric)
        abscissa = self["step"].values if against == "step" else self._by_seed(against).mean(axis=0)
        fit = {"power": fit_power_law, "linear": fit_linear_rate}[kind]
        return fit(abscissa, values, window=window, confidence=confidence)

    def plot(
        self,
        metric: str,
        *,
        against: str = "step",
        ax: Axes | None = None,
        label: str | None = None,
        **style: Any,
    ) -> Axes:
        """Draw the mean of `metric` over seeds, and the band between its smallest and largest, on logarithmic axes.

        **Arguments**

        - `metric`: a recorded metric; `against`: `"step"` or a cost.
        - `ax`: Matplotlib axes to draw in; by default new ones.
        - `label`: the line's name in the legend, by default the method's.
        - `style`: passed on to `Axes.plot`.

        **Returns** the axes.
        """
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(figsize=(6, 4), layout="constrained").subplots()
        values = self._by_seed(metric)
        abscissa = self["step"].values if against == "step" else self._by_seed(against).mean(axis=0)
        (line,) = ax.plot(abscissa, values.mean(axis=0), label=label or self.dataset.attrs.get("method"), **style)
        if len(values) > 1:
            ax.fill_between(
                abscissa,
                values.min(axis=0),
                values.max(axis=0),
                color=line.get_color(),
                alpha=0.2,
                linewidth=0,
            )
        ax.set(xscale="log", yscale="log", xlabel=against.replace("_", " "), ylabel=metric.replace("_", " "))
        return ax

    def to_xarray(self) -> xr.Dataset:
        """The data as an `xarray.Dataset`."""
        return self.dataset

    def to_dataframe(self) -> pd.DataFrame:
        """The data as a table, one row for each seed and step.

        Its `attrs` name the `dimensions`; where the problem is known, also the `problem` by its class and a digest of
        its data and code, and the `measures` by a digest each: equal digests say the same problem, the same measure.
        """
        frame = self.dataset.to_dataframe().reset_index()
        frame.attrs["dimensions"] = [str(name) for name in self.dataset.sizes]
        if self.problem is not None:
            frame.attrs["problem"] = f"{type(self.problem).__name__}-{fingerprint(self.problem)[:_DIGITS]}"
            frame.attrs["measures"] = {name: fingerprint(it)[:_DIGITS] for name, it in self.measures.items()}
        return frame

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the table to a Parquet file, atomically."""
        with write_atomically(path) as stream:
            self.to_dataframe().to_parquet(stream, index=False)

    def _by_seed(self, metric: str) -> NDArray[np.float64]:
        array = self[metric]
        if left := [str(dim) for dim in array.dims if dim not in ("seed", "step")]:
            raise ValueError(f"{metric}: choose a value of {', '.join(left)} with sel() first")
        return np.atleast_2d(np.asarray(array, dtype=np.float64))
