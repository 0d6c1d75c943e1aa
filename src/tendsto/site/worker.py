"""The process that runs one claim: `python -m tendsto.site.worker FOLDER PARENT SLUG CLAIM BUDGET SEED`."""

from __future__ import annotations

import sys

from tendsto.evidence import Budget, Store, check
from tendsto.papers import catalogue
from tendsto.workers import end_with, one_thread


def main(folder: str, parent: str, slug: str, name: str, budget: str, seed: str) -> None:
    """Check the claim and keep its verdict in the store, as `tendsto check --fresh` does."""
    end_with(int(parent))
    one_thread()
    claim = catalogue()[slug].claims[name]
    (verdict,) = check([claim], Budget(budget, int(seed)), store=Store(folder), resume=False)  # type: ignore[arg-type]
    print(verdict.verdict)


if __name__ == "__main__":
    main(*sys.argv[1:])
