"""What the benchmarks share: contenders take turns in one process, and rows print as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

Row = Mapping[str, object]


def options(doc: str | None) -> argparse.Namespace:
    """`--quick` and `--json` from the command line; 64-bit floats, since benchmarks compare equal work."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of tables")
    jax.config.update("jax_enable_x64", True)
    return parser.parse_args()


def seconds(call: Callable[..., object], *arguments: object) -> float:
    """The wall time of one call."""
    began = time.perf_counter()
    jax.block_until_ready(call(*arguments))
    return time.perf_counter() - began


def turns(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """The times of each contender over `rounds` rounds in which all of them take a turn, after one turn uncounted."""
    for call in contenders.values():
        seconds(call)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            times[name].append(seconds(call))
    return {name: np.array(each) for name, each in times.items()}


def ratios(times: Mapping[str, np.ndarray], ours: str = "tendsto") -> dict[str, tuple[float, float, float]]:
    """Median, smallest and largest time of each peer over our time of the same round; above 1, ours is faster."""
    return {
        name: tuple(float(statistic(each / times[ours])) for statistic in (np.median, np.min, np.max))
        for name, each in times.items()
        if name != ours
    }


def spread(ratio: tuple[float, float, float]) -> str:
    """A ratio as `median [smallest, largest]`."""
    median, smallest, largest = (f"{each:.1f}" if each >= 1.0 else f"{each:.2g}" for each in ratio)
    return f"{median} [{smallest}, {largest}]"


def show(title: str, rows: Iterable[Row], *, as_json: bool) -> None:
    """Print rows that share their keys."""
    rows = list(rows)
    if as_json:
        for row in rows:
            print(json.dumps({"benchmark": title, **row}))
        return
    table = Table(title=title, padding=(0, 1), box=None)
    for column in rows[0]:
        table.add_column(column.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    # A file has no width of its own, and the 80 columns that Rich takes for it break the numbers.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return spread(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
