"""Irrationality exponents in every direction through a matrix field, at equal work: a table and a map."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import flint
import pandas as pd

from tendsto import validation
from tendsto.constants.continued_fractions import NoLimit
from tendsto.constants.matrix_fields import ConservativeMatrixField, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def primitive_directions(axes: int, largest: int) -> list[tuple[int, ...]]:
    """The integer directions without a common factor, with coordinates from 0 to `largest`."""
    validation.integer("axes", axes, low=1)
    validation.integer("largest", largest, low=1)
    return [each for each in itertools.product(range(largest + 1), repeat=axes) if math.gcd(*each) == 1]


def scan_directions(
    field: ConservativeMatrixField,
    *,
    largest: int = 3,
    steps: int = 240,
    start: Point | None = None,
    limit: flint.arb | None = None,
    directions: Sequence[Sequence[int]] | None = None,
    reduced: bool = True,
) -> pd.DataFrame:
    r"""The irrationality exponent $\delta_n$ along each primitive direction, after equally many unit steps.

    **Arguments**

    - `field`: a conservative field of rank at least 2.
    - `largest`: the largest coordinate of a direction; `directions` gives them one by one instead.
    - `steps`: unit steps along the path; direction $(s, t)$ is followed
      $n = \mathrm{round}(\mathrm{steps}/(s+t))$ times.
    - `start`: where all walks begin, by default all ones.
    - `limit`: a ball around the number that every direction is compared with. By default each direction's own certified
      limit; where that cannot be certified (the axes of many fields) $\delta$ is not a number.
    - `reduced`: whether denominators are in lowest terms, see `Trajectory.delta`.

    **Returns** a table with a column for each axis, `depth` ($n$), `digits` (of the denominator used) and `delta` (of
    which `Trajectory.delta` gives the rigorous ball), the best direction first.

    **Raises** as `ConservativeMatrixField.trajectory` does, `ValueError` if a walk has no steps or the limit given is
    not precise enough.
    """
    validation.integer("steps", steps, low=1)
    rows = []
    for direction in primitive_directions(len(field.axes), largest) if directions is None else directions:
        trajectory = field.trajectory(direction, start)
        depth = round(steps / sum(map(abs, direction)))
        if depth < 1:
            raise ValueError(f"steps: {steps} are not enough for one step in direction {tuple(direction)}")
        convergent = trajectory.convergent(depth)
        size = convergent.reduced_denominator if reduced else abs(convergent.q)
        try:
            delta = trajectory.delta(depth, limit, reduced=reduced)
            value = float(delta.mid())
        except NoLimit:
            value = math.nan
        rows.append((*direction, depth, len(str(int(size))), value))
    columns = [*map(str, field.axes), "depth", "digits", "delta"]
    return pd.DataFrame(rows, columns=columns).sort_values("delta", ascending=False, ignore_index=True)


def plot_scan(scan: pd.DataFrame, axes: Axes | None = None) -> Axes:
    r"""Draw a scan of two axes as a map: a square at each direction, coloured by $\delta$, framed where it is positive.

    **Arguments**: `scan`, from `scan_directions`; `axes`, Matplotlib's, by default new ones.

    **Returns** the axes.

    **Raises** `ValueError` for a scan of another number of axes.
    """
    names = list(scan.columns[: list(scan.columns).index("depth")])
    if len(names) != 2:
        raise ValueError(f"scan: a map needs two axes, got {len(names)}")
    if axes is None:
        from matplotlib.figure import Figure

        axes = Figure(layout="constrained").subplots()
    # Along the axes convergence is polynomial and δ near -1, which would leave no colour for the rest.
    inside = scan[(scan[names[0]] != 0) & (scan[names[1]] != 0)]
    span = max(float((inside if len(inside) else scan)["delta"].abs().max()), 1e-9)
    places = scan[names[0]].to_numpy(), scan[names[1]].to_numpy()
    frames = ["k" if positive else "none" for positive in scan["delta"] > 0]
    side = 9000 / (1 + max(place.max() for place in places)) ** 1.6
    drawn = axes.scatter(
        *places,
        c=scan["delta"],
        s=side,
        marker="s",
        cmap="RdBu",
        vmin=-span,
        vmax=span,
        edgecolors=frames,
        linewidths=1.8,
    )
    if len(scan) <= 30:
        for first, second, delta in zip(*places, scan["delta"], strict=True):
            # Dark squares take light figures.
            colour = "#ffffff" if abs(delta) > 0.6 * span else "#1a1c20"
            axes.annotate(f"{delta:.2f}", (first, second), ha="center", va="center", fontsize="x-small", color=colour)
    axes.figure.colorbar(drawn, ax=axes, label=r"$\delta$")
    axes.margins(0.15)
    axes.set(xlabel=f"steps along ${names[0]}$", ylabel=f"steps along ${names[1]}$", aspect="equal")
    axes.locator_params(integer=True)
    return axes
