"""A paper whose words would run if the page let them: <script>alert("summary")</script> & more.

Even $\\text{<script>alert("math")</script>}$ and $\\href{javascript:alert(1)}{x}$ stay quiet.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tendsto.evidence import Budget, Check, Estimate, Finding, Paper, at_most, claim

_EVIL = '<script src="http://evil.example/x.js">alert(1)</script>'

CARD = Paper(
    slug="toy-hostile",
    title=f"Hostile {_EVIL}",
    authors=(f"Mallory {_EVIL}",),
    arxiv='"><script>alert(2)</script>',
    date=date(2024, 2, 3),
    field="optimize",
    method=("evidence.Estimate",),
)


@claim(statement=f"It says {_EVIL} and $x < y$ and $\\frac{{1}}", source=_EVIL, evidence="measured")
def words_stay_words(budget: Budget) -> Finding:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1])
    axes.set_title(_EVIL)
    return Finding(
        [
            Check(_EVIL, at_most(np.inf), Estimate.exact(0.0)),
            Check("a wide interval", at_most(10), Estimate(5, -np.inf, 6, _EVIL)),
        ],
        tables={_EVIL: pd.DataFrame({_EVIL: [_EVIL, None], "number": [np.nan, np.inf]})},
        figures={_EVIL: figure},
        note=_EVIL,
    )


@words_stay_words.control
def nothing_is_measured(budget: Budget) -> Finding:
    """<b onclick="alert(3)">bold</b>."""
    return Finding([Check("nothing", at_most(1), Estimate.exact(np.nan))])
