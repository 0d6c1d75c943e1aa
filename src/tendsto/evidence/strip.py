"""Place a prediction and a measurement side by side on one line, to be drawn as a small picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tendsto.evidence.finding import Check

_LOGARITHMIC_FROM = 50.0
_MARGIN = 0.15


@dataclass(frozen=True)
class Strip:
    """Positions from 0 (left) to 1 (right): the predicted `band`, the measured `interval` and the `value`.

    What is infinite lies at an end. `logarithmic` says how the line is ruled.
    """

    band: tuple[float, float]
    interval: tuple[float, float]
    value: float
    logarithmic: bool


def strip(check: Check) -> Strip | None:
    """The positions of `check` on a line that just holds all its finite numbers; None without a measurement.

    The line is logarithmic when all of them are positive and span a factor of 50 or more.
    """
    predicted, measured = check.predicted, check.measured
    ends = (predicted.low, predicted.high, measured.low, measured.high, measured.value)
    finite = [end for end in ends if math.isfinite(end)]
    if not finite or any(map(math.isnan, ends)):
        return None
    logarithmic = min(finite) > 0 and max(finite) / min(finite) >= _LOGARITHMIC_FROM
    low, high = (math.log(side) if logarithmic else side for side in (min(finite), max(finite)))
    margin = _MARGIN * (high - low) or 0.1 * abs(low) or 1.0

    def place(number: float) -> float:
        if math.isinf(number):
            return 0.0 if number < 0 else 1.0
        position = math.log(number) if logarithmic else number
        return (position - low + margin) / (high - low + 2 * margin)

    left, right, start, stop, value = map(place, ends)
    return Strip((left, right), (start, stop), value, logarithmic)
