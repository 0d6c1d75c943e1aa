"""Sets of premises, kept as runs of consecutive numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray


class IndexSet:
    """An immutable set of numbers from 0 on, as sorted runs: what is accessible is mostly whole files.

    `len`, `in`, iteration in ascending order and `==` are those of a set; `numpy.asarray` gives the numbers.

    **Arguments**

    - `starts`, `stops`: the runs `[start, stop)`, in any order; they may touch and overlap, and be empty.
    """

    __slots__ = ("starts", "stops")

    def __init__(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        starts, stops = np.asarray(starts, dtype=np.int64), np.asarray(stops, dtype=np.int64)
        if starts.ndim != 1 or starts.shape != stops.shape:
            raise ValueError(f"stops: expected as many as starts, got shapes {starts.shape} and {stops.shape}")
        order = np.argsort(starts[starts < stops], kind="stable")
        starts, stops = starts[starts < stops][order], stops[starts < stops][order]
        if len(starts):
            reach = np.maximum.accumulate(stops)
            first = np.concatenate([[True], starts[1:] > reach[:-1]])
            starts, stops = starts[first], reach[np.concatenate([first[1:], [True]])]
        self.starts, self.stops = starts, stops

    @classmethod
    def of(cls, members: Int[np.ndarray, " n"]) -> IndexSet:
        """The set of these numbers."""
        members = np.asarray(members, dtype=np.int64)
        return cls(members, members + 1)

    def contains(self, numbers: Int[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
        """Which of `numbers` are in the set."""
        run = np.searchsorted(self.starts, numbers, side="right") - 1
        inside = np.append(self.stops, np.iinfo(np.int64).min)[run] > numbers  # run -1 is the one appended
        return np.asarray(inside)

    def take(self, places: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """The members at these places in ascending order, counted from 0 on."""
        past = np.cumsum(self.stops - self.starts)
        run = np.searchsorted(past, places, side="right")
        return np.asarray(self.stops[run] - past[run] + places)

    def mask(self, size: int) -> Bool[np.ndarray, " size"]:
        """`True` at the members, of the numbers below `size`."""
        change = np.zeros(size + 1, dtype=np.int8)
        change[self.starts] += 1
        change[self.stops] -= 1
        return np.asarray(np.cumsum(change[:-1], dtype=np.int8).astype(bool))

    def __len__(self) -> int:
        return int((self.stops - self.starts).sum())

    def __contains__(self, number: object) -> bool:
        return isinstance(number, (int, np.integer)) and bool(self.contains(np.asarray(number)))

    def __iter__(self) -> Iterator[int]:
        for start, stop in zip(self.starts.tolist(), self.stops.tolist(), strict=True):
            yield from range(start, stop)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        parts = [np.arange(start, stop) for start, stop in zip(self.starts, self.stops, strict=True)]
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts]).astype(dtype or np.int64)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IndexSet):
            return NotImplemented
        return np.array_equal(self.starts, other.starts) and np.array_equal(self.stops, other.stops)

    def __hash__(self) -> int:
        return hash((self.starts.tobytes(), self.stops.tobytes()))

    def __repr__(self) -> str:
        return f"IndexSet({len(self)} numbers in {len(self.starts)} runs)"
